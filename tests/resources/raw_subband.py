"""A raw subband file by hand, from the format's description alone: an independent check of reader and simulator."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.coordinates import ITRS, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from dsa110_assets.science.instrument import (
    ALTITUDE_M,
    HEADER_INTEGRATION_S,
    LATITUDE_DEG,
    LONGITUDE_DEG,
    ArrayConfiguration,
)

START_JD = 2461066.4347222224  # 2026-01-25T22:26:00
DEC_APP_DEG = 16.27


def meridian_uvw(array: ArrayConfiguration, dec_app_rad: float) -> npt.NDArray[np.float64]:
    """TELESCOPE 1.5 written out again: u = y, v = -sin d x + cos d z, w = cos d x + sin d z for x2 - x1."""
    lon = np.radians(LONGITUDE_DEG)
    first, second = array.baselines()
    b = array.antenna_positions_m[second] - array.antenna_positions_m[first]
    x = b[:, 0] * np.cos(lon) + b[:, 1] * np.sin(lon)
    y = b[:, 1] * np.cos(lon) - b[:, 0] * np.sin(lon)
    s, c = np.sin(dec_app_rad), np.cos(dec_app_rad)
    return np.stack([y, -s * x + c * b[:, 2], c * x + s * b[:, 2]], axis=1)


def raw_times(array: ArrayConfiguration, start_jd: float = START_JD) -> npt.NDArray[np.float64]:
    """Mid-times of the integrations, JD."""
    return start_jd + np.arange(array.n_integrations) * HEADER_INTEGRATION_S / 86400.0


def write_raw_subband(
    path: Path,
    array: ArrayConfiguration,
    subband: int,
    *,
    visibilities: npt.NDArray[np.complex64] | None = None,
    start_jd: float = START_JD,
    dec_app_deg: float = DEC_APP_DEG,
    telescope_name: bytes = b"OVRO_MMA",
) -> Path:
    """Write one file; ``visibilities`` is (time, baseline, channel, 2) in the file's own order and sense."""
    first, second = array.baselines()
    n_bl, n_t, n_chan = len(first), array.n_integrations, array.n_channels
    n_blts = n_bl * n_t
    dec = np.radians(dec_app_deg)
    n_ant = len(array.antenna_names)
    if visibilities is None:
        visibilities = np.zeros((n_t, n_bl, n_chan, 2), np.complex64)
    with h5py.File(path, "w") as file:
        h = file.create_group("Header")
        h["latitude"], h["longitude"], h["altitude"] = LATITUDE_DEG, LONGITUDE_DEG, ALTITUDE_M
        h["telescope_name"] = np.bytes_(telescope_name)
        h["instrument"], h["object_name"] = np.bytes_(b"DSA"), np.bytes_(b"search")
        h["history"] = np.bytes_(b"written by dsa110-meridian-fringestopping on 2026-01-25T14:26:00")
        h["phase_type"] = np.bytes_(b"drift")
        h["phase_center_app_dec"] = dec
        h["Nants_data"], h["Nants_telescope"] = len(array.antenna_order), n_ant
        h["antenna_diameters"] = np.full(n_ant, 4.65)
        h["Nbls"], h["Nblts"], h["Nfreqs"], h["Npols"], h["Ntimes"], h["Nspws"] = n_bl, n_blts, n_chan, 2, n_t, 1
        h["antenna_names"] = np.array([name.encode() for name in array.antenna_names], "S4")
        h["antenna_numbers"] = np.arange(n_ant)
        for name, value in (("ant_1_array", first), ("ant_2_array", second)):
            h.create_dataset(name, data=np.tile(value, n_t).astype(np.int64), chunks=(1024,), maxshape=(None,))
        uvw = np.tile(meridian_uvw(array, dec), (n_t, 1)).astype(np.float32)
        h.create_dataset("uvw_array", data=uvw, chunks=(512, 3), maxshape=(None, 3))
        times = np.repeat(raw_times(array, start_jd), n_bl)
        h.create_dataset("time_array", data=times, chunks=(1024,), maxshape=(None,))
        dump = np.full(n_blts, HEADER_INTEGRATION_S)
        h.create_dataset("integration_time", data=dump, chunks=(1024,), maxshape=(None,))
        h["freq_array"] = array.frequencies_hz(subband)[None, :]
        h["channel_width"] = array.channel_width_hz
        h["spw_array"], h["polarization_array"] = np.array([1]), np.array([-5, -6])
        h["antenna_positions"] = array.antenna_positions_m
        extra = h.create_group("extra_keywords")
        extra["phase_center_dec"], extra["ha_phase_center"] = dec, 0.0
        extra["phase_center_epoch"] = "HADEC"
        extra["fs_table"] = np.bytes_(b"/home/ubuntu/data//fringestopping_table.npz")
        extra["applied_delays_ns"] = np.bytes_(" ".join(["0"] * 2 * n_ant).encode())
        d = file.create_group("Data")
        quarter = max(1, -(-n_chan // 4))
        shape, unlimited = (n_blts, 1, n_chan, 2), (None, 1, n_chan, 2)
        data = visibilities.reshape(shape).astype(np.complex64)
        d.create_dataset("visdata", data=data, chunks=(128, 1, quarter, 1), maxshape=unlimited)
        half = max(1, -(-n_chan // 2))
        d.create_dataset("flags", data=np.zeros(shape, bool), chunks=(256, 1, half, 1), maxshape=unlimited)
        nsamples = np.full(shape, 96.0, np.float32)
        d.create_dataset("nsamples", data=nsamples, chunks=(256, 1, quarter, 1), maxshape=unlimited)
    return path


def point_source_visibilities(
    array: ArrayConfiguration,
    subband: int,
    sources: Sequence[tuple[float, float, float]],
    *,
    start_jd: float = START_JD,
    dec_app_deg: float = DEC_APP_DEG,
) -> npt.NDArray[np.complex64]:
    """Direct sum in the correlator's sense, apparent places by astropy: V = S exp(2 pi i (x2 - x1).(s - s_mer) f / c).

    ``sources`` are (ra_deg, dec_deg, flux); no beam, no smearing, no noise. Shape (time, baseline, channel, 2).
    """
    lon, dec = np.radians(LONGITUDE_DEG), np.radians(dec_app_deg)
    meridian = np.array([np.cos(dec) * np.cos(lon), np.cos(dec) * np.sin(lon), np.sin(dec)])
    first, second = array.baselines()
    vectors = array.antenna_positions_m[second] - array.antenna_positions_m[first]
    times = raw_times(array, start_jd)
    total = np.zeros((len(times), len(first), array.n_channels), np.complex128)
    for ra, dec_source, flux in sources:
        apparent = apparent_directions(ra, dec_source, times)
        delay = (apparent - meridian) @ vectors.T / 299792458.0
        total += flux * np.exp(2j * np.pi * delay[:, :, None] * array.frequencies_hz(subband))
    return np.repeat(total[..., None], 2, axis=3).astype(np.complex64)


def apparent_directions(ra_deg: float, dec_deg: float, times_jd: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ITRS unit vectors, (time, 3), by astropy's own chain of frames and its bundled Earth orientation."""
    with iers.earth_orientation_table.set(iers.IERS_A.open(iers.IERS_A_FILE)):
        place = SkyCoord(ra_deg * units.deg, dec_deg * units.deg, frame="icrs")
        itrs = place.transform_to(ITRS(obstime=Time(times_jd, format="jd", scale="utc")))
        xyz = np.asarray(itrs.cartesian.xyz.value).T
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)
