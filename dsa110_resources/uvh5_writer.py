"""Raw UVH5 subband files exactly as ``dsa110-meridian-fs`` (``dsamfs/io.py``) writes them.

Every dataset, dtype, fixed-length string, chunk shape and unlimited axis of a real header, in order of creation. The
arrays are written whole: the chunk layout is that of the appending writer at a thousandth of its time.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.geometry import header_uvw
from dsa110_assets.science.instrument import (
    ALTITUDE_M,
    DISH_DIAMETER_M,
    HEADER_INTEGRATION_S,
    INSTRUMENT_NAME,
    LATITUDE_DEG,
    LONGITUDE_DEG,
    SAMPLES_PER_INTEGRATION,
    TELESCOPE_NAME,
    ArrayConfiguration,
)

_N_POLARIZATIONS = 2
_XX_YY = (-5, -6)
_BLT_CHUNK = 1024
_UVW_CHUNK = (512, 3)


@dataclass(frozen=True)
class RawHeader:
    """What a subband's header says, beyond the array.

    Attributes
    ----------
    array
        The array configuration.
    frequencies_hz : (n_chan,) float
        Channel centres, descending, Hz.
    times_jd : (n_time,) float
        Middle of each integration, JD UTC.
    dec_app_rad
        Apparent declination of the phase centre, radians.
    applied_delays_ns : (n_telescope, 2) int
        Delays set in the correlator; 0 for antennas that are not in it.
    written_at
        Local time for ``history``, ``YYYY-MM-DDTHH:MM:SS``.
    telescope_name
        As in the file; only a simulated foreign file differs.
    """

    array: ArrayConfiguration
    frequencies_hz: npt.NDArray[np.float64]
    times_jd: npt.NDArray[np.float64]
    dec_app_rad: float
    applied_delays_ns: npt.NDArray[np.int64]
    written_at: str
    telescope_name: str = TELESCOPE_NAME


def write_subband(path: Path, header: RawHeader, visibilities: npt.NDArray[np.complex64]) -> None:
    """Write one subband file; the caller publishes it by renaming.

    Parameters
    ----------
    path
        File to create; replaced if it exists.
    header
        What to say.
    visibilities : (n_time, n_baseline, n_chan, 2) or (n_blt, n_chan, 2) complex64
        Raw correlator units, baselines fastest, in the array's baseline order.

    Raises
    ------
    ValueError
        If the data do not fit the header.
    """
    first, second = header.array.baselines()
    n_channels, n_times = len(header.frequencies_hz), len(header.times_jd)
    shape = (n_times * len(first), 1, n_channels, _N_POLARIZATIONS)
    if visibilities.size != np.prod(shape):
        raise ValueError(f"{path}: visibilities of shape {visibilities.shape} do not fill {shape}")
    with h5py.File(path, "w") as file:
        _write_header(file.create_group("Header"), header, first, second)
        _write_data(file.create_group("Data"), np.ascontiguousarray(visibilities, dtype=np.complex64).reshape(shape))


def _write_header(
    group: h5py.Group, header: RawHeader, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> None:
    array, n_times = header.array, len(header.times_jd)
    n_telescope, n_baselines = len(array.antenna_names), len(first)
    scalars = {
        "latitude": LATITUDE_DEG,
        "longitude": LONGITUDE_DEG,
        "altitude": ALTITUDE_M,
        "telescope_name": np.bytes_(header.telescope_name),
        "instrument": np.bytes_(INSTRUMENT_NAME),
        "object_name": np.bytes_("search"),
        "history": np.bytes_(f"written by dsa110-meridian-fringestopping on {header.written_at}"),
        "phase_type": np.bytes_("drift"),
        "phase_center_app_dec": float(header.dec_app_rad),
        "Nants_data": len(array.antenna_order),
        "Nants_telescope": n_telescope,
    }
    for name, value in scalars.items():
        group.create_dataset(name, data=value)
    group.create_dataset("antenna_diameters", data=np.full(n_telescope, DISH_DIAMETER_M))
    _write_growing(group, "ant_1_array", np.tile(first, n_times))
    _write_growing(group, "ant_2_array", np.tile(second, n_times))
    group.create_dataset("antenna_names", data=np.array(array.antenna_names, dtype="S4"))
    group.create_dataset("antenna_numbers", data=np.arange(n_telescope))
    counts = {
        "Nbls": n_baselines,
        "Nblts": n_baselines * n_times,
        "Nfreqs": len(header.frequencies_hz),
        "Npols": _N_POLARIZATIONS,
        "Ntimes": n_times,
        "Nspws": 1,
    }
    for name, count in counts.items():
        group.create_dataset(name, data=count)
    positions = array.antenna_positions_m
    uvw = header_uvw(positions[second] - positions[first], header.dec_app_rad).astype(np.float32)
    group.create_dataset("uvw_array", data=np.tile(uvw, (n_times, 1)), chunks=_UVW_CHUNK, maxshape=(None, 3))
    _write_growing(group, "time_array", np.repeat(header.times_jd, n_baselines))
    _write_growing(group, "integration_time", np.full(n_baselines * n_times, HEADER_INTEGRATION_S))
    group.create_dataset("freq_array", data=header.frequencies_hz[None, :])
    group.create_dataset("channel_width", data=array.channel_width_hz)
    group.create_dataset("spw_array", data=np.array([1]))
    group.create_dataset("polarization_array", data=np.array(_XX_YY))
    group.create_dataset("antenna_positions", data=positions)
    _write_extra_keywords(group.create_group("extra_keywords"), header)


def _write_growing(group: h5py.Group, name: str, values: npt.NDArray[np.generic]) -> None:
    group.create_dataset(name, data=values, chunks=(_BLT_CHUNK,), maxshape=(None,))


def _write_extra_keywords(group: h5py.Group, header: RawHeader) -> None:
    """Only here stands the true phase centre."""
    dec_deg, n_antennas = np.degrees(header.dec_app_rad), len(header.array.antenna_order)
    group.create_dataset("phase_center_dec", data=float(header.dec_app_rad))
    group.create_dataset("ha_phase_center", data=0.0)
    group.create_dataset("phase_center_epoch", data="HADEC", dtype=h5py.string_dtype())
    table = f"/home/ubuntu/data//fringestopping_table_dec{dec_deg:.1f}deg_{n_antennas}ant.npz"
    group.create_dataset("fs_table", data=np.bytes_(table))
    delays = " ".join(str(int(d)) for d in header.applied_delays_ns.ravel())
    group.create_dataset("applied_delays_ns", data=np.bytes_(delays))


def _write_data(group: h5py.Group, visibilities: npt.NDArray[np.complex64]) -> None:
    """Data, flags (all False) and nsamples (constant) with the chunks that h5py chose for the real writer."""
    shape = visibilities.shape
    channels = min(12, shape[2])
    _write_chunks(group, "visdata", visibilities, (128, 1, channels, 1))
    flags = np.broadcast_to(np.zeros((), dtype=bool), shape)
    _write_chunks(group, "flags", flags, (256, 1, min(24, shape[2]), 1))
    nsamples = np.broadcast_to(np.float32(SAMPLES_PER_INTEGRATION), shape)
    _write_chunks(group, "nsamples", nsamples, (256, 1, channels, 1))


def _write_chunks(
    group: h5py.Group, name: str, values: npt.NDArray[np.generic], chunks: tuple[int, int, int, int]
) -> None:
    """Create a dataset with an unlimited first axis and hand HDF5 whole chunks: a chunk holds one polarisation, and
    letting HDF5 scatter interleaved samples into it costs twice the time.
    """
    shape = values.shape
    dataset = group.create_dataset(name, shape, values.dtype, chunks=chunks, maxshape=(None, *shape[1:]))
    counts = tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    rest = -shape[0] % chunks[0]
    if values.strides == (0, 0, 0, 0):  # a constant
        tiles = np.broadcast_to(np.full(chunks, values.flat[0]), counts + chunks)
    else:
        padded = np.concatenate([values, np.zeros((rest, *shape[1:]), values.dtype)]) if rest else values
        split = padded.reshape(counts[0], chunks[0], counts[1], chunks[1], counts[2], chunks[2], counts[3], chunks[3])
        tiles = np.ascontiguousarray(split.transpose(0, 2, 4, 6, 1, 3, 5, 7))
    for place in np.ndindex(counts):
        offset = tuple(k * chunk for k, chunk in zip(place, chunks, strict=True))
        dataset.id.write_direct_chunk(offset, np.ascontiguousarray(tiles[place]))
