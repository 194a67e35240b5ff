"""Images from visibilities: the grid on the sky, dirty images and point spread functions (by ducc0's wgridder).

Sign: visibilities are V = exp(+2 pi i UVW . s / lambda) (Measurement Set), so the image is the mean of
w V exp(-2 pi i (u l + v m + w (n - 1))). Images are indexed [y, x], x to the west, y to the north, and are not divided
by n: a point source peaks at its apparent flux density.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import ducc0
import erfa
import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS
from scipy.optimize import brentq

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, airy_power
from dsa110_assets.science.instrument import DISH_DIAMETER_M

SIDEREAL_RATE_DEG_S = 360.0 / 86164.0905
"""Rotation of the sky, degrees per second of UT1."""
PARTS = 2
"""Threads of a gridding. Fixed, not the number of processors, so that images do not depend on the machine."""
_ARCSEC = np.pi / 180.0 / 3600.0


@dataclass(frozen=True)
class ImageGeometry:
    """A grid of square pixels about a phase centre.

    Attributes
    ----------
    nx, ny
        Pixels in RA and Dec, even; the phase centre is the centre of pixel (nx / 2, ny / 2), counted from 0.
    cell_arcsec
        Pixel size on the sky (ICRS), arcsec.
    ra_deg, dec_deg
        Phase centre, ICRS degrees.
    aberration
        Apparent over true offsets of the field: annual aberration magnifies the sky by up to 1e-4 (0.5 arcsec at 1.4
        deg), see :func:`aberration_scale`.
    """

    nx: int
    ny: int
    cell_arcsec: float
    ra_deg: float
    dec_deg: float
    aberration: float = 1.0

    @property
    def cell_deg(self) -> float:
        """Pixel size, degrees."""
        return self.cell_arcsec / 3600.0

    @property
    def gridding_cell_rad(self) -> float:
        """Pixel size in the apparent frame of the uvw, radians."""
        return self.cell_arcsec * _ARCSEC * self.aberration

    @property
    def field_rad(self) -> tuple[float, float]:
        """Width and height, radians."""
        return self.nx * self.gridding_cell_rad, self.ny * self.gridding_cell_rad

    def wcs(self) -> WCS:
        """World coordinates: RA---SIN, DEC--SIN, ICRS."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [self.ra_deg, self.dec_deg]
        wcs.wcs.crpix = [self.nx // 2 + 1, self.ny // 2 + 1]
        wcs.wcs.cdelt = [-self.cell_deg, self.cell_deg]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        return wcs

    def resized(self, nx: int, ny: int, cell_arcsec: float) -> "ImageGeometry":
        """The same field centre with other pixels."""
        return replace(self, nx=nx, ny=ny, cell_arcsec=cell_arcsec)


def aberration_scale(ra_deg: float, dec_deg: float, time_jd: float) -> float:
    """Apparent over true angular offsets about a direction: 1 - s . v / c, v the Earth's barycentric velocity.

    First order in v / c (1e-4); the map is conformal, so one number serves the field. Erfa's ``epv00`` gives v.
    """
    velocity = erfa.epv00(2400000.5, time_jd - 2400000.5)[1]["v"]  # au / day
    s = erfa.s2c(np.radians(ra_deg), np.radians(dec_deg))
    return float(1.0 - np.dot(s, velocity) * erfa.DAU / erfa.DAYSEC / SPEED_OF_LIGHT_M_S)


def beam_radius_deg(level: float, frequency_hz: float) -> float:
    """Angle at which the primary beam has fallen to a level (0 < level < 1), degrees, within the main lobe."""
    first_null_rad = 1.2196 * SPEED_OF_LIGHT_M_S / frequency_hz / DISH_DIAMETER_M
    return float(np.degrees(brentq(lambda r: float(airy_power(r, frequency_hz)) - level, 1e-6, first_null_rad)))


def field_size_deg(
    *, min_primary_beam: float, frequency_hz: float, duration_s: float, dec_deg: float
) -> tuple[float, float]:
    """Width (RA) and height (Dec) of the field, degrees: P above a level at some time, the drift in RA included."""
    radius = beam_radius_deg(min_primary_beam, frequency_hz)
    drift = SIDEREAL_RATE_DEG_S * duration_s * np.cos(np.radians(dec_deg))
    return 2.0 * radius + float(drift), 2.0 * radius


def choose_cell_arcsec(half_power_width_arcsec: float, *, pixels_per_beam: float, step_arcsec: float = 0.5) -> float:
    """Pixel size: the synthesized beam's narrowest half-power width over ``pixels_per_beam``, rounded to a step."""
    return float(max(step_arcsec, step_arcsec * round(half_power_width_arcsec / pixels_per_beam / step_arcsec)))


def good_size(minimum: float) -> int:
    """The smallest multiple of 4 not below ``minimum`` that a fast Fourier transform likes."""
    return 4 * int(ducc0.fft.good_size(int(np.ceil(minimum / 4.0))))


def _ducc_uvw(uvw_m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Measurement Set uvw for ducc0, first image axis growing to the west.

    ducc0 predicts exp(-2 pi i (u l + v m - w (n - 1))): all three change sign against the Measurement Set's, w once
    more for the sign in that phase, and u once more because the first axis is -l. A source far off axis tells: with w
    of the other sign it is displaced by 2 w/v (n - 1), 48 arcsec at 1.4 degrees.
    """
    return np.ascontiguousarray(uvw_m.reshape(-1, 3) * np.array([1.0, -1.0, 1.0]))


def make_dirty_image(
    visibilities: npt.NDArray[np.complex64],
    weights: npt.NDArray[np.float32],
    uvw_m: npt.NDArray[np.float64],
    frequencies_hz: npt.NDArray[np.float64],
    *,
    geometry: ImageGeometry,
    accuracy: float = 1e-4,
) -> npt.NDArray[np.float32]:
    """Weighted mean of the visibilities turned to every pixel, with the exact w term.

    Parameters
    ----------
    visibilities, weights : (n_row, n_channel)
        Jy, and imaging weights.
    uvw_m : (n_row, 3)
        Metres, Measurement Set convention.
    frequencies_hz : (n_channel,)
        Hz.
    geometry
        The grid.
    accuracy
        Relative accuracy of the gridding.

    Returns
    -------
    (ny, nx) float32
        Jy/beam.

    References
    ----------
    Ye, H. et al. 2022, MNRAS 510, 4110; Arras, P. et al. 2021, A&A 646, A58.
    """
    grid = _Grid.choose(geometry, uvw_m, frequencies_hz)
    image = grid.transform(visibilities, weights, uvw_m, frequencies_hz, accuracy=accuracy, w_term=True)
    image *= np.float32(1.0 / float(np.sum(weights, dtype=np.float64)))
    return image


def predict_from_image(
    image: npt.NDArray[np.float32],
    uvw_m: npt.NDArray[np.float64],
    frequencies_hz: npt.NDArray[np.float64],
    *,
    geometry: ImageGeometry,
    accuracy: float = 1e-4,
) -> npt.NDArray[np.complex64]:
    """Visibilities of an image of Jy per pixel (the adjoint of :func:`make_dirty_image`), shape (n_row, n_channel)."""
    visibilities = ducc0.wgridder.dirty2vis(  # no sums across threads: the same for any number of them
        uvw=_ducc_uvw(uvw_m),
        freq=frequencies_hz,
        dirty=np.ascontiguousarray(image.T),
        pixsize_x=geometry.gridding_cell_rad,
        pixsize_y=geometry.gridding_cell_rad,
        epsilon=accuracy,
        do_wgridding=True,
        divide_by_n=False,
        nthreads=0,
    )
    return np.asarray(visibilities, np.complex64)


def make_psf(
    weights: npt.NDArray[np.float32],
    uvw_m: npt.NDArray[np.float64],
    frequencies_hz: npt.NDArray[np.float64],
    *,
    geometry: ImageGeometry,
    accuracy: float = 1e-4,
) -> npt.NDArray[np.float32]:
    """Point spread function, unit peak at pixel (ny / 2, nx / 2), without the w term.

    Without it the function depends on the offset only; the positions carry the term (`ResidualImage.offset_pixels`).
    Where the longest baseline allows pixels twice as large, it is made on those and interpolated in Fourier space.

    Parameters
    ----------
    weights : (n_row, n_channel)
        Imaging weights, or their squares for the noise's autocorrelation.
    geometry
        Grid of the PSF itself (twice the image's width).
    """
    grid = _Grid.choose(geometry, uvw_m, frequencies_hz)
    psf = grid.transform(weights.astype(np.complex64), None, uvw_m, frequencies_hz, accuracy=accuracy, w_term=False)
    psf *= np.float32(1.0 / psf[geometry.ny // 2, geometry.nx // 2])
    return psf


def sum_in_parts(
    grid: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]], w_m: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Sum of an image over :data:`PARTS` sets of rows, each made in its own thread.

    A gridder with several threads adds in an order that varies, and its image in the last digit: the same data would
    give other bytes each time. One thread per part and a fixed order of adding do not. Parts of neighbouring w share
    no planes of the w stack, so little is done twice.

    Parameters
    ----------
    grid
        Makes the image of some rows.
    w_m : (n_row,)
        Absolute w, metres.
    """
    parts = np.array_split(np.argsort(w_m, kind="stable"), PARTS)
    with ThreadPoolExecutor(PARTS) as pool:
        images = list(pool.map(grid, [np.sort(part) for part in parts if len(part)]))
    total = images[0]
    for image in images[1:]:
        total = total + image
    return total


@dataclass(frozen=True)
class _Grid:
    """How an image is computed: on its own pixels, or on doubled ones with a margin when the baselines allow it.

    The sky brightness convolved with the PSF is band-limited by the longest baseline: pixels up to half its fringe
    hold all of it, and a zero-padded spectrum gives the pixels between. The margin keeps the edges of the
    (not periodic) image away from the product.
    """

    geometry: ImageGeometry
    coarse: bool

    MARGIN: ClassVar[int] = 32
    """Doubled pixels added on every side."""
    LARGEST_PHASE: ClassVar[float] = 0.48
    """Turns per doubled pixel of the longest baseline (0.5 is the sampling theorem)."""

    @classmethod
    def choose(
        cls, geometry: ImageGeometry, uvw_m: npt.NDArray[np.float64], frequencies_hz: npt.NDArray[np.float64]
    ) -> "_Grid":
        highest = np.abs(uvw_m[:, :2]).max() * frequencies_hz.max() / SPEED_OF_LIGHT_M_S
        large = min(geometry.nx, geometry.ny) >= 8 * cls.MARGIN
        fits = 2.0 * geometry.gridding_cell_rad * highest < cls.LARGEST_PHASE
        return cls(geometry, bool(large and fits and geometry.nx % 4 == 0 and geometry.ny % 4 == 0))

    def transform(
        self,
        visibilities: npt.NDArray[np.complex64],
        weights: npt.NDArray[np.float32] | None,
        uvw_m: npt.NDArray[np.float64],
        frequencies_hz: npt.NDArray[np.float64],
        *,
        accuracy: float,
        w_term: bool,
    ) -> npt.NDArray[np.float32]:
        """Weighted *sum* of the visibilities at every pixel, (ny, nx)."""
        nx, ny = self.geometry.nx, self.geometry.ny
        step = 2 if self.coarse else 1
        wide = good_size(nx // 2 + 2 * self.MARGIN) if self.coarse else nx
        high = good_size(ny // 2 + 2 * self.MARGIN) if self.coarse else ny

        def grid(rows: npt.NDArray[np.intp] | slice) -> npt.NDArray[np.float32]:
            return np.asarray(
                ducc0.wgridder.vis2dirty(
                    uvw=_ducc_uvw(uvw_m[rows]),
                    freq=frequencies_hz,
                    vis=visibilities[rows],
                    wgt=None if weights is None else weights[rows],
                    npix_x=wide,
                    npix_y=high,
                    pixsize_x=step * self.geometry.gridding_cell_rad,
                    pixsize_y=step * self.geometry.gridding_cell_rad,
                    epsilon=accuracy,
                    do_wgridding=w_term,
                    divide_by_n=False,
                    nthreads=1,
                ).T
            )

        image = sum_in_parts(grid, np.abs(uvw_m[:, 2])) if w_term else grid(slice(None))
        if self.coarse:
            x0, y0 = wide - nx // 2, high - ny // 2
            tapered = image * (_taper(high, self.MARGIN)[:, None] * _taper(wide, self.MARGIN))
            image = _double(tapered)[y0 : y0 + ny, x0 : x0 + nx]
        return np.ascontiguousarray(image, dtype=np.float32)


def _taper(n: int, margin: int) -> npt.NDArray[np.float32]:
    """1 inside, falling as a raised cosine to 0 over the margins: what makes an image periodic without a step."""
    edge = np.minimum(np.arange(n), np.arange(n)[::-1])
    return np.asarray(np.sin(0.5 * np.pi * np.clip((edge + 0.5) / margin, 0.0, 1.0)) ** 2, np.float32)


def _double(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Twice as many pixels each way by zero-padding the spectrum; exact for what is band-limited and periodic.

    Pixel (j, i) of the input is pixel (2 j, 2 i) of the output.
    """
    ny, nx = image.shape
    spectrum = ducc0.fft.r2c(np.ascontiguousarray(image), axes=(0, 1), nthreads=0)
    padded = np.zeros((2 * ny, nx + 1), np.complex64)
    padded[: ny // 2, : nx // 2] = spectrum[: ny // 2, : nx // 2]
    padded[-(ny // 2) + 1 :, : nx // 2] = spectrum[ny // 2 + 1 :, : nx // 2]
    doubled = ducc0.fft.c2r(padded, axes=(0, 1), lastsize=2 * nx, forward=False, inorm=0, nthreads=0)
    doubled *= np.float32(1.0 / (nx * ny))
    return np.asarray(doubled, np.float32)
