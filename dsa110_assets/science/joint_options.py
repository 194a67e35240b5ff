"""How the joint solve works, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    import pandas as pd

    from dsa110_assets.science.components import Components
    from dsa110_assets.science.residual import ResidualImage


class JointOptions(BaseModel, frozen=True):
    """Settings of the joint solve on catalogue-subtracted residuals."""

    max_rounds: int = Field(default=4, ge=1)
    """Solves at most; each after the first costs a prediction and a dirty image. 1 with positions held is one constant
    PSF reading."""
    tolerance_sigma: float = Field(default=0.1, gt=0)
    """Rounds end when no flux and no position changes by more than this many of its own sigma."""
    position_snr: float = Field(default=20.0, gt=0)
    """Sources at least this bright, in units of the residual's rms, get position terms."""
    position_error_arcsec: float = Field(default=1.0, ge=0)
    """Catalogue position error per axis at the bright end, arcsec; 0 with ``position_error_jy_arcsec`` 0: held."""
    position_error_jy_arcsec: float = Field(default=0.010, ge=0)
    """Added in quadrature divided by the flux in Jy: 0.010 is NVSS (45 arcsec beam, 0.45 mJy/beam; Condon+98)."""
    max_shift_pixels: float = Field(default=1.0, gt=0)
    """Largest shift per round and axis, pixels: beyond it the linear system is not to be trusted."""
    blend_beams: float = Field(default=0.5, ge=0)
    """Components closer than this, in BMAJ, are solved as one."""
    min_primary_beam: float = Field(default=0.1, ge=0, lt=1)
    """Sources with less primary-beam response are subtracted as catalogued, and not solved."""
    low_primary_beam: float = Field(default=0.25, ge=0, lt=1)
    """Sources with less response are flagged ``LOW_PRIMARY_BEAM``."""
    find_new_sources: bool = True
    """Add what stands out of the residual after the first round."""
    new_source_snr: float = Field(default=5.5, ge=4)
    """Peak over local rms from which a new source is believed."""
    new_source_spectral_index: float = -0.7
    """alpha given to new sources."""
    max_new_sources: int = Field(default=300, ge=0)
    """More than this in one image is taken for a bad image: the brightest are kept and a warning is logged."""


@dataclass(frozen=True)
class JointResult:
    """What a joint solve found.

    Attributes
    ----------
    table : DataFrame
        One row per component, catalogue order, new sources last: source_id, ra_deg, dec_deg (as measured),
        catalog_flux_jy (at ``frequency_hz``), apparent_jyb, apparent_err_jyb, flux_jy, err_stat_jyb (primary-beam
        corrected), snr, pb_response, shift_ra_arcsec, shift_dec_arcsec (fitted minus catalogue, RA times cos Dec),
        shift_ra_err_arcsec, shift_dec_err_arcsec, flags, blended_with, chi2, dof, local_rms_jyb.
    components : Components
        The corrected list, with new sources.
    residual : ResidualImage
        The last residual image (of the list before the last correction).
    rms_jyb : float
        Robust rms of that image, Jy/beam.
    rounds : int
        Solves made.
    converged : bool
        Whether the last one changed nothing by more than the tolerance.
    condition_number : float
        Of H's PSF matrix.
    n_new : int
        Sources found in the residual.
    """

    table: pd.DataFrame
    components: Components
    residual: ResidualImage
    rms_jyb: float
    rounds: int
    converged: bool
    condition_number: float
    n_new: int
