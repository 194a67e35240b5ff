"""Options of the gain solves: saved with every table, and the Dagster config of the assets that make them."""

from typing import Literal

from pydantic import BaseModel, Field


class BandpassOptions(BaseModel, frozen=True):
    """How a bandpass (and the delay and pre-bandpass phase with it) is solved."""

    preset: Literal["full", "fast"] = "full"
    """``fast`` averages data and model in time and channel before the solve (its error is tested)."""
    prebp_solint_s: float = Field(30.0, gt=0)
    """Length of the phase-only solution that keeps the data coherent, seconds; it is never applied to targets."""
    prebp_minsnr: float = Field(3.0, ge=0)
    """Phase solutions below this SNR leave the antenna out of that interval."""
    minsnr: float = Field(3.0, ge=0)
    """Channel solutions below this SNR are flagged (3 to 5)."""
    min_baselines: int = Field(4, ge=2)
    """An antenna with unflagged data on fewer baselines in a channel is flagged there."""
    uvrange: str = ""
    """Baselines used: '' all, or like '>1klambda', '<500m', '0.2~5klambda'."""
    refant: str | None = None
    """Wanted phase reference; None, or one without solutions, means the best by data."""
    fill_gaps: int = Field(3, ge=0)
    """Runs of at most this many flagged channels are interpolated from their neighbours (0: none)."""
    gain_calmode: Literal["p", "ap"] = "ap"
    """Of the gain table of the calibrator group itself, where one is asked for (``gpcal``)."""
    apply_delay: bool = False
    """Take the delays out of the bandpass: K must then be applied with it. Off: K is solved for quality only."""
    dead_amplitude_ratio: float = Field(0.1, ge=0, lt=1)
    """A receptor whose median amplitude is below this fraction of the array's is dead and flagged."""
    dead_flagged_fraction: float = Field(0.8, gt=0, le=1)
    """A receptor that fails in more than this fraction of the channels the array solves is dead and flagged."""
    fast_time_average: int = Field(2, ge=1)
    """Integrations averaged by ``fast``."""
    fast_channel_average: int = Field(4, ge=1)
    """Channels averaged by ``fast``."""
    block_integrations: int = Field(4, ge=1)
    """Integrations read at a time."""

    @property
    def averaging(self) -> tuple[int, int]:
        """(integrations, channels) averaged before the solve."""
        return (self.fast_time_average, self.fast_channel_average) if self.preset == "fast" else (1, 1)


class GainOptions(BaseModel, frozen=True):
    """How a gain table is solved with a bandpass applied."""

    preset: Literal["full", "fast"] = "full"
    """``fast`` averages data and model in time and channel and solves phases only."""
    calmode: Literal["p", "ap"] = "p"
    """``p`` on a sky model; ``ap`` on a calibrator: amplitude per antenna too, the array's median fixed to 1."""
    solint_s: float | None = Field(None, gt=0)
    """Solution interval, seconds; None combines all integrations."""
    minsnr: float = Field(3.0, ge=0)
    """Solutions below this SNR are flagged."""
    min_baselines: int = Field(4, ge=2)
    """An antenna with unflagged data on fewer baselines is flagged."""
    uvrange: str = ""
    """Baselines used: '' all, or like '>1klambda', '<500m', '0.2~5klambda'."""
    refant: str | None = None
    """Wanted phase reference; None means the bandpass's."""
    fast_time_average: int = Field(2, ge=1)
    """Integrations averaged by ``fast``."""
    fast_channel_average: int = Field(4, ge=1)
    """Channels averaged by ``fast``."""
    block_integrations: int = Field(4, ge=1)
    """Integrations read at a time."""

    @property
    def averaging(self) -> tuple[int, int]:
        """(integrations, channels) averaged before the solve."""
        return (self.fast_time_average, self.fast_channel_average) if self.preset == "fast" else (1, 1)

    @property
    def amplitudes(self) -> bool:
        """Whether amplitudes are solved for the table (``fast`` is phase-only)."""
        return self.calmode == "ap" and self.preset == "full"
