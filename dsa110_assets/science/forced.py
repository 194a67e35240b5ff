"""Forced photometry on an image: peak fluxes at given positions by a matched filter with the restoring beam."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd
from astropy.wcs import WCS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dsa110_assets.science.background import require_positive
from dsa110_assets.science.errors import ScienceError, ShapeError
from dsa110_assets.science.flags import PhotometryFlag

__all__ = ["PhotometryFlag", "measure"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CUTOUT_BEAMS = 3.0
"""Width of the fitted cut-out, BMAJ."""
NEIGHBOUR_BEAMS = 1.5
"""Components closer than this, in BMAJ, are fitted together."""
BLEND_BEAMS = 0.5
"""Components closer than this, in BMAJ, are fitted as one."""
_MIN_KERNEL_FRACTION = 0.5
"""A source keeps its flux while the good pixels hold this part of the kernel's squared sum."""


@numba.njit(cache=True, nogil=True)
def _sum_cutouts(image, background, rms, x, y, beam, reach, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums over the good pixels of every cut-out: dK/n2, K2/n2, nK/n2, K/n2, number, K2 of good, K2 of all, centre."""
    a, b, c = beam
    ny, nx = image.shape
    for k in range(x.size):
        i0, j0 = int(np.round(x[k])), int(np.round(y[k]))
        for j in range(j0 - reach, j0 + reach + 1):
            for i in range(i0 - reach, i0 + reach + 1):
                dx, dy = i - x[k], j - y[k]
                kernel = np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
                sums[k, 6] += kernel * kernel
                if i < 0 or j < 0 or i >= nx or j >= ny:
                    continue
                n = np.float64(rms[j, i])
                d = np.float64(image[j, i]) - np.float64(background[j, i])
                if not (n > 0.0 and np.isfinite(n) and np.isfinite(d)):
                    continue
                weighted = kernel / (n * n)
                sums[k, 0] += d * weighted
                sums[k, 1] += kernel * weighted
                sums[k, 2] += n * weighted
                sums[k, 3] += weighted
                sums[k, 4] += 1.0
                sums[k, 5] += kernel * kernel
                if i == i0 and j == j0:
                    sums[k, 7] = 1.0


@numba.njit(cache=True, nogil=True)
def _sum_pair(rms, valid, x1, y1, x2, y2, beam, reach):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum of K1 K2 / n2 over the good pixels that both cut-outs share."""
    a, b, c = beam
    ny, nx = rms.shape
    i1, j1, i2, j2 = int(np.round(x1)), int(np.round(y1)), int(np.round(x2)), int(np.round(y2))
    total = 0.0
    for j in range(max(j1, j2, reach) - reach, min(j1, j2, ny - 1 - reach) + reach + 1):
        for i in range(max(i1, i2, reach) - reach, min(i1, i2, nx - 1 - reach) + reach + 1):
            if valid[j, i]:
                n = np.float64(rms[j, i])
                p, q, r, s = i - x1, j - y1, i - x2, j - y2
                exponent = a * (p * p + r * r) + 2.0 * b * (p * q + r * s) + c * (q * q + s * s)
                total += np.exp(-exponent) / (n * n)
    return total


@numba.njit(cache=True, nogil=True)
def _sum_pairs(rms, valid, x, y, first, second, beam, reach, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for p in range(first.size):
        k, m = first[p], second[p]
        out[p] = _sum_pair(rms, valid, x[k], y[k], x[m], y[m], beam, reach)


@numba.njit(cache=True, nogil=True)
def _chi_squares(image, background, rms, x, y, flux, group, start, members, beam, reach, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Chi squared of every cut-out against the model of all members of its group."""
    a, b, c = beam
    ny, nx = image.shape
    for k in range(x.size):
        i0, j0 = int(np.round(x[k])), int(np.round(y[k]))
        for j in range(max(0, j0 - reach), min(ny, j0 + reach + 1)):
            for i in range(max(0, i0 - reach), min(nx, i0 + reach + 1)):
                n = np.float64(rms[j, i])
                d = np.float64(image[j, i]) - np.float64(background[j, i])
                if not (n > 0.0 and np.isfinite(n) and np.isfinite(d)):
                    continue
                for p in range(start[group[k]], start[group[k] + 1]):
                    m = members[p]
                    dx, dy = i - x[m], j - y[m]
                    if abs(dx) <= 2 * reach and abs(dy) <= 2 * reach:
                        d -= flux[m] * np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
                out[k] += (d / n) ** 2


def measure(
    image: npt.ArrayLike,
    background: npt.ArrayLike,
    rms: npt.ArrayLike,
    wcs: WCS,
    beam: tuple[float, float, float],
    ra_deg: npt.ArrayLike,
    dec_deg: npt.ArrayLike,
) -> pd.DataFrame:
    """Peak flux at every given position, non-detections included.

    With d = image - background, n = rms and K the unit-peak restoring beam at the sub-pixel position, over a cut-out
    3 BMAJ wide: S = sum(d K / n^2) / sum(K^2 / n^2), sigma_S = sum(n K / n^2) / sum(K / n^2) (the rms at the source:
    the noise is correlated over the beam), chi^2 = sum(((d - K S) / n)^2), n_pix - 1 degrees of freedom.

    Positions closer than 1.5 BMAJ are linked, and each connected set is one linear least-squares problem for all its
    amplitudes; errors then follow from the noise of the beam's own correlation. Positions closer than 0.5 BMAJ count
    as one source at their mean position: all get its flux and the flag ``BLENDED``.

    Parameters
    ----------
    image, background, rms : (ny, nx)
        Jy/beam (or any unit); background and rms may be scalars. x grows along the first world axis of ``wcs``.
    wcs : astropy.wcs.WCS
        Celestial world coordinates of the image.
    beam : (bmaj_deg, bmin_deg, pa_deg)
        Restoring beam: FWHM of the axes, degrees, and position angle east of north, degrees.
    ra_deg, dec_deg : (n,)
        Positions in the frame of ``wcs``, degrees.

    Returns
    -------
    DataFrame, one row per position in the given order
        flux, flux_err (unit of the image), chi2, flags (``PhotometryFlag`` bits); and dof, local_rms, local_background,
        x_pix, y_pix (0-based), group (rows fitted together share a number). NaN where nothing can be measured: outside
        the image, on blank pixels (``NO_COVERAGE``) or where the rms is zero or unknown (``FLAGGED_RMS``).

    Raises
    ------
    ShapeError
        If shapes do not fit.
    ScienceError
        If the beam or the rms cannot be used.

    References
    ----------
    Condon, J. J. 1997, PASP 109, 166, section 3.
    """
    maps = _Maps.of(image, background, rms)
    ra, dec = np.broadcast_arrays(np.atleast_1d(ra_deg), np.atleast_1d(dec_deg))
    shape = _beam_shape(wcs, beam)
    x, y = _pixels(wcs, ra.astype(np.float64), dec.astype(np.float64), maps.image.shape)
    flags = maps.flags_at(x, y, shape.reach)
    usable = np.flatnonzero((flags & int(PhotometryFlag.NO_COVERAGE | PhotometryFlag.FLAGGED_RMS)) == 0)
    table = _empty_table(ra, dec, x, y, flags)
    if usable.size:
        fit = _fit(maps, x[usable], y[usable], shape)
        for name in ("flux", "flux_err", "chi2", "dof", "group"):
            table.loc[usable, name] = fit[name]
        table.loc[usable, "flags"] |= fit["flags"]
        table.loc[usable, "local_rms"], table.loc[usable, "local_background"] = maps.values_at(x[usable], y[usable])
    negative = table["flux"].to_numpy() < 0
    table.loc[negative, "flags"] |= int(PhotometryFlag.NEGATIVE_FLUX)
    return table


@dataclass(frozen=True)
class _BeamShape:
    """exp(-(a x^2 + 2 b x y + c y^2)) in pixels, half the cut-out and BMAJ in pixels, the matrix pixels -> BMAJ."""

    quadratic: tuple[float, float, float]
    reach: int
    bmaj_pixels: float
    sky: Floats


def _beam_shape(wcs: WCS, beam: tuple[float, float, float]) -> _BeamShape:
    bmaj, bmin, pa = (float(v) for v in beam)
    if not (np.isfinite([bmaj, bmin, pa]).all() and bmaj >= bmin > 0):
        raise ScienceError(f"a beam is (bmaj_deg, bmin_deg, pa_deg) with bmaj >= bmin > 0, got {beam}")
    sky = np.asarray(wcs.celestial.pixel_scale_matrix, np.float64)  # (east, north) degrees per (x, y) pixel
    angle = np.radians(pa)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    metric = 4.0 * np.log(2.0) * (np.outer(along, along) / bmaj**2 + np.outer(across, across) / bmin**2)
    matrix = sky.T @ metric @ sky
    pixel = float(np.sqrt(abs(np.linalg.det(sky))))
    reach = max(1, int(np.ceil(0.5 * CUTOUT_BEAMS * bmaj / pixel)))
    return _BeamShape((float(matrix[0, 0]), float(matrix[0, 1]), float(matrix[1, 1])), reach, bmaj / pixel, sky / bmaj)


def _pixels(wcs: WCS, ra: Floats, dec: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """0-based pixel coordinates; NaN for unknown positions and for those on the far side of the sky."""
    known = np.isfinite(ra) & np.isfinite(dec)
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    if known.any():
        x[known], y[known] = wcs.celestial.all_world2pix(ra[known], dec[known], 0, quiet=True)
        # a zenithal projection also maps the hemisphere behind: keep what comes back to where it was
        back_ra, back_dec = wcs.celestial.all_pix2world(x[known], y[known], 0)
        turn = np.abs((back_ra - ra[known] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec[known]))
        behind = ~(np.hypot(turn, back_dec - dec[known]) < 1e-3)
        x[np.flatnonzero(known)[behind]] = np.nan
    far = ~(np.isfinite(x) & np.isfinite(y)) | (np.abs(x) > 10 * max(shape)) | (np.abs(y) > 10 * max(shape))
    x[far], y[far] = np.nan, np.nan
    return x, y


@dataclass(frozen=True)
class _Maps:
    """Image, background and rms of one shape, in native byte order."""

    image: npt.NDArray[np.floating]
    background: npt.NDArray[np.floating]
    rms: npt.NDArray[np.floating]

    @classmethod
    def of(cls, image: npt.ArrayLike, background: npt.ArrayLike, rms: npt.ArrayLike) -> _Maps:
        data = np.asarray(image)
        if data.ndim != 2:
            raise ShapeError(f"the image has {data.ndim} axes, expected 2 (y, x)")
        kind = np.float32 if data.dtype.itemsize <= 4 and data.dtype.kind == "f" else np.float64
        arrays = []
        for name, value in (("image", data), ("background", background), ("rms", rms)):
            array = np.asarray(value, dtype=kind)
            if array.shape not in ((), data.shape):
                raise ShapeError(f"{name} has shape {array.shape}, expected that of the image, {data.shape}")
            arrays.append(np.ascontiguousarray(np.broadcast_to(array, data.shape)))
        require_positive(arrays[2])
        return cls(*arrays)

    def values_at(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rms and background of the nearest pixels."""
        i, j = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        return self.rms[j, i].astype(np.float64), self.background[j, i].astype(np.float64)

    def flags_at(self, x: Floats, y: Floats, reach: int) -> Integers:
        """What stands against measuring at the nearest pixels."""
        ny, nx = self.image.shape
        inside = (x >= -0.5) & (x <= nx - 0.5) & (y >= -0.5) & (y <= ny - 0.5)
        i = np.where(inside, np.clip(np.rint(np.nan_to_num(x)), 0, nx - 1), 0).astype(np.int64)
        j = np.where(inside, np.clip(np.rint(np.nan_to_num(y)), 0, ny - 1), 0).astype(np.int64)
        covered = inside & np.isfinite(self.image[j, i]) & np.isfinite(self.background[j, i])
        noise_known = np.isfinite(self.rms[j, i]) & (self.rms[j, i] > 0)
        cut = inside & ((i < reach) | (j < reach) | (i >= nx - reach) | (j >= ny - reach))
        flags = np.where(covered, 0, int(PhotometryFlag.NO_COVERAGE))
        flags |= np.where(covered & ~noise_known, int(PhotometryFlag.FLAGGED_RMS), 0)
        return np.asarray(flags | np.where(cut, int(PhotometryFlag.EDGE), 0), np.int64)


def _empty_table(ra: Floats, dec: Floats, x: Floats, y: Floats, flags: Integers) -> pd.DataFrame:
    unknown = np.full(ra.size, np.nan)
    return pd.DataFrame(
        {
            "ra_deg": ra.astype(np.float64),
            "dec_deg": dec.astype(np.float64),
            "flux": unknown,
            "flux_err": unknown,
            "chi2": unknown,
            "dof": np.zeros(ra.size, np.int64),
            "flags": flags,
            "local_rms": unknown,
            "local_background": unknown,
            "x_pix": x,
            "y_pix": y,
            "group": np.full(ra.size, -1, np.int64),
        }
    )


def _link(x: Floats, y: Floats, shape: _BeamShape, distance_beams: float) -> tuple[Integers, Integers, Integers]:
    """Pairs closer than a distance (in BMAJ on the sky), and the connected set of every point."""
    sky = shape.sky @ np.stack([x, y])
    pairs = cKDTree(sky.T).query_pairs(distance_beams, output_type="ndarray").astype(np.int64)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(x.size, x.size))
    label = connected_components(links, directed=False)[1]
    return pairs[:, 0], pairs[:, 1], label.astype(np.int64)


def _fit(maps: _Maps, x: Floats, y: Floats, shape: _BeamShape) -> dict[str, npt.NDArray[np.generic]]:
    """Fluxes, errors, chi squared, flags and groups of usable positions."""
    _, _, blend = _link(x, y, shape, BLEND_BEAMS)
    members = np.bincount(blend)
    centre_x, centre_y = np.bincount(blend, x) / members, np.bincount(blend, y) / members
    sums = np.zeros((members.size, 8))
    _sum_cutouts(*(maps.image, maps.background, maps.rms), centre_x, centre_y, shape.quadratic, shape.reach, sums)
    held = (sums[:, 5] >= _MIN_KERNEL_FRACTION * sums[:, 6]) & (sums[:, 7] > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        flux, error = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    first, second, group = _link(centre_x, centre_y, shape, NEIGHBOUR_BEAMS)
    both = held[first] & held[second]
    _solve_groups(maps, (centre_x, centre_y), shape, (first[both], second[both]), (sums, flux, error))
    flux[~held], error[~held] = np.nan, np.nan
    chi2 = np.zeros(members.size)
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(group))])
    model = np.nan_to_num(flux)
    _chi_squares(
        *(maps.image, maps.background, maps.rms), centre_x, centre_y, model, group, start, order, shape.quadratic,
        shape.reach, chi2,
    )  # fmt: skip
    flags = np.where(held, 0, int(PhotometryFlag.NO_COVERAGE))
    flags |= np.where(members > 1, int(PhotometryFlag.BLENDED), 0)
    per_source = {
        "flux": flux,
        "flux_err": error,
        "chi2": np.where(held, chi2, np.nan),
        "dof": np.maximum(sums[:, 4].astype(np.int64) - 1, 0),
        "flags": flags.astype(np.int64),
        "group": group,
    }
    return {name: values[blend] for name, values in per_source.items()}


