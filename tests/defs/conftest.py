"""A simulated evening, processed once for all tests of the assets."""

import pytest
from simulated_evening import START, Evening, settings_for

from dsa110_assets.cli.headless import HeadlessRunner
from dsa110_assets.science.simulation_options import SimulationOptions
from dsa110_resources.telescope import simulate


@pytest.fixture(scope="session")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    """A calibrator group and one science group of the small array, with gains, noise, RFI and dead receptors."""
    root = tmp_path_factory.mktemp("evening")
    incoming = root / "incoming"
    incoming.mkdir()
    observation = simulate(SimulationOptions(array="small", start=START, n_groups=2, seed=7), incoming)
    settings = settings_for(root / "data", incoming)
    runner = HeadlessRunner(settings)
    report = runner.process(incoming)
    return Evening(observation, incoming, settings, runner, report)
