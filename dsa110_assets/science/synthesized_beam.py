"""The synthesized beam: its width, the Gaussian that stands for it, and restoring components with it."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import label
from scipy.optimize import least_squares

from dsa110_assets.science.errors import SolveError

FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))


@dataclass(frozen=True)
class SynthesizedBeam:
    """An elliptical Gaussian.

    Attributes
    ----------
    bmaj_deg, bmin_deg
        FWHM of the major and minor axis, degrees.
    pa_deg
        Position angle of the major axis, degrees east of north, in [-90, 90).
    """

    bmaj_deg: float
    bmin_deg: float
    pa_deg: float

    @property
    def triple(self) -> tuple[float, float, float]:
        """(bmaj_deg, bmin_deg, pa_deg)."""
        return self.bmaj_deg, self.bmin_deg, self.pa_deg

    def quadratic(self, cell_deg: float) -> tuple[float, float, float]:
        """(a, b, c) of exp(-(a x^2 + 2 b x y + c y^2)) with x (west) and y (north) in pixels."""
        pa = np.radians(self.pa_deg)
        major = 0.5 * (cell_deg / (self.bmaj_deg * FWHM_TO_SIGMA)) ** 2
        minor = 0.5 * (cell_deg / (self.bmin_deg * FWHM_TO_SIGMA)) ** 2
        along = np.array([-np.sin(pa), np.cos(pa)])
        across = np.array([np.cos(pa), np.sin(pa)])
        matrix = major * np.outer(along, along) + minor * np.outer(across, across)
        return float(matrix[0, 0]), float(matrix[0, 1]), float(matrix[1, 1])

    def area_pixels(self, cell_deg: float) -> float:
        """Solid angle in pixels: pi bmaj bmin / (4 ln 2) / cell^2."""
        return float(np.pi * self.bmaj_deg * self.bmin_deg / (4.0 * np.log(2.0)) / cell_deg**2)


def measure_half_power_width(psf: npt.NDArray[np.floating], cell_arcsec: float) -> float:
    """Narrowest full width at half maximum of the main lobe, arcsec: what the pixels must sample.

    Parameters
    ----------
    psf : (ny, nx)
        Unit peak at ``(ny // 2, nx // 2)``.
    cell_arcsec
        Pixel size.
    """
    y0, x0 = psf.shape[0] // 2, psf.shape[1] // 2
    radius = min(y0, x0, psf.shape[0] - y0 - 1, psf.shape[1] - x0 - 1)
    steps = np.arange(0, radius, 0.25)
    narrowest = np.inf
    for angle in np.radians(np.arange(0.0, 180.0, 3.0)):
        x, y = x0 + steps * np.cos(angle), y0 + steps * np.sin(angle)
        profile = _bilinear(psf, x, y)
        below = np.flatnonzero(profile < 0.5 * psf[y0, x0])
        if below.size:
            k = below[0]
            fraction = (profile[k - 1] - 0.5) / (profile[k - 1] - profile[k])
            narrowest = min(narrowest, 2.0 * (steps[k - 1] + 0.25 * fraction))
    if not np.isfinite(narrowest):
        raise SolveError("the beam does not fall to half its peak within the image")
    return float(narrowest * cell_arcsec)


def _bilinear(
    image: npt.NDArray[np.floating], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - i, y - j
    return np.asarray(
        image[j, i] * (1 - fx) * (1 - fy)
        + image[j, i + 1] * fx * (1 - fy)
        + image[j + 1, i] * (1 - fx) * fy
        + image[j + 1, i + 1] * fx * fy,
        np.float64,
    )


def fit_synthesized_beam(
    psf: npt.NDArray[np.floating], cell_deg: float, *, level: float = 0.5, half_width: int = 40
) -> SynthesizedBeam:
    """Least-squares Gaussian of the main lobe: the pixels above ``level`` connected to the peak.

    Parameters
    ----------
    psf : (ny, nx)
        Unit peak at ``(ny // 2, nx // 2)``; x to the west, y to the north.
    cell_deg
        Pixel size, degrees.
    level
        Lowest PSF value that counts as main lobe.
    half_width
        Greatest distance from the peak that is looked at, pixels.

    Raises
    ------
    SolveError
        If the main lobe has too few pixels to be fitted.
    """
    y0, x0 = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(half_width, y0, x0, psf.shape[0] - y0 - 1, psf.shape[1] - x0 - 1)
    cut = np.asarray(psf[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1], np.float64)
    regions, _ = label(cut > level)
    lobe = regions == regions[half, half]
    rows, columns = np.nonzero(lobe)
    x, y = columns - float(half), rows - float(half)
    values = cut[lobe]
    if values.size < 6:
        raise SolveError(f"the main lobe of the beam covers only {values.size} pixels: the cells are too coarse")
    # log-linear start, then the true fit
    start = np.linalg.lstsq(np.stack([x**2, 2 * x * y, y**2], 1), -np.log(values), rcond=None)[0]

    def misfit(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.exp(-(q[0] * x**2 + 2 * q[1] * x * y + q[2] * y**2)) - values)

    a, b, c = least_squares(misfit, start).x
    eigenvalues, vectors = np.linalg.eigh(np.array([[a, b], [b, c]]))
    if eigenvalues[0] <= 0:
        raise SolveError("the main lobe of the beam is not a peak")
    major = vectors[:, 0]  # the smallest curvature
    pa = np.degrees(np.arctan2(-major[0], major[1]))
    fwhm = 2.0 * np.sqrt(np.log(2.0) / eigenvalues) * cell_deg
    return SynthesizedBeam(float(fwhm[0]), float(fwhm[1]), float((pa + 90.0) % 180.0 - 90.0))


@numba.njit(cache=True, nogil=True)
def _add_gaussians(image, x, y, flux, a, b, c, reach):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = image.shape
    for k in range(x.size):
        i0, i1 = max(0, int(x[k]) - reach), min(nx, int(x[k]) + reach + 2)
        j0, j1 = max(0, int(y[k]) - reach), min(ny, int(y[k]) + reach + 2)
        for j in range(j0, j1):
            dy = j - y[k]
            for i in range(i0, i1):
                dx = i - x[k]
                image[j, i] += flux[k] * np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))


def restore_components(
    image: npt.NDArray[np.float32],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    flux_jy: npt.NDArray[np.float64],
    *,
    beam: SynthesizedBeam,
    cell_deg: float,
) -> npt.NDArray[np.float32]:
    """Image with a Gaussian of the given peak added at every (sub-pixel) position, out to 5 sigma of the major axis.

    Parameters
    ----------
    image : (ny, nx)
        Jy/beam; not changed.
    x, y : (n,)
        0-based pixel coordinates; positions outside add what falls inside.
    flux_jy : (n,)
        Peak, Jy/beam; not finite ones are left out.
    """
    reach = int(np.ceil(5.0 * beam.bmaj_deg * FWHM_TO_SIGMA / cell_deg))
    usable = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux_jy)
    out = image.copy()
    _add_gaussians(out, x[usable], y[usable], flux_jy[usable], *beam.quadratic(cell_deg), reach)
    return out
