"""Readings of residual visibilities at source positions, band by band: what a spectrum in the band is made of."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.averaging import AveragedVisibilities
from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, BeamDrift, drift_averaged_power
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.geometry import direction_cosines
from dsa110_assets.science.imaging import ImageGeometry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SubbandReadings:
    """One value per source and part of the band.

    A source's flux density in a part is that of the subtracted model there plus ``residual_jyb / primary_beam``, once
    its neighbours are subtracted well.

    Attributes
    ----------
    frequencies_hz : (n_part,)
        Weighted mean frequencies; NaN for parts without data.
    residual_jyb : (n_source, n_part)
        Weighted mean of the residual visibilities turned to the source, Jy/beam, apparent; NaN without data.
    primary_beam : (n_source, n_part)
        Drift-averaged power in the part.
    """

    frequencies_hz: Floats
    residual_jyb: Floats
    primary_beam: Floats


@numba.njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _turn_and_sum(visibilities, weights, uvw, lmn, wavenumber, part_of, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out[s, part] = sum of w Re(V exp(-2 pi i k uvw . lmn)), the phasor stepped from channel to channel."""
    n_row, n_channel = visibilities.shape
    for s in numba.prange(lmn.shape[0]):
        for row in range(n_row):
            turns = uvw[row, 0] * lmn[s, 0] + uvw[row, 1] * lmn[s, 1] + uvw[row, 2] * lmn[s, 2]
            phase = -2.0 * np.pi * ((turns * wavenumber[0]) % 1.0)
            phasor = complex(np.cos(phase), np.sin(phase))
            spacing, step = 0.0, complex(1.0, 0.0)
            for c in range(n_channel):
                if c > 0:
                    if abs(wavenumber[c] - wavenumber[c - 1] - spacing) > 1e-9:  # flags moved a mean frequency
                        spacing = wavenumber[c] - wavenumber[c - 1]
                        phase = -2.0 * np.pi * turns * spacing
                        step = complex(np.cos(phase), np.sin(phase))
                    phasor *= step
                value = visibilities[row, c]
                out[s, part_of[c]] += weights[row, c] * (value.real * phasor.real - value.imag * phasor.imag)


def read_subbands(
    averaged: AveragedVisibilities,
    weights: npt.NDArray[np.float32],
    drift: BeamDrift,
    *,
    geometry: ImageGeometry,
    position_deg: tuple[Floats, Floats],
    n_parts: int = 4,
) -> SubbandReadings:
    """Read residual visibilities at positions in equal parts of the band, by direct Fourier sums.

    Parameters
    ----------
    averaged
        Residual visibilities.
    weights : (n_row, n_channel)
        Imaging weights.
    drift
        Pointings and weights of the primary beam.
    geometry
        Phase centre and aberration.
    position_deg
        ICRS (ra, dec), each (n_source,), degrees.
    n_parts
        Parts of the band; must not exceed the channels.
    """
    n_channel = len(averaged.frequencies_hz)
    if not 1 <= n_parts <= n_channel:
        raise ShapeError(f"{n_channel} channels cannot be read in {n_parts} parts")
    part_of = np.arange(n_channel) * n_parts // n_channel
    ll, mm, _ = direction_cosines(position_deg[0], position_deg[1], geometry.ra_deg, geometry.dec_deg)
    ll, mm = geometry.aberration * np.atleast_1d(ll), geometry.aberration * np.atleast_1d(mm)
    lmn = np.stack([ll, mm, np.sqrt(np.maximum(1.0 - ll**2 - mm**2, 0.0)) - 1.0], axis=1)
    sums = np.zeros((len(ll), n_parts))
    visibilities = averaged.visibilities.reshape(-1, n_channel)
    wavenumber = averaged.frequencies_hz / SPEED_OF_LIGHT_M_S
    _turn_and_sum(visibilities, weights, averaged.uvw_m.reshape(-1, 3), lmn, wavenumber, part_of, sums)
    per_channel = weights.sum(axis=0, dtype=np.float64)
    total = np.bincount(part_of, per_channel, n_parts)
    moment = np.bincount(part_of, per_channel * averaged.frequencies_hz, n_parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        frequencies, readings = moment / total, sums / total
    power = np.full(readings.shape, np.nan)
    for part in np.flatnonzero(total > 0):
        chosen = part_of == part
        here = BeamDrift(drift.ra_deg, drift.dec_deg, drift.frequencies_hz[chosen], drift.weights[:, chosen])
        power[:, part] = drift_averaged_power(position_deg[0], position_deg[1], here)
    return SubbandReadings(np.asarray(frequencies), np.asarray(readings), power)
