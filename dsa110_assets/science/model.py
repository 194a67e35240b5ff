"""Component visibilities as a Measurement Set holds them: exact geometry, drifting beam, smearing; antenna by antenna.

For sources s and antennas i, j at one time and frequency f,

    V_ij = sum_s S_s P_s sinc(f r_ij) sinc(df tau_ij) exp(2 pi i f d_ij)

with d_ij = (u_i - u_j) . (s - s_pc) / c in the MS's own uvw frame (UVW_ms = u_i - u_j, V = exp(+2 pi i UVW.s)),
r_ij the turns per hertz that the source's fringe makes in an integration that was stopped on the pointing direction
s_p, tau_ij = (u_i - u_j) . (s - s_p) / c, and P the primary beam at the angle between s and s_p. Directions are
apparent ones (ERFA), so differential aberration is exact.

The sum is a matrix product over sources of antenna phasors. Smearing keeps that form by the addition theorem of the
spherical Bessel functions (DLMF 10.60.2 with alpha = 0),

    sinc(x_i - x_j) = sum_k (2k + 1) j_k(pi x_i) j_k(pi x_j),

of which one or two terms matter between core antennas and a few more between outriggers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import geometry
from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, airy_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.model_expansion import Part, add_part, sort_part
from dsa110_assets.science.model_kernels import AntennaPhases

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Complexes = npt.NDArray[np.complex64]
Beam = Callable[[Floats, Floats], Floats]
"""(separation_rad, frequency_hz), broadcasting, to power response."""

EARTH_ROTATION_RAD_S = 7.292115146706979e-5
"""Earth rotation rate (IERS Conventions 2010, table 1.2)."""
BEAM_NODE_HZ = 4e6
"""Spacing of the frequencies at which the beam is evaluated; linear between."""


class LayoutLike(Protocol):
    """What :meth:`ModelPredictor.from_layout` reads of a Measurement Set's layout."""

    antenna_positions_itrf_m: Any
    antenna1: Any
    antenna2: Any
    times_mjd: Any
    interval_s: Any
    uvw_m: Any
    frequencies_hz: Any
    channel_width_hz: Any
    phase_center_deg: Any
    dec_app_deg: Any


