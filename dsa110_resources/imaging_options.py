"""Options, tiers, paths and reports of imaging: what every imager is told and what it tells."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dsa110_resources.errors import PermanentError

ImagerName = Literal["auto", "wsclean", "native", "tclean"]
TierName = Literal["quicklook", "development", "standard", "high_precision"]
Seed = Literal["calibrator_first", "catalogue", "none"]
Mask = Literal["auto", "catalogue"]


class ImagingDivergedError(PermanentError):
    """CLEAN made the image worse: the rms after it exceeds the rms before it, or is not finite."""


class Tier(BaseModel, frozen=True):
    """How deep and how large a tile is imaged."""

    min_primary_beam: float
    """Edge of the field: primary beam power there (0-1)."""
    max_pixels: int
    """Cap on either side of the image, pixels."""
    pixels_per_beam: float
    """Pixels across the narrowest half-power width of the synthesized beam."""
    max_smearing: float
    """Greatest amplitude loss (0-1) by channel averaging on the longest baseline at the half-power radius."""
    accuracy: float
    """Relative accuracy of gridding."""
    niter: int
    """Most CLEAN components; 0: no CLEAN, the catalogue is subtracted and restored."""
    auto_mask: float
    """CLEAN until this many rms with a growing mask ..."""
    auto_threshold: float
    """... then within the mask down to this many rms."""
    mgain: float
    """Fraction of the peak cleaned before the visibilities are subtracted again."""
    timeout_s: float
    """Time after which an external imager is stopped, s."""


_TIER_NUMBERS: dict[TierName, tuple[float, int, float, float, float, int, float, float, float, float]] = {
    # edge of the field, cap, pixels per beam, smearing, accuracy, niter, auto-mask, auto-threshold, mgain, time-out
    "quicklook": (0.5, 2304, 3.0, 0.25, 1e-3, 0, 6.0, 3.0, 0.9, 120.0),
    "development": (0.3, 3072, 3.0, 0.08, 1e-3, 2_000, 5.0, 3.0, 0.9, 300.0),
    "standard": (0.1, 6144, 4.5, 0.08, 1e-4, 20_000, 5.0, 3.0, 0.8, 900.0),
    "high_precision": (0.1, 8192, 4.5, 0.02, 1e-5, 100_000, 4.0, 1.0, 0.7, 3600.0),
}
TIERS: dict[TierName, Tier] = {
    name: Tier.model_validate(dict(zip(Tier.model_fields, numbers, strict=True)))
    for name, numbers in _TIER_NUMBERS.items()
}
"""The numbers of every tier, in one table."""


class ImagingOptions(BaseModel):
    """What is asked of an imager."""

    model_config = ConfigDict(frozen=True)

    tier: TierName = "standard"
    """Depth and size, see :data:`TIERS`."""
    imager: ImagerName = "auto"
    """``auto``: wsclean if installed, else native."""
    weighting: Literal["natural", "uniform", "briggs"] = "briggs"
    robust: float = Field(default=0.5, ge=-2.0, le=2.0)
    """Briggs robustness: -2 (uniform) to 2 (natural)."""
    cell_arcsec: float | None = Field(default=None, gt=0)
    """Pixel size, arcsec; None: from the measured PSF and the tier."""
    size_pixels: tuple[int, int] | None = None
    """(nx, ny), both even; None: from the primary beam, the drift and the tier."""
    channel_factor: int | None = Field(default=None, ge=1)
    """Channels averaged before imaging; None: by the tier's smearing limit."""
    min_uv_lambda: float = Field(default=0.0, ge=0)
    """Shortest baseline used, wavelengths of each channel; 0: all."""
    niter: int | None = Field(default=None, ge=0)
    """CLEAN components at most; None: the tier's."""
    seed: Seed = "calibrator_first"
    """Components subtracted before and restored after an external CLEAN: a calibrator in the field if there is one
    (``seed_calibrator_jy`` apparent), else the catalogue."""
    seed_min_mjy: float = Field(default=10.0, ge=0)
    """Faintest catalogue source that seeds the model, mJy."""
    seed_calibrator_jy: float = Field(default=1.0, gt=0)
    """Apparent flux density that makes a source in the field a calibrator, Jy."""
    mask: Mask = "auto"
    """``auto``: from the image as it is cleaned; ``catalogue``: circles about the catalogue sources."""
    mask_radius_arcsec: float = Field(default=60.0, gt=0)
    """Radius of the circles of ``mask='catalogue'``, arcsec."""
    mask_min_mjy: float = Field(default=5.0, ge=0)
    """Faintest catalogue source in ``mask='catalogue'``, mJy."""
    pb_cut: float = Field(default=0.1, gt=0, lt=1)
    """Primary beam power below which corrected images are blank."""
    divergence_ratio: float = Field(default=2.0, gt=1)
    """rms after CLEAN over rms before it that counts as divergence."""
    n_threads: int = Field(default=0, ge=0)
    """Threads of an external imager; 0: all processors."""

    @property
    def numbers(self) -> Tier:
        """The tier's numbers, with those given here instead of its own."""
        tier = TIERS[self.tier]
        return tier if self.niter is None else tier.model_copy(update={"niter": self.niter})


