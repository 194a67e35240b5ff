"""A copy of a Measurement Set at another phase centre, rigorously: apparent directions, not a rotation in J2000.

CASA's ``phaseshift`` ignores differential aberration (2.4 mm of 2.2 km after 0.9 deg); here the visibilities turn by
the exact path difference of the two apparent centres and UVW are computed anew from the antenna positions:

    V_new = V_old P_1 conj(P_2),   P_a = exp(2 pi i f x_a . (s_old(t) − s_new(t)) / c).
"""

import shutil
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.geometry import icrs_to_itrs, uvw_axes
from dsa110_assets.science.phasing import antenna_phasors
from dsa110_resources.archive import atomic_directory
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import Layout, open_ms, read_layout, require_consistent

_MJD_JD = 2400000.5
_BLOCK = 4
_COLUMNS = ("DATA", "CORRECTED_DATA", "MODEL_DATA")
_DIRECTIONS = ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")


def rephase_measurement_set(source: Path, target: Path, *, ra_deg: float, dec_deg: float) -> Layout:
    """Copy a Measurement Set to another phase centre.

    DATA, CORRECTED_DATA and MODEL_DATA are turned, UVW recomputed, all three directions of FIELD set. The pointing (the
    apparent declination the dishes looked at) stays what it was.

    Parameters
    ----------
    source
        Left alone.
    target
        Made whole or not at all.
    ra_deg, dec_deg
        New centre, ICRS, degrees.

    Returns
    -------
    Layout
        Of the copy.

    Raises
    ------
    PermanentError
        If rows are missing or unordered: UVW could not be written back.
    """
    require_consistent(source)
    layout = read_layout(source)
    if layout.rows is not None:
        raise PermanentError("its rows are not regular", path=source, cure="convert the group again")
    jd = layout.times_mjd + _MJD_JD
    old = icrs_to_itrs([layout.phase_center_deg[0]], [layout.phase_center_deg[1]], jd)[:, 0]
    new = icrs_to_itrs([ra_deg], [dec_deg], jd)[:, 0]
    with atomic_directory(target) as staged:
        shutil.copytree(source, staged)
        _turn_columns(read_layout(staged), new - old)
        _write_geometry(layout, staged, uvw_axes(ra_deg, dec_deg, jd))
        _write_centre(staged, ra_deg, dec_deg)
    return read_layout(target)


def _turn_columns(layout: Layout, shift: npt.NDArray[np.float64]) -> None:
    positions = layout.antenna_positions_itrf_m - layout.antenna_positions_itrf_m.mean(axis=0)
    with open_ms(layout, write=True) as opened:
        for name in filter(opened.has, _COLUMNS):
            for start in range(0, layout.n_times, _BLOCK):
                times = slice(start, min(start + _BLOCK, layout.n_times))
                data = opened.read(name, times=times)
                phasors = antenna_phasors(positions, shift[times], layout.frequencies_hz)
                _turn(data, phasors, layout.antenna1, layout.antenna2)
                opened.write(name, data, times=times)


@numba.njit(cache=True, nogil=True, parallel=True)
def _turn(data, phasors, ant1, ant2):  # type: ignore[no-untyped-def]
    n_time, n_bl, n_chan, n_pol = data.shape
    for k in numba.prange(n_bl):
        for t in range(n_time):
            for c in range(n_chan):
                factor = phasors[t, ant1[k], c] * np.conj(phasors[t, ant2[k], c])
                for p in range(n_pol):
                    data[t, k, c, p] *= factor


def _write_geometry(layout: Layout, path: Path, axes: npt.NDArray[np.float64]) -> None:
    baseline = layout.antenna_positions_itrf_m[layout.antenna1] - layout.antenna_positions_itrf_m[layout.antenna2]
    uvw = np.einsum("tij,bj->tbi", axes, baseline)
    with open_table(path, write=True) as table:
        table.putcol("UVW", uvw.reshape(-1, 3))


def _write_centre(path: Path, ra_deg: float, dec_deg: float) -> None:
    centre = np.radians([(ra_deg + 180.0) % 360.0 - 180.0, dec_deg])
    with open_table(path / "FIELD", write=True) as field:
        for name in _DIRECTIONS:
            for row in range(field.nrows()):
                field.putcell(name, row, centre.reshape(1, 2))
