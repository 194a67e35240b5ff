"""The residual image: what is left of a tile when the catalogue is subtracted, with all that its photometry needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dsa110_assets.science.errors import ShapeError

if TYPE_CHECKING:
    from astropy.wcs import WCS
    from numpy.typing import ArrayLike, NDArray

    from dsa110_assets.science.components import Components


@dataclass(frozen=True)
class ResidualImage:
    """Dirty image of catalogue-subtracted visibilities.

    A source whose flux density in the subtracted list is wrong by ΔS (Jy, at ``frequency_hz``) appears as
    ``ΔS · primary_beam(x) · psf(x − x_source)``: the image is the plain weighted mean of the visibilities (no division
    by the direction cosine n), so a point source peaks at its apparent flux density.
    """

    image: NDArray[np.float32]
    """(ny, nx), Jy/beam, apparent (not corrected for the primary beam); x grows to the west, y to the north."""
    psf: NDArray[np.float32]
    """(2 ny, 2 nx), unit peak at ``psf_center`` = (ny, nx): the response at every offset between two image pixels."""
    noise_psf: NDArray[np.float32] | None
    """Same shape, unit peak: autocorrelation of the noise (transform of the squared weights); None: that is ``psf``."""
    wcs: WCS
    """Celestial SIN world coordinates of ``image`` (ICRS)."""
    beam: tuple[float, float, float]
    """Fitted synthesized beam: major and minor FWHM and position angle (east of north), deg."""
    frequency_hz: float
    """Effective (weighted mean) frequency, Hz."""
    primary_beam: NDArray[np.float32]
    """(ny, nx), primary beam power averaged over drift, frequency and weight, 0–1."""
    components: Components
    """What was subtracted."""
    thermal_jyb: float = float("nan")
    """Noise expected in ``image`` from the SEFD and the weights used, Jy/beam."""
    plane: tuple[float, float] = (0.0, 0.0)
    """(a, b) of the best plane w = a u + b v of the baselines; see `offset_pixels`."""

    def __post_init__(self) -> None:
        ny, nx = self.image.shape
        if self.psf.shape != (2 * ny, 2 * nx):
            msg = f"psf has shape {self.psf.shape}, expected twice the image's {(ny, nx)}"
            raise ShapeError(msg)
        if self.primary_beam.shape != (ny, nx):
            msg = f"primary_beam has shape {self.primary_beam.shape}, expected {(ny, nx)}"
            raise ShapeError(msg)
        if self.noise_psf is not None and self.noise_psf.shape != self.psf.shape:
            msg = f"noise_psf has shape {self.noise_psf.shape}, expected {self.psf.shape}"
            raise ShapeError(msg)

    @property
    def psf_center(self) -> tuple[int, int]:
        """Index (y, x) of the unit peak of ``psf`` and ``noise_psf``."""
        return self.psf.shape[0] // 2, self.psf.shape[1] // 2

    @property
    def cell_deg(self) -> float:
        """Pixel size, deg."""
        return float(abs(self.wcs.wcs.cdelt[1]))

    def pixels(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """0-based pixel coordinates (x, y) of ICRS positions: where to read ``image`` and ``primary_beam``."""
        x, y = self.wcs.wcs_world2pix(np.atleast_1d(ra_deg), np.atleast_1d(dec_deg), 0)
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def offset_pixels(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates (x, y) whose *differences* are the offsets at which to read ``psf`` and ``noise_psf``.

        The array is nearly a plane, w = a u + b v, so the w term 2π w (n − 1) is a shift of (l, m) by (a, b)(n − 1)
        that depends on the position: ``B_kl = psf(x_k − x_l)`` holds in these coordinates and only near the centre in
        those of `pixels` (they differ by up to 25″ at 1.4° from it). Cornwell & Perley 1992, A&A 261, 353.
        """
        x, y = self.pixels(ra_deg, dec_deg)
        x0, y0 = (self.wcs.wcs.crpix - 1.0).tolist()
        cell_rad = np.deg2rad(self.cell_deg)
        ll, mm = -(x - x0) * cell_rad, (y - y0) * cell_rad
        n_minus_1 = np.sqrt(np.maximum(1.0 - ll**2 - mm**2, 0.0)) - 1.0
        a, b = self.plane
        return x - a * n_minus_1 / cell_rad, y + b * n_minus_1 / cell_rad
