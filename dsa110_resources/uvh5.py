"""Raw subbands: UVH5 files as the telescope's writer leaves them (old array shapes, float32 uvw, no phase centre).

What pyuvdata would make of such a file is wrong (it takes ``drift`` for zenith phasing); these readers take the true
declination from ``extra_keywords``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_assets.science import instrument
from dsa110_resources.errors import CorruptInputError, ForeignDataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST_POSSIBLE_MJD = 58000.0
"""Before any DSA-110 data (2017-09): without its clock the writer falls back to MJD 55000."""
POLARIZATION_NAMES = {-5: "XX", -6: "YY", -7: "XY", -8: "YX", -1: "RR", -2: "LL", -3: "RL", -4: "LR"}
_COUNTS = ("Nblts", "Nbls", "Ntimes", "Nfreqs", "Npols", "Nspws", "Nants_data")
_SUBBAND_WIDTH_HZ = (instrument.BAND_TOP_HZ - instrument.BAND_BOTTOM_HZ) / instrument.N_SUBBANDS


@dataclass(frozen=True, eq=False)
class SubbandHeader:
    """Header of one raw subband.

    Attributes
    ----------
    path, file_size
        The file and its size in bytes.
    telescope_name
        ``OVRO_MMA``.
    times_jd : (n_time,) float
        Mid-times of the integrations, JD UTC.
    integration_s
        Integration time, seconds.
    frequencies_hz : (n_channel,) float
        In file order: descending.
    channel_width_hz
        Positive, Hz.
    polarizations
        Such as ``("XX", "YY")``.
    n_baselines, n_blts, n_antennas
        Baselines (autos included) per integration, rows, antennas with data.
    antenna_names
        All stations of the header.
    antenna_positions_m : (n_station, 3) float
        ITRF minus telescope, metres.
    antenna_diameters_m : (n_station,) float
        Metres.
    dec_app_rad
        Apparent declination of the meridian point the data are phased to, radians.
    history
        The writer's own line.
    """

    path: Path
    file_size: int
    telescope_name: str
    times_jd: Floats
    integration_s: float
    frequencies_hz: Floats
    channel_width_hz: float
    polarizations: tuple[str, ...]
    n_baselines: int
    n_blts: int
    n_antennas: int
    antenna_names: tuple[str, ...]
    antenna_positions_m: Floats
    antenna_diameters_m: Floats
    dec_app_rad: float
    history: str

    @property
    def time_start_jd(self) -> float:
        """Mid-time of the first integration, JD UTC: what names the group."""
        return float(self.times_jd[0])

    @property
    def n_times(self) -> int:
        """Number of integrations."""
        return len(self.times_jd)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.frequencies_hz)

    @property
    def descending(self) -> bool:
        """Whether channels descend in frequency (all that the telescope writes do)."""
        return bool(self.frequencies_hz[0] > self.frequencies_hz[-1])

    @cached_property
    def subband(self) -> int:
        """Subband index by frequency, 0 the highest: the file's name is a hint only."""
        centre = float(self.frequencies_hz.mean())
        return round((instrument.BAND_TOP_HZ - centre) / _SUBBAND_WIDTH_HZ - 0.5)


@dataclass(frozen=True, eq=False)
class Baselines:
    """Baselines of one integration, as recorded.

    Attributes
    ----------
    antenna1, antenna2 : (n_baseline,) int
        Indices into the header's stations; antenna1 > antenna2 occurs.
    uvw_m : (n_baseline, 3) float
        Header uvw (antenna 2 minus antenna 1), metres, of float32 precision.
    """

    antenna1: Ints
    antenna2: Ints
    uvw_m: Floats