class ModelPredictor:
    """Predicts the visibilities of a component list for one Measurement Set.

    Parameters
    ----------
    components : Components
        Point sources; negative fluxes are allowed (a solve may produce them).
    antenna_positions_itrf_m : (n_ant, 3) float
        Antenna positions, ITRF, metres; used when ``uvw_m`` is not given.
    antenna1, antenna2 : (n_bl,) int
        Antenna rows of the baselines.
    times_mjd : (n_time,) float
        Mid-integration times, MJD UTC.
    frequencies_hz : (n_chan,) float
        Channel centres.
    channel_width_hz, interval_s : float
        Width of a channel and length of an integration, for the smearing.
    phase_center_deg : (float, float)
        ICRS right ascension and declination of the phase centre.
    dec_app_deg : float or None
        Apparent declination of the drift scan: beam and fringe stopping stay on its meridian. None for arrays that
        track the phase centre.
    beam : callable or None
        Power response (separation_rad, frequency_hz); None for intrinsic fluxes.
    smearing : bool
        Include time and channel smearing.
    uvw_m : (n_time, n_bl, 3) float, optional
        The MS's own UVW, metres; antenna coordinates are derived from it by least squares.
    n_threads : int, optional
        Threads; by default the processors this process may use.
    """

    def __init__(
        self,
        components: Components,
        *,
        antenna_positions_itrf_m: npt.ArrayLike,
        antenna1: npt.ArrayLike,
        antenna2: npt.ArrayLike,
        times_mjd: npt.ArrayLike,
        frequencies_hz: npt.ArrayLike,
        channel_width_hz: float,
        interval_s: float,
        phase_center_deg: tuple[float, float],
        dec_app_deg: float | None,
        beam: Beam | None = airy_power,
        smearing: bool = True,
        uvw_m: npt.ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.components = components
        self.frequencies_hz = np.atleast_1d(np.asarray(frequencies_hz, dtype=np.float64))
        self.times_mjd = np.atleast_1d(np.asarray(times_mjd, dtype=np.float64))
        self._positions = np.asarray(antenna_positions_itrf_m, dtype=np.float64)
        self._pairs = np.stack([np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64)], axis=1)
        self._uvw = None if uvw_m is None else np.asarray(uvw_m)
        self._width_hz = abs(float(channel_width_hz))
        self._interval_s = float(interval_s)
        self._centre = phase_center_deg
        self._dec_app_deg = dec_app_deg
        self._beam = beam
        self._smearing = smearing
        self._n_threads = n_threads or len(os.sched_getaffinity(0))
        self._require_shapes()

    @classmethod
    def from_layout(cls, components: Components, layout: LayoutLike, **options: Any) -> Self:
        """Predictor with the geometry of a Measurement Set; ``options`` are beam, smearing and n_threads."""
        return cls(
            components,
            antenna_positions_itrf_m=layout.antenna_positions_itrf_m,
            antenna1=layout.antenna1,
            antenna2=layout.antenna2,
            times_mjd=layout.times_mjd,
            frequencies_hz=layout.frequencies_hz,
            channel_width_hz=layout.channel_width_hz,
            interval_s=layout.interval_s,
            phase_center_deg=layout.phase_center_deg,
            dec_app_deg=layout.dec_app_deg,
            **{"uvw_m": layout.uvw_m, **options},
        )

    def predict(
        self, times: slice = slice(None), channels: slice = slice(None), *, out: Complexes | None = None
    ) -> Complexes:
        """Stokes I model (the same for XX and YY) of some integrations and channels.

        Parameters
        ----------
        times, channels
            Slices of the layout's axes.
        out : (n_time, n_baseline, n_channel) complex64, optional
            Array to write into; reusing one saves a third of the time where memory is slow to touch first.

        Returns
        -------
        (n_time, n_baseline, n_channel) complex64
            Jy, in the MS's sign convention and phase centre.
        """
        rows = np.arange(len(self.times_mjd))[times]
        frequency = self.frequencies_hz[channels]
        shape = (len(rows), len(self._pairs), len(frequency))
        out = np.empty(shape, np.complex64) if out is None else out
        if out.shape != shape:
            raise ShapeError(f"out has shape {out.shape}, expected {shape}")
        out[...] = 0.0
        if not out.size:
            return out
        for sign in (1.0, -1.0):
            members = np.flatnonzero(np.sign(self.components.flux_jy) == sign)
            if len(members):
                part = self._prepare(self.components.select(members), rows, frequency)
                add_part(part, frequency, sign, self._n_threads, out)
        return out

    def _require_shapes(self) -> None:
        n_time, n_bl = len(self.times_mjd), len(self._pairs)
        if self._uvw is not None and self._uvw.shape != (n_time, n_bl, 3):
            raise ShapeError(f"uvw_m has shape {self._uvw.shape}, expected {(n_time, n_bl, 3)}")
        if n_bl and self._pairs.max() >= len(self._positions):
            raise ShapeError(f"antenna {self._pairs.max()} has no position: {len(self._positions)} are given")

    def _antenna_uvw(self, rows: Ints, axes: Floats) -> Floats:
        """Antenna coordinates (n_time, n_ant, 3) in the uvw frame, about the median antenna."""
        if self._uvw is None:
            uvw = np.einsum("tij,aj->tai", axes, self._positions)
        else:
            uvw = np.stack([self._solve_antennas(self._uvw[t]) for t in rows])
        return np.asarray(uvw - np.median(uvw, axis=1, keepdims=True))

    def _solve_antennas(self, uvw: Floats) -> Floats:
        """Antenna coordinates (n_ant, 3) of one integration; rows that are missing in the table are NaN."""
        known = np.isfinite(uvw).all(axis=1)
        if known.all():
            return self._antenna_from_baseline @ uvw
        return antenna_from_baseline(self._pairs[known], len(self._positions)) @ uvw[known]

    @cached_property
    def _antenna_from_baseline(self) -> Floats:
        return antenna_from_baseline(self._pairs, len(self._positions))

    def _prepare(self, components: Components, rows: Ints, frequency: Floats) -> Part:
        """Geometry and amplitudes of sources of one sign, sorted and split for the expansion."""
        jd = self.times_mjd[rows] + 2400000.5
        axes = geometry.uvw_axes(self._centre[0], self._centre[1], jd)
        source = geometry.icrs_to_itrs(components.ra_deg, components.dec_deg, jd)
        centre = axes[:, None, 2]
        pointing = centre
        if self._dec_app_deg is not None:
            pointing = geometry.meridian_direction(np.radians(self._dec_app_deg))[None, None, :]
        uvw = self._antenna_uvw(rows, axes) / SPEED_OF_LIGHT_M_S
        offset = source - pointing
        turning = EARTH_ROTATION_RAD_S * np.cross(np.array([0.0, 0.0, 1.0]), offset)
        width, interval = (self._width_hz, self._interval_s) if self._smearing else (0.0, 0.0)
        phases = AntennaPhases(
            delay_s=_project(uvw, axes, source - centre),
            time_rate=(np.pi * interval * _project(uvw, axes, turning)).astype(np.float32),
            channel_turn=(np.pi * width * _project(uvw, axes, offset)).astype(np.float32),
        )
        separation = 2.0 * np.arcsin(np.minimum(1.0, 0.5 * np.linalg.norm(offset, axis=-1)))
        flux = components.flux_at(frequency)[None] * self._beam_power(separation, frequency)
        return sort_part(phases, np.abs(flux), self._pairs, float(frequency.max()))

    def _beam_power(self, separation_rad: Floats, frequency: Floats) -> Floats:
        """Response (n_time, n_src, n_chan), evaluated every few MHz and linear between."""
        if self._beam is None:
            return np.ones((*separation_rad.shape, len(frequency)))
        n_node = min(len(frequency), 2 + int(np.ptp(frequency) / BEAM_NODE_HZ))
        if n_node >= len(frequency):
            return self._beam(separation_rad[..., None], frequency)
        nodes = np.linspace(frequency.min(), frequency.max(), n_node)
        power = self._beam(separation_rad[..., None], nodes)
        place = (frequency - nodes[0]) / (nodes[1] - nodes[0])
        left = np.minimum(place.astype(np.int64), n_node - 2)
        share = place - left
        return np.asarray(power[..., left] * (1.0 - share) + power[..., left + 1] * share)


def antenna_from_baseline(pairs: Ints, n_ant: int) -> Floats:
    """Least-squares operator (n_ant, n_bl) from ``UVW = u_1 - u_2`` to antenna coordinates.

    Antennas without baselines get 0; each connected set is free by a constant, which no visibility sees.
    """
    design = np.zeros((len(pairs), n_ant))
    rows = np.arange(len(pairs))
    np.add.at(design, (rows, pairs[:, 0]), 1.0)
    np.add.at(design, (rows, pairs[:, 1]), -1.0)
    return np.asarray(np.linalg.pinv(design.T @ design, rcond=1e-9, hermitian=True) @ design.T)


def _project(antenna_uvw: Floats, axes: Floats, vector: Floats) -> Floats:
    """(n_time, n_ant, n_src) scalar products of antenna coordinates with ITRS vectors in the uvw frame."""
    return np.asarray(np.einsum("tai,tij,tsj->tas", antenna_uvw, axes, vector, optimize=True))
