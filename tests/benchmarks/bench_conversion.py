"""Conversion of a full-array group beside pyuvdata and beside a plain copy of the same bytes, in one run.

``data_dir`` holds the raw files of one group (or of several: the first is taken). All see the same page cache: the
files are read once before anything is timed, nobody syncs to disk.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsa110_assets.science.subbands import group_id_of
from dsa110_resources.conversion import ConversionOptions, convert_group
from dsa110_resources.conversion_report import ConversionReport
from dsa110_resources.uvh5 import read_group_time, read_header

LIMIT_S = 15.0
LEAST_RATIO = 8.0
MEMORY_LIMIT_GB = 1.5
HEADER_LIMIT_S = 0.005
_PIECE = 1 << 26


def run(data_dir: Path) -> list[dict[str, Any]]:
    """One row against pyuvdata, one against a copy, one for reading headers."""
    files = first_group(data_dir)
    with tempfile.TemporaryDirectory(prefix="bench-conversion-", dir=data_dir) as scratch:
        folder = Path(scratch)
        convert_group(files[:1], folder / "warm.ms")  # loads the compiled kernels, as a running platform has
        copy_bytes(files, folder / "warm", 0)
        headers = measure(lambda: [read_header(path) for path in files])
        results: dict[str, tuple[float, float, ConversionReport]] = {}
        results["direct"] = convert(files, folder / "direct.ms", ConversionOptions())
        memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        copied = measure(lambda: copy_bytes(files, folder / "copy", results["direct"][2].bytes_written))
        slow = ConversionOptions(writer="pyuvdata", pyuvdata_max_subbands=16)
        results["pyuvdata"] = convert(files, folder / "pyuvdata.ms", slow)
    return rows(results, copied, memory_gb, headers[0] / len(files))


def first_group(data_dir: Path) -> list[Path]:
    """Files of the earliest group in a folder."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(data_dir.glob("*.hdf5")):
        groups[group_id_of(read_group_time(path))].append(path)
    if not groups:
        raise FileNotFoundError(f"no raw subband (*.hdf5) in {data_dir}")
    return groups[min(groups)]


def convert(files: list[Path], ms: Path, options: ConversionOptions) -> tuple[float, float, ConversionReport]:
    """Wall and CPU seconds of one conversion, and its report."""
    reports: list[ConversionReport] = []
    wall, cpu = measure(lambda: reports.append(convert_group(files, ms, options=options)))
    return wall, cpu, reports[0]


def copy_bytes(files: list[Path], target: Path, size: int) -> None:
    """The floor: read every byte of the files, write as many bytes as the Measurement Set has."""
    written = 0
    buffer = bytearray(_PIECE)
    with target.open("wb") as out:
        for path in files:
            with path.open("rb", buffering=0) as handle:
                while got := handle.readinto(buffer):
                    piece = min(got, size - written)
                    written += out.write(memoryview(buffer)[:piece])
        while written < size:
            written += out.write(memoryview(buffer)[: size - written])


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def rows(
    results: dict[str, tuple[float, float, ConversionReport]],
    copied: tuple[float, float],
    memory_gb: float,
    header_s: float,
) -> list[dict[str, Any]]:
    """The table."""
    wall, cpu, report = results["direct"]
    peer_wall, peer_cpu, _ = results["pyuvdata"]
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.timings_s.items())
    moved = f"{report.bytes_read / 1e9:.2f} GB in, {report.bytes_written / 1e9:.2f} GB out"
    return [
        {
            "stage": "conversion of a group",
            "ours_s": wall,
            "peer": "pyuvdata read + write_ms",
            "peer_s": peer_wall,
            "ratio": peer_wall / wall,
            "limit_s": LIMIT_S,
            "note": f"least ratio {LEAST_RATIO:g}; {cpu:.1f} against {peer_cpu:.1f} CPU-s; peak {memory_gb:.2f} GB "
            f"(limit {MEMORY_LIMIT_GB} GB); {steps} s",
        },
        {
            "stage": "conversion against a copy",
            "ours_s": wall,
            "peer": "plain copy of the bytes",
            "peer_s": copied[0],
            "ratio": copied[0] / wall,
            "limit_s": LIMIT_S,
            "note": f"{wall / copied[0]:.1f} times a copy ({cpu / copied[1]:.1f} in CPU time: {cpu:.1f} against "
            f"{copied[1]:.1f} s); {moved}",
        },
        {
            "stage": "one raw header",
            "ours_s": header_s,
            "peer": "none",
            "peer_s": float("nan"),
            "ratio": float("nan"),
            "limit_s": HEADER_LIMIT_S,
            "note": "checked for damage, without the data",
        },
    ]
