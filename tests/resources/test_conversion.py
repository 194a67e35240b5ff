"""The production writer: visibilities, signs, positions, uvw, missing subbands, refusals, and nothing half-written."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from raw_subband import (
    DEC_APP_DEG,
    START_JD,
    apparent_directions,
    meridian_uvw,
    point_source_visibilities,
    raw_times,
    write_raw_subband,
)

from dsa110_assets.science import geometry
from dsa110_assets.science.instrument import (
    HEADER_INTEGRATION_S,
    RAW_GAIN,
    TELESCOPE_ITRF_M,
    ArrayConfiguration,
    array_configuration,
)
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion import ConversionOptions, convert_group, remove_abandoned_staging
from dsa110_resources.errors import CorruptInputError, DiskFullError, ForeignDataError, LockedError, PermanentError
from dsa110_resources.measurement_set import Layout, flagged_fraction, read_column, read_layout, rewriting

SMALL = array_configuration("small")
C_M_S = 299792458.0


def write_group(
    folder: Path,
    sources: list[tuple[float, float, float]],
    *,
    start_jd: float = START_JD,
    dec_app_deg: float = DEC_APP_DEG,
    array: ArrayConfiguration = SMALL,
    subbands: range | tuple[int, ...] = range(16),
) -> list[Path]:
    """One observation of point sources, a file per subband."""
    paths = []
    for subband in subbands:
        data = point_source_visibilities(array, subband, sources, start_jd=start_jd, dec_app_deg=dec_app_deg)
        path = folder / f"2026-01-25T22:26:0{subband % 2}_sb{subband:02d}.hdf5"
        paths.append(
            write_raw_subband(path, array, subband, visibilities=data, start_jd=start_jd, dec_app_deg=dec_app_deg)
        )
    return paths


def meridian_place(start_jd: float = START_JD, dec_app_deg: float = DEC_APP_DEG) -> tuple[float, float]:
    times = raw_times(SMALL, start_jd)
    ra, dec = geometry.meridian_icrs(np.radians(dec_app_deg), np.array([0.5 * (times[0] + times[-1])]))
    return float(ra[0]), float(dec[0])


@pytest.fixture(scope="module")
def far_source() -> tuple[float, float, float]:
    """1.3 degrees from the centre, not on an axis."""
    ra, dec = meridian_place()
    return (ra + 1.0, dec - 0.85, 2.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, far_source: tuple[float, float, float]) -> list[Path]:
    return write_group(tmp_path_factory.mktemp("group"), [far_source])


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, files: list[Path]) -> Path:
    ms = tmp_path_factory.mktemp("converted") / "2026-01-25_22_26_00.ms"
    # Names and order mean nothing: the group is shuffled.
    convert_group(files[7:] + files[:7], ms, partition="2026-01-25T22:25")
    return ms


def expected_visibilities(layout: Layout, source: tuple[float, float, float]) -> np.ndarray:
    """V = S exp(+2 pi i f (UVW/c).s'), s' the apparent place of the source in the axes of the phase centre."""
    times = layout.times_mjd + 2400000.5
    apparent = apparent_directions(source[0], source[1], times)
    axes = geometry.uvw_axes(*layout.phase_center_deg, times)
    lmn = np.einsum("tij,tj->ti", axes, apparent) - [0, 0, 1]
    turns = np.einsum("tbi,ti->tb", layout.uvw_m, lmn)[:, :, None] * layout.frequencies_hz / C_M_S
    return source[2] * np.exp(2j * np.pi * turns)


def dirty_peak(layout: Layout, visibilities: np.ndarray) -> tuple[float, float]:
    """(l east, m north) of the dirty image's peak: the brightest pixel, then finer and finer by direct sum."""
    import ducc0

    cross = ~layout.autocorrelations
    uvw = layout.uvw_m[:, cross].reshape(-1, 3)
    data = visibilities[:, cross].mean(axis=3).reshape(-1, layout.n_channels).astype(np.complex64)
    n, cell = 2048, np.radians(5.0 / 3600)
    # ducc0 transforms with exp(-2 pi i (u l + v m - w (n - 1))), a Measurement Set means exp(+2 pi i uvw.s)
    image = ducc0.wgridder.vis2dirty(
        uvw=uvw * [-1, -1, 1], freq=layout.frequencies_hz, vis=data, npix_x=n, npix_y=n, pixsize_x=cell, pixsize_y=cell,
        epsilon=1e-5, do_wgridding=True, nthreads=1,
    )  # fmt: skip
    place = (np.array(np.unravel_index(np.argmax(image), image.shape)) - n // 2) * cell
    channels = np.flatnonzero(np.abs(data).max(axis=0) > 0)[::8]
    for step in (cell / 3, cell / 9, cell / 27):
        offsets = [place + step * np.array([i, j]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        place = max(offsets, key=lambda lm: _direct_sum(uvw, data[:, channels], layout.frequencies_hz[channels], lm))
    return float(place[0]), float(place[1])


def _direct_sum(uvw: np.ndarray, data: np.ndarray, frequencies_hz: np.ndarray, lm: np.ndarray) -> float:
    lmn = np.array([*lm, np.sqrt(1 - lm @ lm) - 1])
    return float(np.sum((data * np.exp(-2j * np.pi * (uvw @ lmn)[:, None] * frequencies_hz / C_M_S)).real))


def test_visibilities_are_those_of_a_direct_sum(converted: Path, far_source: tuple[float, float, float]) -> None:
    layout = read_layout(converted)
    data = read_column(layout, "DATA")
    assert data.shape == (8, 528, 128, 2)
    expected = expected_visibilities(layout, far_source)
    for pol in range(2):
        np.testing.assert_allclose(data[..., pol], expected, atol=1e-5)


def test_a_source_far_off_axis_lands_on_its_pixel(converted: Path, far_source: tuple[float, float, float]) -> None:
    layout = read_layout(converted)
    east, north = dirty_peak(layout, read_column(layout, "DATA"))
    expected = geometry.direction_cosines(*far_source[:2], *layout.phase_center_deg)[:2]
    # A tangent plane in ICRS leaves the change of aberration over the field out: 0.25 arcsec; the beam is 17.
    np.testing.assert_allclose([east, north], expected, atol=np.radians(0.45 / 3600))
    assert east > np.radians(0.9)
    assert north < -np.radians(0.8)


@pytest.mark.parametrize(
    ("hours_later", "dec_app_deg"), [(1.109, DEC_APP_DEG), (1.109, 71.633), (6.0, 37.2334051), (11.0, -20.0)]
)
def test_positions_hold_across_zero_hours_and_at_every_declination(
    tmp_path: Path, hours_later: float, dec_app_deg: float
) -> None:
    start = START_JD + hours_later / 24
    ra0, dec0 = meridian_place(start, dec_app_deg)
    if hours_later == 1.109:
        assert min(ra0, 360 - ra0) < 0.2, "the group should lie astride 0h"
    source = ((ra0 + 0.7 / np.cos(np.radians(dec0))) % 360, dec0 + 0.6, 1.0)
    paths = write_group(tmp_path, [source], start_jd=start, dec_app_deg=dec_app_deg, subbands=(2, 9))
    layout = read_layout(convert_group(paths, tmp_path / "x.ms").ms_path)
    assert layout.phase_center_deg == pytest.approx((ra0, dec0), abs=1e-9)
    data = read_column(layout, "DATA")
    good = ~layout.missing_channels
    expected = expected_visibilities(layout, source)
    np.testing.assert_allclose(data[..., good, 0], expected[..., good], atol=1e-5)
    east, north = dirty_peak(layout, data)
    lm = geometry.direction_cosines(*source[:2], ra0, dec0)[:2]
    np.testing.assert_allclose([east, north], lm, atol=np.radians(0.45 / 3600))


def test_rows_channels_times_and_antennas(converted: Path) -> None:
    layout = read_layout(converted)
    assert layout.antenna_names == SMALL.antenna_names
    np.testing.assert_allclose(layout.antenna_positions_itrf_m, SMALL.antenna_positions_m + TELESCOPE_ITRF_M, atol=1e-8)
    np.testing.assert_array_equal(layout.antennas_with_data, np.sort(SMALL.antenna_order))
    assert np.all(layout.antenna1 <= layout.antenna2)
    assert np.all(np.diff(layout.antenna1 * 1000 + layout.antenna2) > 0)
    np.testing.assert_array_equal(
        layout.frequencies_hz, np.sort(np.concatenate([SMALL.frequencies_hz(k) for k in range(16)]))
    )
    np.testing.assert_array_equal(np.diff(layout.frequencies_hz), layout.channel_width_hz)
    np.testing.assert_allclose(layout.times_mjd + 2400000.5, raw_times(SMALL), atol=1e-10)
    assert layout.interval_s == HEADER_INTEGRATION_S
    assert layout.polarizations == ("XX", "YY")
    assert layout.telescope_name == "OVRO_MMA"
    assert layout.group_id == "2026-01-25T22:26:00"
    assert layout.field_name == "drift_2026-01-25_22_26_00"
    assert layout.dec_app_deg == pytest.approx(DEC_APP_DEG, abs=1e-12)
    assert layout.rows is None
    assert set(layout.antenna_diameters_m) == {4.65}


def test_uvw_are_rigorous_and_close_to_the_header_s_at_mid_time(converted: Path) -> None:
    layout = read_layout(converted)
    positions = SMALL.antenna_positions_m
    vectors = positions[layout.antenna1] - positions[layout.antenna2]
    np.testing.assert_allclose(
        np.linalg.norm(layout.uvw_m, axis=2), np.broadcast_to(np.linalg.norm(vectors, axis=1), (8, 528)), atol=1e-8
    )
    # At mid-time the phase centre is on the meridian: the header's, turned round, but for the direction of north
    # (precession turns it by 0.14 deg x sin RA) and for the two half integrations on either side of mid-time.
    header = geometry.header_uvw(vectors, np.radians(DEC_APP_DEG))
    mid = 0.5 * (layout.uvw_m[3] + layout.uvw_m[4])
    np.testing.assert_allclose(mid[:, 2], header[:, 2], atol=1e-3)
    assert np.abs(mid[:, :2] - header[:, :2]).max() < 2300 * np.radians(0.15)


def test_weights_are_thermal(converted: Path) -> None:
    sigma_jy = 6500.0 / np.sqrt(2 * 1464843.75 * HEADER_INTEGRATION_S)
    weight = read_column(converted, "WEIGHT_SPECTRUM")
    assert weight.shape == (8, 528, 128, 2)
    np.testing.assert_allclose(weight, 1 / sigma_jy**2, rtol=1e-6)
    with open_table(converted) as table:
        np.testing.assert_allclose(table.getcol("SIGMA"), sigma_jy * RAW_GAIN**2, rtol=1e-6)
        np.testing.assert_array_equal(table.getcol("EXPOSURE"), HEADER_INTEGRATION_S)
        assert {"MODEL_DATA", "CORRECTED_DATA", "WEIGHT_SPECTRUM"}.isdisjoint(table.colnames())


def test_autocorrelations_are_kept_and_flagged(converted: Path, files: list[Path], tmp_path: Path) -> None:
    layout = read_layout(converted)
    flags = read_column(layout, "FLAG")
    assert flags[:, layout.autocorrelations].all()
    assert not flags[:, ~layout.autocorrelations].any()
    assert flagged_fraction(converted) == 0.0
    np.testing.assert_allclose(read_column(layout, "DATA")[:, layout.autocorrelations], 2.0, atol=1e-6)
    kept = convert_group(files[:1], tmp_path / "kept.ms", options=ConversionOptions(flag_autocorrelations=False))
    assert not read_column(kept.ms_path, "FLAG", channels=slice(120, 128)).any()


def test_the_report_says_what_was_done(files: list[Path], tmp_path: Path) -> None:
    report = convert_group(files, tmp_path / "x.ms", partition="2026-01-25T22:25")
    assert (report.n_rows, report.n_times, report.n_baselines) == (4224, 8, 528)
    assert (report.n_antennas, report.n_channels, report.n_subbands) == (32, 128, 16)
    assert report.missing_subbands == ()
    assert report.writer_type == "direct"
    assert report.staging == "disk"
    assert report.group_id == "2026-01-25T22:26:00"
    assert report.uvw_max_discrepancy_m < 2e-4  # float32 of a kilometre
    assert not report.uvw_suspect
    assert report.phase_center_deg == pytest.approx(meridian_place(), abs=1e-9)
    mjd = START_JD - 2400000.5
    assert report.start_mjd == pytest.approx(mjd - 0.5 * HEADER_INTEGRATION_S / 86400, abs=1e-9)
    assert report.end_mjd - report.start_mjd == pytest.approx(8 * HEADER_INTEGRATION_S / 86400, abs=1e-9)
    assert report.mid_mjd == pytest.approx(0.5 * (report.start_mjd + report.end_mjd))
    assert {"headers", "read", "rephase", "write", "publish", "total"} <= set(report.timings_s)
    assert report.bytes_read == sum(path.stat().st_size for path in files)
    assert report.bytes_written == sum(p.stat().st_size for p in report.ms_path.rglob("*") if p.is_file())


def test_missing_subbands_are_channels_without_weight(files: list[Path], tmp_path: Path) -> None:
    present = [path for i, path in enumerate(files) if i not in {0, 7, 15}]
    report = convert_group(present, tmp_path / "x.ms")
    assert report.missing_subbands == (0, 7, 15)
    assert report.n_channels == 128
    layout = read_layout(report.ms_path)
    gone = np.zeros(128, bool)
    for subband in (0, 7, 15):
        gone[(15 - subband) * 8 : (16 - subband) * 8] = True
    np.testing.assert_array_equal(layout.missing_channels, gone)
    np.testing.assert_array_equal(np.diff(layout.frequencies_hz), layout.channel_width_hz)
    flags, weight, data = (read_column(layout, name) for name in ("FLAG", "WEIGHT_SPECTRUM", "DATA"))
    cross = ~layout.autocorrelations
    assert flags[:, :, gone].all()
    assert not flags[:, cross][:, :, ~gone].any()
    assert np.all(weight[:, :, gone] == 0)
    assert np.all(weight[:, :, ~gone] > 0)
    assert np.all(data[:, :, gone] == 0)
    assert np.all(np.abs(data[:, :, ~gone]) > 1)
    assert flagged_fraction(layout) == pytest.approx(3 / 16)


def test_a_late_subband_replaces_the_partial_set_in_one_step(files: list[Path], tmp_path: Path) -> None:
    ms = tmp_path / "x.ms"
    convert_group(files[:14], ms)
    with pytest.raises(RuntimeError), rewriting(ms, step="flag"):
        raise RuntimeError("leaves the marker")
    assert ms.with_name("x.ms.writing").exists()
    report = convert_group(files, ms)
    assert report.missing_subbands == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ms"]
    assert read_layout(ms).missing_subbands == ()


def test_a_set_that_is_being_rewritten_is_not_replaced(files: list[Path], tmp_path: Path) -> None:
    ms = tmp_path / "x.ms"
    convert_group(files[:2], ms)
    inode = ms.stat().st_ino
    with rewriting(ms, step="flag"), pytest.raises(LockedError):
        convert_group(files, ms)
    assert ms.stat().st_ino == inode
    assert [p.name for p in tmp_path.iterdir()] == ["x.ms"]


def test_the_same_group_twice_is_the_same_table(files: list[Path], converted: Path, tmp_path: Path) -> None:
    again = convert_group(files, tmp_path / "again.ms", options=ConversionOptions(threads=1)).ms_path
    with open_table(converted) as one, open_table(again) as other:
        assert sorted(one.colnames()) == sorted(other.colnames())
        for name in one.colnames():
            if name != "FLAG_CATEGORY":
                np.testing.assert_array_equal(one.getcol(name), other.getcol(name), err_msg=name)
    for subtable in ("FIELD", "OBSERVATION", "HISTORY", "SPECTRAL_WINDOW"):
        with open_table(converted / subtable) as one, open_table(again / subtable) as other:
            assert one.nrows() == other.nrows()


def test_counts_and_flags_of_the_correlator_are_honoured(files: list[Path], tmp_path: Path) -> None:
    own = tmp_path / "raw.hdf5"
    own.write_bytes(files[4].read_bytes())
    with h5py.File(own, "r+") as file:
        n_baselines = int(file["Header/Nbls"][()])
        file["Data/nsamples"][7 * n_baselines :] = 24.0  # the last integration was cut short
        file["Data/nsamples"][5] = 0.0
        file["Data/visdata"][9, 0, 2, 1] = np.nan
        file["Data/flags"][11, 0, 7, 0] = True
        pairs = [(int(file["Header/ant_1_array"][i]), int(file["Header/ant_2_array"][i])) for i in (5, 9, 11)]
    layout = read_layout(convert_group([own], tmp_path / "x.ms").ms_path)
    slots = [np.flatnonzero((layout.antenna1 == min(p)) & (layout.antenna2 == max(p)))[0] for p in pairs]
    channels = slice((15 - 4) * 8, (16 - 4) * 8)
    expected = np.zeros((8, 528, 8, 2), bool)
    expected[:, layout.autocorrelations] = True
    expected[0, slots[0]] = True
    expected[0, slots[1], 7 - 2, 1] = True
    expected[0, slots[2], 7 - 7, 0] = True
    np.testing.assert_array_equal(read_column(layout, "FLAG", channels=channels), expected)
    data = read_column(layout, "DATA", channels=channels)
    assert np.isfinite(data).all()
    assert data[0, slots[1], 5, 1] == 0
    with open_table(layout.path) as table:
        exposure, weight, sigma = (table.getcol(n).reshape(8, 528, -1) for n in ("EXPOSURE", "WEIGHT", "SIGMA"))
    np.testing.assert_allclose(exposure[7], HEADER_INTEGRATION_S / 4)
    np.testing.assert_allclose(weight[7] / weight[6, 100], 0.25, rtol=1e-6)
    np.testing.assert_allclose(sigma[7] / sigma[6, 100], 2.0, rtol=1e-6)
    assert weight[0, slots[0], 0] == 0
    spectrum = read_column(layout, "WEIGHT_SPECTRUM", channels=channels)
    np.testing.assert_allclose(spectrum[7] / spectrum[6, 100, 0, 0], 0.25, rtol=1e-6)


def _shift_uvw(path: Path, target: Path, dec_app_deg: float) -> Path:
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "r+") as file:
        file["Header/uvw_array"][...] = np.tile(meridian_uvw(SMALL, np.radians(dec_app_deg)), (8, 1))
    return target


def test_data_phased_to_the_zenith_are_refused(files: list[Path], tmp_path: Path) -> None:
    path = _shift_uvw(files[0], tmp_path / "zenith.hdf5", 37.2334051)
    with pytest.raises(CorruptInputError, match=r"uvw differ by \d\d\d\.\d m.*Cure") as caught:
        convert_group([path], tmp_path / "x.ms", partition="2026-01-25T22:25")
    assert caught.value.partition == "2026-01-25T22:25"
    assert [p.name for p in tmp_path.iterdir()] == ["zenith.hdf5"]


def test_a_small_turn_of_the_header_s_uvw_is_reported(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _shift_uvw(files[0], tmp_path / "turned.hdf5", DEC_APP_DEG + 5.0 / 3600)
    report = convert_group([path, files[1]], tmp_path / "x.ms", partition="here")
    assert report.uvw_suspect
    assert 0.02 < report.uvw_max_discrepancy_m < 0.07
    np.testing.assert_allclose(report.uvw_rotation_arcsec, [5.0, 0.0, 0.0], atol=0.01)
    assert report.uvw_residual_m < 2e-4
    assert "header uvw differ by" in caplog.text


def test_members_that_do_not_belong_together_are_refused(files: list[Path], tmp_path: Path) -> None:
    other_time = write_raw_subband(tmp_path / "time.hdf5", SMALL, 1, start_jd=START_JD + 0.2 / 86400)
    other_dec = write_raw_subband(tmp_path / "dec.hdf5", SMALL, 1, dec_app_deg=16.3)
    other_array = write_raw_subband(tmp_path / "array.hdf5", array_configuration("full"), 1)
    same_again = tmp_path / "again.hdf5"
    same_again.write_bytes(files[0].read_bytes())
    for path, says in (
        (other_time, "another time"),
        (other_dec, "another declination"),
        (other_array, "integrations against 8"),
        (same_again, "holds subband 0, which"),
    ):
        with pytest.raises(CorruptInputError, match=says) as caught:
            convert_group([files[0], path], tmp_path / "x.ms", partition="p")
        assert caught.value.path == path
    with pytest.raises(CorruptInputError, match="no subband file"):
        convert_group([], tmp_path / "x.ms", partition="p")
    assert not (tmp_path / "x.ms").exists()


def test_members_within_half_a_sample_belong_together(files: list[Path], tmp_path: Path) -> None:
    near = write_raw_subband(tmp_path / "near.hdf5", SMALL, 1, start_jd=START_JD + 0.06 / 86400)
    assert convert_group([files[0], near], tmp_path / "x.ms").n_subbands == 2


def test_a_broken_member_leaves_the_old_set_alone(files: list[Path], tmp_path: Path) -> None:
    ms = tmp_path / "x.ms"
    convert_group(files[:2], ms)
    before = sorted((p.relative_to(ms), p.stat().st_mtime_ns) for p in ms.rglob("*"))
    broken = tmp_path / "broken.hdf5"
    broken.write_bytes(files[2].read_bytes()[:600_000])
    foreign = write_raw_subband(tmp_path / "foreign.hdf5", SMALL, 3, telescope_name=b"OVRO_LWA")
    for path, error in ((broken, CorruptInputError), (foreign, ForeignDataError)):
        with pytest.raises(error):
            convert_group([files[0], path], ms)
    assert sorted((p.relative_to(ms), p.stat().st_mtime_ns) for p in ms.rglob("*")) == before
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_building_in_ram_gives_the_same(files: list[Path], converted: Path, tmp_path: Path) -> None:
    ram, out = tmp_path / "ram", tmp_path / "out"
    ram.mkdir()
    report = convert_group(files, out / "x.ms", options=ConversionOptions(staging="auto", tmpfs_dir=ram))
    assert report.staging == "tmpfs"
    assert list(ram.iterdir()) == []
    np.testing.assert_array_equal(read_column(report.ms_path, "DATA"), read_column(converted, "DATA"))
    nowhere = ConversionOptions(staging="tmpfs", tmpfs_dir=tmp_path / "none")
    assert convert_group(files, out / "y.ms", options=nowhere).staging == "disk"


def test_only_staging_of_dead_processes_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = [tmp_path / f"{prefix}g.ms.staging-{gone.pid}-12345678" for prefix in (".", "dsa110-")]
    alive = tmp_path / f".g.ms.staging-{os.getpid()}-12345678"
    for path in (*dead, alive):
        path.mkdir()
    assert sorted(remove_abandoned_staging(tmp_path)) == sorted(dead)
    assert alive.is_dir()


RUN = """
import sys, resource
from pathlib import Path
from dsa110_resources.conversion import ConversionOptions, convert_group
from dsa110_resources.errors import PlatformError
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    convert_group(sorted(Path(sys.argv[1]).glob("*.hdf5")), Path(sys.argv[2]), partition="p")
except PlatformError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_no_room_on_disk_is_said_and_leaves_nothing(files: list[Path], tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk, on which casacore would end the process."""
    ms = tmp_path / "x.ms"
    command = [sys.executable, "-c", RUN, str(files[0].parent), str(ms), "3000000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(DiskFullError.__name__)
    assert "Cure: free disk space" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_killed_conversion_leaves_nothing_visible_and_the_next_one_cleans_up(
    files: list[Path], tmp_path: Path
) -> None:
    ms = tmp_path / "x.ms"
    command = [sys.executable, "-c", RUN, str(files[0].parent), str(ms), "0"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".x.ms.staging-*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not ms.exists()
    assert list(tmp_path.glob(".x.ms.staging-*"))
    convert_group(files, ms)
    assert [p.name for p in tmp_path.iterdir()] == ["x.ms"]


def test_the_slow_writer_refuses_a_whole_group(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="at most 2 subbands, not 16"):
        convert_group(files, tmp_path / "x.ms", options=ConversionOptions(writer="pyuvdata"))
