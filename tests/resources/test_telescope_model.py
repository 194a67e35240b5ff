"""Two independent ways from a sky to visibilities: the simulator's sub-sampled direct sum, and the pipeline's model."""

import numpy as np
import pytest

from dsa110_assets.science.model import ModelPredictor
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.conversion import convert_group
from dsa110_resources.measurement_set import read_column, read_layout
from dsa110_resources.telescope import simulate

PERFECT = InstrumentOptions(
    gains=False, sefd_jy=0.0, rfi=False, n_dead_antennas=0, n_dead_receptors=0, rogue_delays_ns=()
)


@pytest.mark.parametrize(
    ("start", "dec_deg"),
    [("2026-01-25T23:40:00", 16.27), ("transit:1459+716", None)],
    ids=["a field that crosses 0h", "a calibrator at Dec 71.7"],
)
def test_predicted_model_equals_the_simulated_sky(tmp_path, start, dec_deg):
    """Through raw files and Measurement Set: conjugation, uvw, phase centre, beam, drift and smearing agree."""
    options = SimulationOptions(
        start=start, dec_deg=dec_deg, instrument=PERFECT, sky=SkyOptions(flickering_fraction=0.0)
    )
    observation = simulate(options, tmp_path / "raw")
    convert_group(observation.groups[0][1], tmp_path / "group.ms", partition="test")
    layout = read_layout(tmp_path / "group.ms")
    catalogue = read_component_catalogue(observation.catalogue_path)
    model = ModelPredictor.from_layout(catalogue, layout).predict(slice(None), slice(None))
    data = read_column(tmp_path / "group.ms", "DATA") / 0.067**2
    cross = layout.antenna1 != layout.antenna2
    for polarization in range(2):
        difference = data[..., polarization][:, cross] - model[:, cross]
        rms = np.sqrt(np.mean(np.abs(data[:, cross]) ** 2))
        assert rms > 1.0
        assert np.sqrt(np.mean(np.abs(difference) ** 2)) < 1e-3 * rms
        assert np.abs(difference).max() < 1e-2 * rms
