"""What to simulate: frozen options with their units."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field


def _split_text(value: object) -> object:
    """``a,b`` of a command line as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split_text)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_split_text)]


class SkyOptions(BaseModel, frozen=True, extra="forbid"):
    """The true sky and how far the written catalogue departs from it."""

    density_per_deg2: float = Field(default=10.0, ge=0.0)
    """Field sources per square degree drawn from the NVSS counts (10: about 200 in a full group, > 21 mJy)."""
    radius_deg: float = Field(default=2.2, gt=0.0)
    """Sources farther than this from the meridian point's track are left out, degrees."""
    calibrator_min_jy: float = Field(default=0.7, gt=0.0)
    """Calibrators of the VLA list and of Perley & Butler 2017 above this flux density are on the sky, Jy."""
    calibrators: bool = True
    """Put the listed calibrators on the sky (never with a catalogue file, which is the whole sky)."""
    n_lensed: int | None = Field(default=None, ge=0)
    """Field sources that a plasma lens crosses, the brightest within the half-power beam first; None: 1 if the
    campaign lasts 20 days or more (an event needs weeks), else 0."""
    lensed: Names = ()
    """Names of sources to lens besides."""
    lens_strength: float = Field(default=5.0, gt=0.0)
    """Clegg, Fey & Lazio's alpha at 1.405 GHz, proportional to nu^-2."""
    lens_crossing_days: float = Field(default=40.0, gt=0.0)
    """Time that the lens' 1/e half width takes to cross the line of sight, days."""
    lens_source_fwhm: float = Field(default=0.3, ge=0.0)
    """FWHM of the source profile in units of the lens."""
    lens_mid_mjd: float | None = None
    """MJD of the middle of the lensing event; None: the middle of the simulated span."""
    flickering_fraction: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the field sources with refractive scintillation (time scales of 5-50 days)."""
    flicker_modulation: float = Field(default=0.08, ge=0.0)
    """rms of ln S of a flickering source at 1.405 GHz."""
    blazar_modulation: float = Field(default=0.0, ge=0.0)
    """rms of ln S of the VLA-list calibrators over months (they are blazars); 0: steady."""
    catalogue_position_error_arcsec: float = Field(default=0.0, ge=0.0)
    """rms per coordinate of catalogue minus true position of field sources, arcsec."""
    catalogue_flux_error: float = Field(default=0.0, ge=0.0)
    """rms fractional error of the catalogue's field fluxes (log-normal)."""
    uncatalogued_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the field sources missing from the written catalogue."""


class InstrumentOptions(BaseModel, frozen=True, extra="forbid"):
    """The imperfect telescope; every term can be switched off by its 0 or False."""

    sefd_jy: float = Field(default=6500.0, ge=0.0)
    """System equivalent flux density of a receptor, Jy; 0: no noise."""
    gains: bool = True
    """False: every gain is RAW_GAIN, without phase, delay, bandpass or drift."""
    gain_spread: float = Field(default=0.3, ge=0.0)
    """rms of ln |g| over the receptors."""
    phase_drift_deg: float = Field(default=20.0, ge=0.0)
    """rms of the slow phase drift of a receptor (periods of 2-30 h), degrees."""
    amplitude_drift: float = Field(default=0.02, ge=0.0)
    """rms of ln |g| in time of a receptor (periods of 4-30 h)."""
    bandpass_amplitude: float = Field(default=0.04, ge=0.0)
    """rms of ln |B| over the band."""
    bandpass_phase_deg: float = Field(default=8.0, ge=0.0)
    """rms of the bandpass phase over the band, degrees."""
    delay_ns: float = Field(default=5.0, ge=0.0)
    """rms residual delay of the antennas, ns."""
    delay_xy_ns: float = Field(default=1.5, ge=0.0)
    """rms delay between the polarisations, ns."""
    rogue_delays_ns: Numbers = (-199.0,)
    """Delays of as many antennas that were set up wrongly, ns."""
    flux_drift_day: float = Field(default=0.02, ge=0.0)
    """rms of the array-wide flux scale over days (periods of 2-20 d)."""
    flux_drift_group: float = Field(default=0.003, ge=0.0)
    """rms of the array-wide flux scale over hours (periods of 1-6 h)."""
    n_dead_antennas: int = Field(default=1, ge=0)
    """Antennas dead in both polarisations."""
    n_dead_receptors: int = Field(default=1, ge=0)
    """Further antennas dead in one polarisation."""
    rfi: bool = True
    """Array-wide narrow-band tones (GPS L3 and the site's lines) and weak baseline-local ones."""
    rfi_scale: float = Field(default=1.0, ge=0.0)
    """Multiplies all RFI amplitudes."""
    beam_width_factor: float = Field(default=1.0, gt=0.0)
    """True primary beam width over the modelled one (1.03: 3 % wider than everyone believes)."""


class SimulationOptions(BaseModel, frozen=True, extra="forbid"):
    """One observing campaign."""

    array: Literal["full", "small"] = "small"
    """Array configuration (see :mod:`dsa110_assets.science.instrument`)."""
    start: str = "transit:2253+161"
    """UTC of the first group (ISO 8601) or ``transit:NAME[@YYYY-MM-DD]``: NAME transits amid the first group."""
    dec_deg: float | None = Field(default=None, gt=-50.0, lt=90.0)
    """Apparent declination of the meridian pointing, degrees; None: that of the transiting source."""
    n_groups: int = Field(default=1, ge=1)
    """Consecutive groups a day."""
    n_days: int = Field(default=1, ge=1)
    """The same sidereal time on so many days."""
    restart_cadence: bool = False
    """True: the correlator restarts every 3801 s (11 groups a cycle), as the real one does."""
    name_skew: bool = True
    """True: the file names of a group differ as measured; False: all alike."""
    catalogue: Path | None = None
    """Catalogue CSV that is the whole sky; None: a sky from the NVSS counts with the known calibrators."""
    faults: Names = ()
    """Failures by name, ``NAME[:GROUP[:SUBBAND]]`` (see :mod:`dsa110_resources.faults`)."""
    seed: int = Field(default=1, ge=0)
    """Everything random follows from it: sky, gains, noise, RFI, faults."""
    sky: SkyOptions = SkyOptions()
    instrument: InstrumentOptions = InstrumentOptions()
