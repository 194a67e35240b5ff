"""A simulated evening and the settings to process it with."""

from dataclasses import dataclass
from pathlib import Path

from dsa110_assets.cli.headless import HeadlessRunner, ProcessingReport
from dsa110_resources.settings import Settings, load_settings
from dsa110_resources.telescope import SimulatedObservation

START = "transit:2253+161@2026-01-25"


@dataclass(frozen=True)
class Evening:
    """What was simulated and what became of it."""

    observation: SimulatedObservation
    incoming: Path
    settings: Settings
    runner: HeadlessRunner
    report: ProcessingReport

    @property
    def root(self) -> Path:
        return self.settings.data_root


def settings_for(root: Path, incoming: Path, **options: object) -> Settings:
    values = {"imager": "native", "imaging_tier": "quicklook", "catalogue": incoming / "catalogue.csv"}
    return load_settings({}, data_root=root, incoming=incoming, **(values | options))
