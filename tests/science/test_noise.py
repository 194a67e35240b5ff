"""Noise: the radiometer equation against DSA-110's numbers, robust scatter against the Gaussian."""

import numpy as np
import pytest

from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.noise import image_rms, robust_rms, thermal_rms


def test_one_visibility_and_one_full_group() -> None:
    one = thermal_rms(6500.0, 1, 244140.625, integration_s=12.884902, n_polarizations=1)
    assert one == pytest.approx(2.59, abs=0.005)
    group = thermal_rms(6500.0, 96 * 95 // 2, 244140.625, integration_s=12.884902, n_channels=768, n_integrations=24)
    assert group == pytest.approx(0.20e-3, rel=0.005)
    assert group == pytest.approx(one / np.sqrt(4560 * 768 * 24 * 2), rel=1e-12)


@pytest.mark.parametrize("wrong", [{"n_baselines": 0}, {"sefd_jy": 0.0}, {"channel_width_hz": -1.0}])
def test_impossible_arguments_are_refused(wrong: dict[str, float]) -> None:
    arguments = {"sefd_jy": 6500.0, "n_baselines": 10, "channel_width_hz": 1e5} | wrong
    with pytest.raises(ScienceError):
        thermal_rms(**arguments, integration_s=10.0)  # type: ignore[arg-type]


def test_robust_rms_ignores_outliers_and_unknown_values() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 200_000)
    values[:2000] = 1e6
    values[2000:4000] = np.nan
    assert float(robust_rms(values)) == pytest.approx(2.0, rel=0.02)
    assert float(robust_rms([1.0, 2.0, 4.0])) == pytest.approx(1.482602218505602)
    by_row = robust_rms(np.stack([values, np.full_like(values, np.nan)]), axis=1)
    assert by_row[0] == pytest.approx(float(robust_rms(values)))
    assert np.isnan(by_row[1])
    assert np.isnan(robust_rms([np.nan, np.inf]))
    assert np.isnan(image_rms(np.full((9, 9), np.nan)))