class ImagePaths(BaseModel, frozen=True):
    """Where the products of one image go."""

    image: Path
    """Restored image, apparent Jy/beam."""
    primary_beam: Path
    """Primary beam power averaged over drift and weight."""
    pbcor: Path
    """Image over primary beam, blank below the cut."""
    residual: Path
    """What is left after model and CLEAN components."""
    rms: Path
    """Local rms, Jy/beam."""
    model: Path
    """Components on their nearest pixels, apparent Jy per pixel."""
    psf: Path | None = None
    """Point spread function; None: not written."""
    thumbnail: Path | None = None
    """PNG preview; None: not written."""

    @classmethod
    def beside(cls, image: Path, *, thumbnail: Path | None = None, psf: Path | None = None) -> "ImagePaths":
        """The archive's names: ``GROUP.fits``, ``GROUP-pb.fits``, ``GROUP-pbcor.fits`` and so on."""
        names = {
            kind: image.with_name(f"{image.stem}-{kind}.fits") for kind in ("pb", "pbcor", "residual", "rms", "model")
        }
        return cls(
            image=image,
            primary_beam=names["pb"],
            pbcor=names["pbcor"],
            residual=names["residual"],
            rms=names["rms"],
            model=names["model"],
            psf=psf,
            thumbnail=thumbnail,
        )


class Provenance(BaseModel, frozen=True):
    """Where an image comes from: what its header says besides what the imager knows."""

    object_name: str = ""
    """Group or mosaic id; empty: the Measurement Set's group id."""
    run_id: str = ""
    """Dagster run id."""
    git_commit: str = ""
    """Commit of this code."""
    bandpass_table: str = ""
    """Name of the BP table applied."""
    bandpass_age_h: float | None = None
    """Hours from its solution to the observation."""
    gain_table: str = ""
    """Name of the G table applied."""
    gain_age_h: float | None = None
    """Hours from its solution to the observation."""
    catalogue: str = ""
    """Name and version of the component catalogue."""


class ImagingReport(BaseModel, frozen=True):
    """What an imager made."""

    imager: str
    """Which one: ``wsclean``, ``native`` or ``tclean``."""
    tier: str
    """Which tier."""
    rms_jyb: float
    """Median of the local rms where the primary beam exceeds one half, Jy/beam."""
    thermal_jyb: float
    """Noise expected from the SEFD and the weights, Jy/beam."""
    thermal_ratio: float
    """rms over thermal."""
    peak_jyb: float
    """Brightest pixel of the apparent image, Jy/beam."""
    dynamic_range: float
    """Peak over rms."""
    beam_arcsec: tuple[float, float]
    """FWHM of the restoring beam, arcsec."""
    beam_pa_deg: float
    """Position angle of the restoring beam, deg east of north."""
    cell_arcsec: float
    """Pixel size, arcsec."""
    size_pixels: tuple[int, int]
    """(nx, ny)."""
    frequency_hz: float
    """Effective frequency, Hz."""
    bandwidth_hz: float
    """Width of the band with data, Hz."""
    channel_factor: int
    """Channels averaged before imaging."""
    flagged_fraction: float
    """Samples flagged (0-1)."""
    n_seeded: int
    """Components subtracted and restored."""
    n_clean_components: int
    """CLEAN components found on top of them."""
    seconds: dict[str, float] = {}
    """Wall-clock seconds of every step."""