@contextmanager
def open_raw(path: Path) -> Iterator[h5py.File]:
    """Open a raw file, naming what is wrong when it is no whole HDF5 file."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CorruptInputError(
            f"cannot be read ({error.strerror})", path=path, cure="check the path and rights"
        ) from error
    if size == 0:
        raise CorruptInputError("the file is empty (0 bytes)", path=path, cure="copy it again from its node")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        truncated = "truncated" in str(error)
        what = f"the file is truncated at {size} bytes" if truncated else f"not a readable HDF5 file ({error})"
        raise CorruptInputError(what, path=path, cure="copy it again from its node") from error
    with file:
        try:
            yield file
        except (KeyError, OSError) as error:
            raise CorruptInputError(f"damaged: {error}", path=path, cure="copy it again from its node") from error


def read_group_time(path: Path) -> float:
    """Mid-time of the first integration, JD UTC: the cheapest way to know a file's group.

    Raises
    ------
    CorruptInputError
        Empty, truncated or damaged file.
    ForeignDataError
        A time no DSA-110 file can have (a writer without its clock says MJD 55000).
    """
    with open_raw(path) as file:
        times = file["Header/time_array"]
        if times.shape[0] == 0:
            raise CorruptInputError("the file holds no integration", path=path)
        return _possible_time(float(times[0]), path)


def _possible_time(time_jd: float, path: Path) -> float:
    mjd = time_jd - 2400000.5
    if not math.isfinite(mjd) or mjd < FIRST_POSSIBLE_MJD:
        raise ForeignDataError(
            f"the header says MJD {mjd:.5f}, which this telescope cannot have observed",
            path=path,
            cure="the node had lost its clock (it writes MJD 55000): the data have no time and stay quarantined",
        )
    return time_jd


def read_header(path: Path) -> SubbandHeader:
    """Read and check one raw header; the visibilities are not touched (a few milliseconds).

    Raises
    ------
    CorruptInputError
        Empty, truncated, damaged or inconsistent file.
    ForeignDataError
        Another telescope's file, or an impossible time.
    """
    path = Path(path)
    with open_raw(path) as file:
        telescope = read_telescope(file)
        if telescope != instrument.TELESCOPE_NAME:
            raise ForeignDataError(
                f"written by telescope {telescope!r}, not {instrument.TELESCOPE_NAME!r}",
                path=path,
                cure="use `dsa110 convert FILE --out MS` for other telescopes' files",
            )
        _possible_time(float(file["Header/time_array"][0]), path)
        counts = {name: int(_field(file, f"Header/{name}")) for name in _COUNTS}
        _require_shapes(file, counts, path)
        result = SubbandHeader(
            path=path,
            file_size=path.stat().st_size,
            telescope_name=telescope,
            times_jd=np.asarray(file["Header/time_array"][:: counts["Nbls"]], dtype=np.float64),
            integration_s=float(file["Header/integration_time"][0]),
            frequencies_hz=_field(file, "Header/freq_array").astype(np.float64).reshape(-1),
            channel_width_hz=float(np.abs(_field(file, "Header/channel_width")).reshape(-1)[0]),
            polarizations=tuple(
                POLARIZATION_NAMES.get(int(code), str(code)) for code in _field(file, "Header/polarization_array")
            ),
            n_baselines=counts["Nbls"],
            n_blts=counts["Nblts"],
            n_antennas=counts["Nants_data"],
            antenna_names=tuple(_text(name) for name in _field(file, "Header/antenna_names")),
            antenna_positions_m=_field(file, "Header/antenna_positions").astype(np.float64),
            antenna_diameters_m=_field(file, "Header/antenna_diameters").astype(np.float64),
            dec_app_rad=float(_field(file, "Header/extra_keywords/phase_center_dec")),
            history=_text(_field(file, "Header/history")),
        )
    _require_sane(result)
    return result


def read_telescope(file: h5py.File) -> str:
    """The telescope's name in an open UVH5 file."""
    return _text(_field(file, "Header/telescope_name"))


def _field(file: h5py.File, name: str) -> npt.NDArray[Any]:
    """A whole dataset by the low-level interface: a header of 20 fields must not cost 15 ms a file."""
    dataset = h5py.h5d.open(file.id, name.encode())
    values: npt.NDArray[Any] = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def _text(value: object) -> str:
    plain = value.item() if isinstance(value, np.ndarray | np.generic) else value
    return plain.decode("utf-8", "replace").rstrip("\0 ") if isinstance(plain, bytes) else str(plain)