def _solve_groups(
    maps: _Maps,
    position: tuple[Floats, Floats],
    shape: _BeamShape,
    pairs: tuple[Integers, Integers],
    single: tuple[Floats, Floats, Floats],
) -> None:
    """Replace fluxes and errors of linked sources by those of one least-squares solve per connected set, in place.

    With A_kl = sum(K_k K_l / n^2): S = A^-1 b; cov = A^-1 N A^-1. Noise with the beam's correlation has
    N_kl = sigma_k sigma_l A_kk A_ll rho_kl^(2/3), rho = A_kl / sqrt(A_kk A_ll): for Gaussians K*K*K is 3/2 as wide (in
    variance) as K*K. A source without neighbours keeps sigma.
    """
    first, second = pairs
    sums, flux, error = single
    if not first.size:
        return
    valid = (maps.rms > 0) & np.isfinite(maps.rms) & np.isfinite(maps.image) & np.isfinite(maps.background)
    overlap = np.zeros(first.size)
    _sum_pairs(maps.rms, valid, *position, first, second, shape.quadratic, shape.reach, overlap)
    links = coo_array((np.ones(first.size), (first, second)), shape=(flux.size, flux.size))
    label = connected_components(links, directed=False)[1]
    for group in np.unique(label[first]):
        rows = np.flatnonzero(label == group)
        index = {int(row): k for k, row in enumerate(rows)}
        matrix = np.diag(sums[rows, 1])
        for p in np.flatnonzero(label[first] == group):
            k, m = index[int(first[p])], index[int(second[p])]
            matrix[k, m] = matrix[m, k] = overlap[p]
        scale = np.sqrt(np.diag(matrix))
        noise = np.outer(error[rows] * scale**2, error[rows] * scale**2)
        noise *= (matrix / np.outer(scale, scale)) ** (2.0 / 3.0)
        inverse = np.linalg.inv(matrix)
        flux[rows] = inverse @ sums[rows, 0]
        error[rows] = np.sqrt(np.diag(inverse @ noise @ inverse))
