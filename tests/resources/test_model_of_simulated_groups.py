"""The prediction against the simulator, which shares no formula with it: its sky is summed and averaged on its own.

Raw files without noise, gains or interference, converted, must be the prediction from the written catalogue.
"""

from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.science.instrument import RAW_GAIN
from dsa110_assets.science.model import ModelPredictor
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.conversion import convert_group
from dsa110_resources.measurement_set import read_column, read_layout
from dsa110_resources.telescope import simulate

PERFECT = InstrumentOptions(
    sefd_jy=0.0, gains=False, rogue_delays_ns=(), n_dead_antennas=0, n_dead_receptors=0, rfi=False,
    flux_drift_day=0.0, flux_drift_group=0.0, amplitude_drift=0.0, phase_drift_deg=0.0,
)  # fmt: skip
SKY = SkyOptions(density_per_deg2=3.0, flickering_fraction=0.0)


@pytest.mark.parametrize(
    ("start", "dec_deg"),
    [("transit:2253+161", None), ("2026-01-26T00:35:00", 71.6), ("2026-01-25T23:33:00", 40.0)],
    ids=["calibrator", "far-north", "near-zenith"],
)
def test_converted_data_equal_the_prediction(tmp_path: Path, start: str, dec_deg: float | None) -> None:
    observed = simulate(
        SimulationOptions(start=start, dec_deg=dec_deg, sky=SKY, instrument=PERFECT, seed=5), tmp_path / "raw"
    )
    ms = tmp_path / "group.ms"
    convert_group(observed.groups[0][1], ms)
    layout = read_layout(ms)
    data = read_column(layout, "DATA") / RAW_GAIN**2
    components = read_component_catalogue(observed.catalogue_path)
    model = ModelPredictor.from_layout(components, layout).predict()
    plain = ModelPredictor.from_layout(components, layout, smearing=False).predict()
    cross = ~layout.autocorrelations
    scale = np.sqrt(np.mean(np.abs(model[:, cross]) ** 2))
    for polarization in range(2):
        error = np.abs(data[:, cross][..., polarization] - model[:, cross])
        assert np.sqrt(np.mean(error**2)) < 1e-3 * scale
        # without smearing it would not do: the test sees it
        blunt = np.abs(data[:, cross][..., polarization] - plain[:, cross])
        assert np.sqrt(np.mean(error**2)) < 0.1 * np.sqrt(np.mean(blunt**2))
