"""Genuine CASA tables: ours come back whole, the real ones are read in their scrambled order."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
from simulated_set import make_set

from dsa110_assets.science.gains import GainTable
from dsa110_resources.caltables import read_caltable, write_caltable
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import CorruptInputError, PermanentError
from dsa110_resources.measurement_set import read_layout


@pytest.fixture(scope="module")
def ms(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set")).ms


def random_table(layout, kind="B", n_time=1) -> GainTable:
    random = np.random.default_rng(7)
    n_ant, n_chan = len(layout.antenna_names), layout.n_channels if kind == "B" else 1
    shape = (n_time, n_ant, n_chan, 2)
    gains = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    widths = np.full(n_chan, layout.n_channels * layout.channel_width_hz / n_chan)
    return GainTable(
        kind=kind,
        gains=(gains.real + 0j) * 100 if kind == "K" else gains,
        flags=random.uniform(size=shape) < 0.2,
        snr=random.uniform(5, 100, shape),
        times_mjd=layout.mid_mjd + np.arange(n_time) / 2880,
        interval_s=30.0,
        frequencies_hz=layout.frequencies_hz if kind == "B" else np.array([layout.frequencies_hz.mean()]),
        channel_widths_hz=widths,
        antenna_names=layout.antenna_names,
        antenna_positions_m=layout.antenna_positions_itrf_m,
        refant=layout.antenna_names[42],
        phase_center_deg=layout.phase_center_deg,
        delay_removed=kind == "B",
        n_observed=32,
    )


@pytest.mark.parametrize(("kind", "n_time"), [("K", 1), ("B", 1), ("G", 1), ("G", 5)])
def test_a_table_comes_back_as_it_was(ms, tmp_path, kind, n_time):
    table = random_table(read_layout(ms), kind, n_time)
    write_caltable(tmp_path / "t.cal", table, ms=ms)
    back = read_caltable(tmp_path / "t.cal")
    np.testing.assert_array_equal(back.flags, table.flags)
    good = ~table.flags
    np.testing.assert_allclose(back.gains[good], table.gains[good], rtol=1e-6)
    np.testing.assert_allclose(back.snr[good], table.snr[good], rtol=1e-6)
    np.testing.assert_allclose(back.times_mjd, table.times_mjd, atol=1e-8)
    np.testing.assert_allclose(back.frequencies_hz, table.frequencies_hz, atol=1e-3)
    np.testing.assert_allclose(back.channel_widths_hz, table.channel_widths_hz, atol=1e-3)
    np.testing.assert_allclose(back.phase_center_deg, table.phase_center_deg, atol=1e-9)
    np.testing.assert_allclose(back.antenna_positions_m, table.antenna_positions_m, atol=1e-6)
    for name in ("kind", "antenna_names", "refant", "interval_s", "delay_removed", "n_observed"):
        assert getattr(back, name) == getattr(table, name)


def test_the_structure_is_casas(ms, tmp_path):
    write_caltable(tmp_path / "t.bpcal", random_table(read_layout(ms)), ms=ms)
    with open_table(tmp_path / "t.bpcal") as table:
        assert table.info() == {"type": "Calibration", "subType": "B Jones", "readme": ""}
        assert table.getkeyword("VisCal") == "B Jones"
        assert table.getkeyword("ParType") == "Complex"
        assert table.getkeyword("MSName") == "group0.ms"
        assert {"ANTENNA", "FIELD", "SPECTRAL_WINDOW", "OBSERVATION", "HISTORY"} <= set(table.getkeywords())
        assert table.getcolkeywords("TIME")["MEASINFO"] == {"type": "epoch", "Ref": "UTC"}
        assert table.nrows() == 117
        assert table.getcell("CPARAM", 0).shape == (128, 2)
        assert table.getcell("CPARAM", 0).dtype == np.complex64


def test_antennas_are_put_in_the_order_of_the_measurement_set(ms, tmp_path):
    layout = read_layout(ms)
    table = random_table(layout).for_antennas(tuple(reversed(layout.antenna_names[:50])))
    write_caltable(tmp_path / "t.bpcal", table, ms=ms)
    back = read_caltable(tmp_path / "t.bpcal")
    assert back.antenna_names == layout.antenna_names
    good = ~table.flags[:, ::-1]
    np.testing.assert_allclose(back.gains[:, :50][good], table.gains[:, ::-1][good], rtol=1e-6)
    assert back.flags[:, 50:].all()


def test_a_table_is_replaced_whole_and_survives_a_move(ms, tmp_path):
    layout = read_layout(ms)
    path = tmp_path / "a" / "t.bpcal"
    write_caltable(path, random_table(layout), ms=ms)
    second = replace(random_table(layout), refant=layout.antenna_names[3])
    write_caltable(path, second, ms=ms)
    path.parent.rename(tmp_path / "b")
    assert read_caltable(tmp_path / "b" / "t.bpcal").refant == layout.antenna_names[3]
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["t.bpcal"]


def test_no_table_is_made_of_flags(ms, tmp_path):
    table = random_table(read_layout(ms))
    table.flags[...] = True
    with pytest.raises(PermanentError, match="every solution is flagged"):
        write_caltable(tmp_path / "t.bpcal", table, ms=ms)
    assert list(tmp_path.iterdir()) == []


def test_other_tables_are_refused(ms, tmp_path):
    with pytest.raises(CorruptInputError, match="no calibration table"):
        read_caltable(ms)
    with pytest.raises(CorruptInputError):
        read_caltable(tmp_path / "absent")


@pytest.fixture(scope="module")
def real_folder(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    with tarfile.open(shared_data / "real_caltables" / "real_caltables_2025.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root / "scratch" / "ms" / "central_cal"


def test_sixteen_scrambled_windows_are_joined_in_frequency(real_folder):
    table = read_caltable(real_folder / "2025-10-13T13:28:03_all_bpcal")
    assert table.gains.shape == (1, 117, 768, 2)
    np.testing.assert_allclose(np.diff(table.frequencies_hz), 244140.625, atol=1e-3)
    assert table.frequencies_hz[0] == pytest.approx(1311387329.1015625)
    assert table.frequencies_hz[-1] == pytest.approx(1498643188.4765625)
    assert table.refant == "103"
    assert table.phase_center_deg == pytest.approx((107.09736, 44.80340), abs=1e-5)
    assert table.antenna_names[:3] == ("1", "2", "3")
    # the file's first window is the tenth of the band: a row of it must land there
    with open_table(real_folder / "2025-10-13T13:28:03_all_bpcal") as raw:
        row = raw.getcell("CPARAM", 0)
        antenna, flag = raw.getcell("ANTENNA1", 0), raw.getcell("FLAG", 0)
    first = int(np.flatnonzero(np.abs(table.frequencies_hz - 1416611938.4765625) < 1)[0])
    mine = table.gains[0, antenna, first - 47 : first + 1][::-1]
    np.testing.assert_allclose(mine[~flag], row[~flag], rtol=1e-6)


def test_window_gains_are_one_channel_each(real_folder):
    table = read_caltable(real_folder / "2025-10-13T13:28:03_all_gpcal")
    assert table.kind == "G"
    assert table.gains.shape == (1, 117, 16, 2)
    np.testing.assert_allclose(np.diff(table.frequencies_hz), 11718750.0, atol=1e-3)
