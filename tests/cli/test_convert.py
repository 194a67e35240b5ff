"""`dsa110 convert` as a user types it."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from dsa110_assets.cli.convert import convert
from dsa110_assets.science.instrument import HEADER_INTEGRATION_S, array_configuration
from dsa110_resources.measurement_set import read_column, read_layout
from dsa110_resources.uvh5_writer import RawHeader, write_subband

SMALL = array_configuration("small")
app = typer.Typer()
app.command()(convert)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three subbands by the simulator's writer."""
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(2)
    times = 2461066.4347222224 + np.arange(8) * HEADER_INTEGRATION_S / 86400.0
    paths = []
    for subband in (0, 1, 2):
        header = RawHeader(
            array=SMALL,
            frequencies_hz=SMALL.frequencies_hz(subband),
            times_jd=times,
            dec_app_rad=np.radians(16.27),
            applied_delays_ns=np.zeros((117, 2), np.int64),
            written_at="2026-01-25T14:26:00",
        )
        noise = rng.normal(size=(8, 528, 8, 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
        paths.append(folder / f"2026-01-25T22:26:00_sb{subband:02d}.hdf5")
        write_subband(paths[-1], header, noise)
    return paths


def test_a_raw_group_is_converted_and_summed_up(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "x.ms"
    code, text = run(*files, "--out", out)
    assert code == 0, text
    for fact in (
        "2026-01-25T22:26:00 UTC, 103.1 s",
        "4224 (8 times, 528 baselines)",
        "3, 4, 5, 6, 7, 8, 9, 10",
        "direct",
    ):
        assert fact in text
    layout = read_layout(out)
    assert layout.missing_subbands == tuple(range(3, 16))


def test_both_writers_can_be_asked_for(files: list[Path], tmp_path: Path) -> None:
    assert run(*files[:2], "--out", tmp_path / "a.ms", "--writer", "direct", "--threads", 1)[0] == 0
    code, text = run(*files[:2], "--out", tmp_path / "b.ms", "--writer", "pyuvdata")
    assert code == 0, text
    ours = read_column(tmp_path / "a.ms", "DATA", channels=slice(112, 128))
    np.testing.assert_allclose(ours, read_column(tmp_path / "b.ms", "DATA"), atol=2e-6)


def test_another_telescope_is_converted_by_pyuvdata(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "uvh5").glob("ata.*.uvh5"))
    code, text = run(*files, "--out", tmp_path / "ata.ms")
    assert code == 0, text
    assert "406 (1 times, 406 baselines)" in text
    assert read_layout(tmp_path / "ata.ms").telescope_name == "ATA"
    code, text = run(*files, "--out", tmp_path / "no.ms", "--writer", "direct")
    assert code == 1
    assert "Cure: use the writer auto or pyuvdata" in text
    assert not (tmp_path / "no.ms").exists()


def test_errors_name_the_file_and_the_cure(files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken_sb05.hdf5"
    broken.write_bytes(files[0].read_bytes()[:100_000])
    for arguments in ((broken, files[1]), (files[1], broken)):
        code, text = run(*arguments, "--out", tmp_path / "x.ms")
        assert code == 1
        assert "broken_sb05.hdf5: the file is truncated at 100000 bytes Cure: copy it again" in text
    code, text = run(files[0], "--out", tmp_path / "x.ms", "--writer", "magic")
    assert code == 1
    assert "writer" in text
    assert [p.name for p in tmp_path.iterdir()] == ["broken_sb05.hdf5"]
