"""AOFlagger as the thorough tier: the Debian program, or the wheel's interface in child processes without it."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_resources.measurement_set import Layout, open_ms, read_layout
from dsa110_resources.process import run_command

logger = logging.getLogger(__name__)

# Written for short groups (24 integrations): flags set before (zeros, dead receptors, array-wide tones) stay and are
# left out of the background; subbands are never normalised, the writer's bandpass is continuous.
STRATEGY = """
aoflagger.require_min_version("3.0")

function execute(input)
  local base_threshold, iterations, step, transient = {base_threshold}, {iterations}, 2.0, 0.8
  local before = input:copy()
  for _, polarization in ipairs(input:get_polarizations()) do
    local data = input:convert_to_polarization(polarization):convert_to_complex("amplitude")
    local original = data:copy()
    for i = 1, iterations - 1 do
      local factor = math.pow(step, iterations - i)
      aoflagger.sumthreshold(data, factor * base_threshold, factor * base_threshold * transient, true, true)
      local channels = data:copy()
      aoflagger.threshold_timestep_rms(data, 3.5)
      aoflagger.threshold_channel_rms(channels, 3.0 * factor, true)
      data:join_mask(channels)
      data:set_visibilities(original)
      local smooth = aoflagger.downsample(data, 1, 2, true)
      aoflagger.low_pass_filter(smooth, 21, 31, 2.5, 5.0)
      aoflagger.upsample(smooth, data, 1, 2)
      local residual = original - data
      residual:set_mask(data)
      data = residual
    end
    aoflagger.sumthreshold(data, base_threshold, base_threshold * transient, true, true)
    if input:is_complex() then
      data = data:convert_to_complex("complex")
    end
    input:set_polarization_data(polarization, data)
  end
  aoflagger.scale_invariant_rank_operator(input, 0.2, 0.2)
  aoflagger.threshold_timestep_rms(input, 4.0)
  input:join_mask(before)
  input:flag_nans()
end
"""
BASE_THRESHOLD = 1.2
"""The observatory's own value (TELESCOPE 3.7), with 4 iterations."""
ITERATIONS = 4


def run_aoflagger(ms: Path, *, timeout_s: float, n_threads: int = 2, prefer_wheel: bool = False) -> str:
    """Flag a Measurement Set per baseline with AOFlagger; the caller holds :func:`rewriting`.

    Parameters
    ----------
    ms
        The table; flags are added to its FLAG column.
    timeout_s
        Wall-clock limit, seconds.
    n_threads
        Threads of the program, or child processes of the wheel.
    prefer_wheel
        Use the Python interface although the program is installed.

    Returns
    -------
    str
        ``"program"`` or ``"wheel"``.

    Raises
    ------
    ExternalToolMissingError, ExternalToolError
        Neither is installed, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="dsa110-aoflagger-") as directory:
        strategy = Path(directory) / "dsa110.lua"
        strategy.write_text(STRATEGY.format(base_threshold=BASE_THRESHOLD, iterations=ITERATIONS))
        if shutil.which("aoflagger") and not prefer_wheel:
            command = aoflagger_command(ms, strategy, n_threads)
            run_command(command, timeout_s=timeout_s, cwd=Path(directory), log_path=Path(directory) / "log")
            return "program"
        _run_wheel(read_layout(ms), strategy, timeout_s=timeout_s, n_workers=n_threads)
    return "wheel"


def aoflagger_command(ms: Path, strategy: Path, n_threads: int) -> list[str]:
    """Command line of the Debian program."""
    return ["aoflagger", "-j", str(n_threads), "-strategy", str(strategy), "-column", "DATA", str(ms)]


def _run_wheel(layout: Layout, strategy: Path, *, timeout_s: float, n_workers: int) -> None:
    """Run shares of the baselines in child processes and add their flags."""
    cross = np.flatnonzero(~layout.autocorrelations)
    shares = [(int(part[0]), int(part[-1]) + 1) for part in np.array_split(cross, n_workers) if len(part)]
    results = [strategy.with_name(f"flags-{first}.npy") for first, _ in shares]

    def run(share: tuple[int, int], result: Path) -> None:
        first, last = (str(number) for number in share)
        worker = (sys.executable, "-m", "dsa110_resources.aoflagger_worker")
        run_command((*worker, layout.path, strategy, first, last, result), timeout_s=timeout_s)

    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(run, shares, results))
    _add_flags(layout, shares, [np.load(result, mmap_mode="r") for result in results])


def _add_flags(layout: Layout, shares: list[tuple[int, int]], found: list[npt.NDArray[np.bool_]]) -> None:
    with open_ms(layout, write=True) as opened:
        for t in range(layout.n_times):
            flags = opened.read("FLAG", times=slice(t, t + 1))
            for (first, last), mine in zip(shares, found, strict=True):
                flags[0, first:last] |= mine[t]
            opened.write("FLAG", flags, times=slice(t, t + 1))