def _require_shapes(file: h5py.File, counts: dict[str, int], path: Path) -> None:
    data_shape = (counts["Nblts"], counts["Nspws"], counts["Nfreqs"], counts["Npols"])
    expected: dict[str, tuple[int, ...]] = {f"Data/{name}": data_shape for name in ("visdata", "flags", "nsamples")}
    rows = ("time_array", "integration_time", "ant_1_array", "ant_2_array")
    expected |= {f"Header/{name}": (counts["Nblts"],) for name in rows}
    expected |= {"Header/uvw_array": (counts["Nblts"], 3), "Header/freq_array": (counts["Nspws"], counts["Nfreqs"])}
    found = {name: h5py.h5d.open(file.id, name.encode()).shape for name in expected}
    wrong = [f"{name} is {found[name]}, not {want}" for name, want in expected.items() if found[name] != want]
    if counts["Nspws"] != 1 or counts["Nblts"] != counts["Nbls"] * counts["Ntimes"] or counts["Nblts"] == 0:
        wrong.append(f"{counts['Nblts']} rows are not {counts['Ntimes']} times of {counts['Nbls']} baselines")
    if not wrong and not _is_written(h5py.h5d.open(file.id, b"Data/visdata")):
        wrong.append("visdata was never written, or not to its end")
    if wrong:
        raise CorruptInputError("; ".join(wrong), path=path, cure="copy it again from its node")


def _is_written(dataset: h5py.h5d.DatasetID) -> bool:
    """Whether all of a dataset has its place in the file (of a compressed one, whether any has)."""
    size = dataset.get_storage_size()
    if dataset.get_create_plist().get_nfilters():
        return bool(size)
    return bool(size >= dataset.dtype.itemsize * math.prod(dataset.shape))


def _require_sane(header: SubbandHeader) -> None:
    """Integrations follow each other, channels form an even comb, the declination is one."""
    wrong = []
    if header.n_times > 1 and np.any(np.abs(np.diff(header.times_jd) * 86400.0 - header.integration_s) > 1e-3):
        wrong.append("its integrations do not follow each other")
    steps = np.diff(header.frequencies_hz)
    if not np.allclose(np.abs(steps), header.channel_width_hz, rtol=1e-6) or np.any(steps * steps[:1] < 0):
        wrong.append("its channels are not an even comb")
    if not 0 <= header.subband < instrument.N_SUBBANDS:
        wrong.append(f"its band ({header.frequencies_hz.mean() / 1e6:.3f} MHz) is not one of this telescope")
    if not abs(header.dec_app_rad) <= math.pi / 2:
        wrong.append(f"phase_center_dec {header.dec_app_rad} is no declination")
    if len(header.antenna_names) != len(header.antenna_positions_m):
        wrong.append("antenna names and positions differ in number")
    if wrong:
        raise CorruptInputError("; ".join(wrong), path=header.path, cure="quarantine it and look at the writer")


def read_baselines(header: SubbandHeader) -> Baselines:
    """Baselines of one integration, after checking that rows are time-major and baselines the same throughout."""
    with open_raw(header.path) as file:
        times = np.asarray(file["Header/time_array"][()], dtype=np.float64)
        ends = [np.asarray(file[f"Header/ant_{i}_array"][()], dtype=np.int64) for i in (1, 2)]
        uvw = file["Header/uvw_array"][: header.n_baselines].astype(np.float64)
    if np.any(times.reshape(header.n_times, -1) != header.times_jd[:, None]):
        raise CorruptInputError("its rows are not ordered by time", path=header.path)
    first = [end[: header.n_baselines].copy() for end in ends]
    for end, once in zip(ends, first, strict=True):
        if np.any(end.reshape(header.n_times, -1) != once):
            raise CorruptInputError("its baselines change from one integration to the next", path=header.path)
        if once.min() < 0 or once.max() >= len(header.antenna_names):
            raise CorruptInputError("a baseline names an antenna the header does not have", path=header.path)
    return Baselines(first[0], first[1], uvw)


def read_visibilities(
    header: SubbandHeader, *, times: slice = slice(None)
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Visibilities, flags and sample counts as recorded (file order of baselines and channels, correlator's sense).

    Parameters
    ----------
    header
        From :func:`read_header`.
    times
        Integrations to read (step 1).

    Returns
    -------
    visibilities, flags, nsamples : (n_time, n_baseline, n_channel, n_pol)
        complex64 (raw units), bool, float32.
    """
    start, stop, _ = times.indices(header.n_times)
    rows = slice(start * header.n_baselines, stop * header.n_baselines)
    shape = (max(0, stop - start), header.n_baselines, header.n_channels, len(header.polarizations))
    with open_raw(header.path) as file:
        visibilities, flags, nsamples = (file[f"Data/{name}"][rows] for name in ("visdata", "flags", "nsamples"))
    return (
        visibilities.astype(np.complex64, copy=False).reshape(shape),
        flags.reshape(shape),
        nsamples.astype(np.float32, copy=False).reshape(shape),
    )
