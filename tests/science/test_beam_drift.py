"""The drift-averaged primary beam against the plain sum that defines it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsa110_assets.science.beam import BeamDrift, airy_power, drift_averaged_power, map_primary_beam
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.imaging import ImageGeometry, beam_radius_deg, field_size_deg

FREQUENCIES = np.linspace(1.3115e9, 1.4985e9, 192)


def a_drift(n_time: int = 24, ra0: float = 0.1) -> BeamDrift:
    rng = np.random.default_rng(4)
    ra = (ra0 + (np.arange(n_time) - 0.5 * (n_time - 1)) * 0.0538) % 360.0
    return BeamDrift(ra, np.full(n_time, 16.2), FREQUENCIES, rng.uniform(0.5, 1.5, (n_time, len(FREQUENCIES))))


def plain_average(ra: float, dec: float, drift: BeamDrift, alpha: float = 0.0) -> float:
    total = 0.0
    mean_hz = np.sum(drift.weights * drift.frequencies_hz) / drift.weights.sum()
    for t in range(len(drift.ra_deg)):
        theta = np.radians(separation_deg(ra, dec, drift.ra_deg[t], drift.dec_deg[t]))
        spectrum = (drift.frequencies_hz / mean_hz) ** alpha
        total += float(np.sum(drift.weights[t] * spectrum * airy_power(theta, drift.frequencies_hz)))
    return total / float(drift.weights.sum())


@pytest.mark.parametrize(
    ("ra", "dec", "alpha"), [(0.1, 16.2, 0.0), (358.9, 16.9, 0.0), (1.9, 15.2, -0.7), (0.1, 18.2, -1.5)]
)
def test_power_is_the_weighted_mean(ra: float, dec: float, alpha: float) -> None:
    drift = a_drift()
    got = drift_averaged_power(ra, dec, drift, spectral_index=alpha)[0]
    assert got == pytest.approx(plain_average(ra, dec, drift, alpha), abs=2e-5)


def test_drift_widens_the_beam_in_right_ascension_and_lowers_the_centre() -> None:
    drift = a_drift()
    centre, east, north = drift_averaged_power(
        [0.1, 0.1 + 1.9 / np.cos(np.radians(16.2)), 0.1], [16.2, 16.2, 18.1], drift
    )
    still = airy_power(np.radians(1.9), drift.effective_frequency_hz)
    assert 0.93 < centre < 0.97  # 0.64 degrees either way at 2.7 degrees FWHM
    assert east > north
    assert east > still
    assert north < still


def test_one_pointing_at_one_frequency_is_the_airy_pattern() -> None:
    drift = BeamDrift(np.array([10.0]), np.array([40.0]), np.array([1.4e9]), np.ones((1, 1)))
    dec = 40.0 + np.linspace(0.0, 3.0, 7)
    expected = airy_power(np.radians(dec - 40.0), 1.4e9)
    assert_allclose(drift_averaged_power(np.full(7, 10.0), dec, drift), expected, atol=1e-12)


def test_map_agrees_with_the_positions_and_crosses_0h() -> None:
    drift = a_drift(8)
    geometry = ImageGeometry(nx=500, ny=420, cell_arcsec=40.0, ra_deg=0.1, dec_deg=16.2)
    beam = map_primary_beam(geometry.wcs(), (420, 500), drift)
    assert beam.shape == (420, 500)
    y, x = np.array([3, 210, 400, 200]), np.array([5, 250, 490, 60])
    ra, dec = geometry.wcs().wcs_pix2world(x, y, 0)
    assert_allclose(beam[y, x], drift_averaged_power(ra, dec, drift), atol=5e-6)


def test_flagged_channels_do_not_count() -> None:
    drift = a_drift()
    weights = drift.weights.copy()
    weights[:, :96] = 0.0
    upper = BeamDrift(drift.ra_deg, drift.dec_deg, FREQUENCIES, weights)
    assert upper.effective_frequency_hz > 1.44e9
    assert drift_averaged_power(0.1, 17.5, upper)[0] < drift_averaged_power(0.1, 17.5, drift)[0]


def test_weights_must_fit() -> None:
    with pytest.raises(ShapeError, match="expected"):
        BeamDrift(np.zeros(3), np.zeros(3), FREQUENCIES, np.ones((2, 192)))
    with pytest.raises(ShapeError, match="positive sum"):
        BeamDrift(np.zeros(1), np.zeros(1), np.array([1e9]), np.zeros((1, 1)))


@pytest.mark.parametrize("level", [0.5, 0.1])
def test_radius_inverts_the_pattern(level: float) -> None:
    assert airy_power(np.radians(beam_radius_deg(level, 1.405e9)), 1.405e9) == pytest.approx(level, abs=1e-9)


def test_field_covers_the_beam_and_the_drift() -> None:
    width, height = field_size_deg(min_primary_beam=0.1, frequency_hz=1.405e9, duration_s=309.2376, dec_deg=16.27)
    assert height == pytest.approx(2 * beam_radius_deg(0.1, 1.405e9))
    assert width - height == pytest.approx(309.2376 * 15.0411 / 3600 * np.cos(np.radians(16.27)), rel=1e-5)
    assert beam_radius_deg(0.5, 1.405e9) == pytest.approx(0.5 * 2.713, abs=0.01)
