"""The one resource the assets use: settings, archive and operations database of this deployment."""

from functools import cached_property

import dagster as dg

from dsa110_resources.archive import Archive
from dsa110_resources.operations import OperationsStore
from dsa110_resources.settings import Settings


class Platform(dg.ConfigurableResource):
    """Settings, archive and operations database, made once per process from validated settings."""

    settings_json: str

    @classmethod
    def from_settings(cls, settings: Settings) -> "Platform":
        """Bind a deployment's settings."""
        return cls(settings_json=settings.model_dump_json())

    @cached_property
    def settings(self) -> Settings:
        """The validated settings."""
        return Settings.model_validate_json(self.settings_json)

    @cached_property
    def archive(self) -> Archive:
        """Paths of every product."""
        return Archive(root=self.settings.data_root.absolute(), state=self.settings.state_dir.absolute())

    @cached_property
    def operations(self) -> OperationsStore:
        """Ledger, calibration registry, alerts and triage; its schema is brought up to date once."""
        self.settings.state_dir.mkdir(parents=True, exist_ok=True)
        store = OperationsStore(self.settings.database_url)
        store.migrate()
        return store
