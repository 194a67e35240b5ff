"""Positions on the sphere: cone search, cross-match and names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dsa110_assets.science.errors import ShapeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ARCSEC_PER_DEG = 3600.0


def unit_vectors(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Floats:
    """Cartesian unit vectors, shape (n, 3), of right ascensions and declinations in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, dtype=np.float64)), np.radians(np.asarray(dec_deg, dtype=np.float64))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def chord_of_deg(angle_deg: float) -> float:
    """Length of the chord of an angle in degrees on the unit sphere: 2 sin(θ/2)."""
    return float(2.0 * np.sin(np.radians(angle_deg) / 2.0))


def deg_of_chord(chord: npt.ArrayLike) -> Floats:
    """Angle in degrees of chords on the unit sphere (exact for small and large angles)."""
    half = np.clip(np.asarray(chord, dtype=np.float64) / 2.0, 0.0, 1.0)
    angle: Floats = np.degrees(2.0 * np.arcsin(half))
    return angle


@dataclass(frozen=True)
class Matches:
    """Nearest neighbour and number of neighbours of each position.

    Attributes
    ----------
    index : (n,) int
        Row of the nearest neighbour; −1 where none lies within the radius.
    separation_arcsec : (n,) float
        Its distance, arcsec; NaN where there is none.
    count : (n,) int
        Neighbours within the radius.
    """

    index: Ints
    separation_arcsec: Floats
    count: Ints

    @property
    def is_matched(self) -> npt.NDArray[np.bool_]:
        """Where there is a neighbour."""
        matched: npt.NDArray[np.bool_] = self.index >= 0
        return matched

    def take(self, values: npt.ArrayLike) -> Floats:
        """The neighbours' values; NaN where there is none."""
        data = np.asarray(values, dtype=np.float64)
        taken = np.full(len(self.index), np.nan)
        taken[self.is_matched] = data[self.index[self.is_matched]]
        return taken


class ConeIndex:
    """Positions indexed for searches; rows keep their numbers.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS positions, degrees.
    """

    def __init__(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> None:
        self._dec_deg = np.asarray(dec_deg, dtype=np.float64)
        if np.shape(ra_deg) != self._dec_deg.shape or self._dec_deg.ndim != 1:
            msg = f"ra {np.shape(ra_deg)} and dec {self._dec_deg.shape} must be one-dimensional and of one length"
            raise ShapeError(msg)
        self._vectors = unit_vectors(ra_deg, dec_deg)

    def __len__(self) -> int:
        return len(self._dec_deg)

    def search(self, ra_deg: float, dec_deg: float, radius_deg: float) -> tuple[Ints, Floats]:
        """Rows within a cone, the nearest first.

        Only the declination band of the cone is looked at, so that 10⁶ rows take about a millisecond.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Centre, degrees.
        radius_deg : float
            Radius, degrees.

        Returns
        -------
        index : ndarray of int, shape (m,)
            Row numbers.
        separation_deg : ndarray, shape (m,)
            Their distances, degrees.
        """
        order, sorted_dec = self._by_declination
        low, high = np.searchsorted(sorted_dec, [dec_deg - radius_deg - 1e-9, dec_deg + radius_deg + 1e-9])
        band = order[low:high]
        chord = np.linalg.norm(self._vectors[band] - unit_vectors(ra_deg, dec_deg), axis=1)
        inside = chord <= chord_of_deg(min(radius_deg, 180.0))
        index, separation_deg = band[inside], deg_of_chord(chord[inside])
        nearest_first = np.argsort(separation_deg, kind="stable")
        return index[nearest_first], separation_deg[nearest_first]

    def match(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, *, radius_arcsec: float) -> Matches:
        """Nearest row, and number of rows, within a radius of each given position.

        Parameters
        ----------
        ra_deg, dec_deg : array_like, shape (n,)
            Positions, degrees.
        radius_arcsec : float
            Radius, arcsec.
        """
        targets = unit_vectors(ra_deg, dec_deg)
        n = len(targets)
        if n == 0 or len(self) == 0:
            return Matches(np.full(n, -1), np.full(n, np.nan), np.zeros(n, dtype=np.int64))
        limit = chord_of_deg(radius_arcsec / ARCSEC_PER_DEG)
        chord, index = map(np.asarray, self._tree.query(targets, distance_upper_bound=np.nextafter(limit, 3.0)))
        found = np.isfinite(chord)
        separation = np.full(n, np.nan)
        separation[found] = deg_of_chord(chord[found]) * ARCSEC_PER_DEG
        count = self._tree.query_ball_point(targets, limit, return_length=True)
        return Matches(np.where(found, index, -1).astype(np.int64), separation, np.asarray(count, dtype=np.int64))

    def has_neighbours(
        self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, *, radius_deg: float, n_neighbours: int
    ) -> npt.NDArray[np.bool_]:
        """Whether at least ``n_neighbours`` rows lie within ``radius_deg`` of each position, shape (n,)."""
        targets = unit_vectors(ra_deg, dec_deg)
        if len(targets) == 0 or len(self) < n_neighbours:
            return np.zeros(len(targets), dtype=bool)
        chord = np.asarray(self._tree.query(targets, k=[n_neighbours])[0])
        near: npt.NDArray[np.bool_] = chord[:, 0] <= chord_of_deg(radius_deg)
        return near

    def separation_of_nearest_arcsec(self) -> Floats:
        """Distance of each row to the nearest other one, arcsec; inf for a single row."""
        if len(self) < 2:
            return np.full(len(self), np.inf)
        chord = np.asarray(self._tree.query(self._vectors, k=[2])[0])
        return deg_of_chord(chord[:, 0]) * ARCSEC_PER_DEG

    @cached_property
    def _by_declination(self) -> tuple[Ints, Floats]:
        order = np.argsort(self._dec_deg, kind="stable")
        return order, self._dec_deg[order]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._vectors)


def source_names(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, *, prefix: str = "NVSS") -> npt.NDArray[np.str_]:
    """IAU names ``PREFIX Jhhmmss.s±ddmmss``: digits truncated, not rounded.

    Names that coincide get ``a``, ``b``, … appended in order of appearance (IAU specification, §III).

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS positions, degrees.
    prefix : str
        Acronym of the catalogue.

    Returns
    -------
    ndarray of str, shape (n,)
    """
    tenths = (
        np.floor(np.mod(np.asarray(ra_deg, dtype=np.float64), 360.0) / 15.0 * 36000.0 + 1e-6).astype(np.int64) % 864000
    )
    dec = np.atleast_1d(np.asarray(dec_deg, dtype=np.float64))
    seconds = np.floor(np.abs(dec) * 3600.0 + 1e-6).astype(np.int64)
    names = [
        f"{prefix} J{t // 36000:02d}{t // 600 % 60:02d}{t // 10 % 60:02d}.{t % 10}"
        f"{'-' if d < 0 else '+'}{s // 3600:02d}{s // 60 % 60:02d}{s % 60:02d}"
        for t, d, s in zip(np.atleast_1d(tenths).tolist(), dec.tolist(), seconds.tolist(), strict=True)
    ]
    return _made_unique(np.array(names, dtype=np.str_))


def _made_unique(names: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    _, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    if not len(repeated):
        return names
    made = names.tolist()
    seen: dict[str, int] = {}
    for row in repeated.tolist():
        number = seen.get(made[row], 0)
        seen[made[row]] = number + 1
        made[row] = f"{made[row]}{chr(ord('a') + number) if number < 26 else f'z{number}'}"
    return np.array(made, dtype=np.str_)
