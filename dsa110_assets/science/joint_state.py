"""What the joint solve knows of its sources between rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import ShapeError

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from dsa110_assets.science.joint_options import JointOptions
    from dsa110_assets.science.residual import ResidualImage

Floats = npt.NDArray[np.float64]


def rescale(components: Components, flux_jy: Floats, frequency_hz: float) -> Components:
    """The same sources with other flux densities (n,) at a frequency; reference frequency and spectrum stay."""
    unit = components.with_flux(np.ones(len(components))).flux_at(frequency_hz)[:, 0]
    present = components.flux_jy * unit
    return components.with_flux(np.where(flux_jy == present, components.flux_jy, flux_jy / unit))


@dataclass(frozen=True)
class Sources:
    """Every component, catalogue order, new ones last.

    Attributes
    ----------
    listed : Components
        As given; new sources where they were found.
    flux_jy : (n,) float
        Present flux density at the image's frequency, Jy.
    shift : (2, n) float
        Present position minus the listed one, pixels (x, y).
    prior_pixels : (n,) float
        Standard deviation of that shift per axis, pixels; 0 holds the position.
    is_new : (n,) bool
        Found in a residual.
    may_move : (n,) bool
        Gets position terms when it is bright enough.
    """

    listed: Components
    flux_jy: Floats
    shift: Floats
    prior_pixels: Floats
    is_new: npt.NDArray[np.bool_]
    may_move: npt.NDArray[np.bool_]

    @classmethod
    def start(
        cls,
        components: Components,
        residual: ResidualImage,
        options: JointOptions,
        position_error_arcsec: npt.ArrayLike | None,
    ) -> Sources:
        """The catalogue as it is, with its position errors (or those of the options)."""
        n = len(components)
        flux = components.flux_at(residual.frequency_hz)[:, 0]
        if position_error_arcsec is None:
            faint = options.position_error_jy_arcsec / np.maximum(np.abs(flux), 1e-9)
            error = np.minimum(np.hypot(options.position_error_arcsec, faint), 3600.0 * residual.beam[0])
        else:
            error = np.asarray(position_error_arcsec, dtype=np.float64)
            if error.shape not in ((), (n,)):
                raise ShapeError(f"position_error_arcsec has shape {error.shape}, expected ({n},)")
        prior = np.broadcast_to(error / 3600.0 / residual.cell_deg, (n,)).astype(np.float64)
        return cls(components, flux, np.zeros((2, n)), prior, np.zeros(n, np.bool_), prior > 0.0)

    def __len__(self) -> int:
        return len(self.listed)

    def present(self, wcs: WCS) -> Components:
        """The list with present positions (fluxes as listed)."""
        moved = np.any(self.shift != 0, axis=0)
        ra, dec = self.listed.ra_deg.copy(), self.listed.dec_deg.copy()
        if moved.any():
            x, y = wcs.wcs_world2pix(ra[moved], dec[moved], 0)
            ra[moved], dec[moved] = wcs.wcs_pix2world(x + self.shift[0, moved], y + self.shift[1, moved], 0)
        return replace(self.listed, ra_deg=ra, dec_deg=dec)

    def to_subtract(self, residual: ResidualImage) -> Components:
        """The list with present positions and fluxes, negative ones as 0: noise is not subtracted."""
        return rescale(self.present(residual.wcs), np.maximum(self.flux_jy, 0.0), residual.frequency_hz)

    def extended(self, found: Components, residual: ResidualImage) -> Sources:
        """With new sources at the end, their positions known to half the beam's minor axis."""
        n = len(found)
        prior = np.full(n, 0.5 * residual.beam[1] / residual.cell_deg)
        return Sources(
            concatenate([self.listed, found]),
            np.concatenate([self.flux_jy, found.flux_at(residual.frequency_hz)[:, 0]]),
            np.concatenate([self.shift, np.zeros((2, n))], axis=1),
            np.concatenate([self.prior_pixels, prior]),
            np.concatenate([self.is_new, np.ones(n, np.bool_)]),
            np.concatenate([self.may_move, np.ones(n, np.bool_)]),
        )

    def select(self, mask: npt.NDArray[np.bool_]) -> Sources:
        """The sources of a mask."""
        return Sources(
            self.listed.select(mask),
            self.flux_jy[mask],
            self.shift[:, mask],
            self.prior_pixels[mask],
            self.is_new[mask],
            self.may_move[mask],
        )

    def settled(self) -> Sources:
        """The same, where only what has moved may move."""
        return replace(self, may_move=self.may_move & np.any(self.shift != 0, axis=0))
