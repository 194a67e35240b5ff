"""Applying calibration tables to a Measurement Set: CORRECTED_DATA, streamed and verified."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.gain_application import apply_gains, combine_gains, invert_gains
from dsa110_assets.science.gains import GainTable
from dsa110_resources.caltables import read_caltable
from dsa110_resources.errors import MissingCalibrationError, PermanentError
from dsa110_resources.measurement_set import Layout, open_ms, read_layout, rewriting

logger = logging.getLogger(__name__)

_BLOCK = 4


@dataclass(frozen=True)
class ApplyReport:
    """What applying did.

    Attributes
    ----------
    tables
        Tables applied, in order.
    flagged_fraction
        Flagged part of the cross-correlations afterwards, 0 to 1.
    newly_flagged_fraction
        Part flagged here for want of a solution, of all samples.
    median_amplitude_jy
        Median |CORRECTED_DATA| of the unflagged cross-correlations, Jy (of a sample of integrations).
    wall_s
        Seconds.
    """

    tables: tuple[Path, ...]
    flagged_fraction: float
    newly_flagged_fraction: float
    median_amplitude_jy: float
    wall_s: float


def apply_tables(
    ms: Path,
    bandpass: Path,
    gain: Path | Sequence[Path] | None,
    *,
    delay: Path | None = None,
    partition: str | None = None,
) -> ApplyReport:
    """Write CORRECTED_DATA = DATA / (g_i conj(g_j)) and flag what has no solution.

    Parameters
    ----------
    ms
        Measurement Set; rewritten under its marker.
    bandpass
        B table: carries the absolute scale (DECISIONS 10).
    gain
        G table, or the two that bracket the data (phases are interpolated linearly between them), or None.
    delay
        K table to apply first: only with a bandpass solved with its delays taken out, and then always.
    partition
        For messages.

    Raises
    ------
    MissingCalibrationError
        If no antenna with data, or no channel, has a solution: no unity table stands in.
    PermanentError
        If the corrected data are not finite and non-zero.
    """
    started = time.monotonic()
    paths = [path for path in (delay, bandpass) if path is not None]
    gain_paths = [] if gain is None else [gain] if isinstance(gain, Path) else list(gain)
    layout = read_layout(ms)
    static = [_read(path, kind, partition) for path, kind in zip(paths, ("K", "B")[-len(paths) :], strict=True)]
    if static[-1].delay_removed != (delay is not None):
        needed = "needs its delay table" if delay is None else "holds the delays already: none may be applied"
        raise PermanentError(f"this bandpass {needed}", partition=partition, path=bandpass, cure="give matching tables")
    gains = [_read(path, "G", partition) for path in gain_paths]
    factors = combine_gains(
        [table.for_antennas(layout.antenna_names) for table in static], gains, layout.frequencies_hz, layout.times_mjd
    )
    _require_solutions(factors, layout, bandpass, partition)
    with rewriting(ms, step="apply"):
        counts, median = _stream(layout, invert_gains(factors))
    _require_corrected(ms, counts, median, partition)
    n_cross = np.count_nonzero(~layout.autocorrelations) * layout.n_times * layout.n_channels * 2
    return ApplyReport(
        tables=(*paths, *gain_paths),
        flagged_fraction=counts["flagged_cross"] / n_cross,
        newly_flagged_fraction=counts["new"] / (n_cross + layout.n_times * layout.n_channels * 2 * _autos(layout)),
        median_amplitude_jy=median,
        wall_s=time.monotonic() - started,
    )


def _autos(layout: Layout) -> int:
    return int(np.count_nonzero(layout.autocorrelations))


def _read(path: Path, kind: str, partition: str | None) -> GainTable:
    if not path.is_dir():
        raise MissingCalibrationError("the table is gone", partition=partition, path=path, cure="solve it again")
    table = read_caltable(path)
    if table.kind != kind:
        message = f"a table of kind {table.kind} was given where {kind} is applied"
        raise PermanentError(message, partition=partition, path=path, cure="give the tables in their roles")
    return table


def _require_solutions(
    factors: npt.NDArray[np.complex64], layout: Layout, bandpass: Path, partition: str | None
) -> None:
    solved = np.any(factors[:, layout.antennas_with_data] != 0, axis=(0, 2, 3))
    if np.count_nonzero(solved) < 2:
        raise MissingCalibrationError(
            "the tables hold no solution for the antennas and channels of this Measurement Set",
            partition=partition,
            path=bandpass,
            cure="solve the bandpass on this array and band",
        )


def _stream(layout: Layout, inverse: npt.NDArray[np.complex64]) -> tuple[dict[str, int], float]:
    cross = ~layout.autocorrelations
    counts = {"new": 0, "zero": 0, "flagged_cross": 0}
    medians: list[float] = []
    antennas = (layout.antenna1, layout.antenna2)
    with open_ms(layout, write=True) as opened:
        for start in range(0, layout.n_times, _BLOCK):
            times = slice(start, min(start + _BLOCK, layout.n_times))
            data, flags = opened.read("DATA", times=times), opened.read("FLAG", times=times)
            part = inverse[times] if len(inverse) > 1 else inverse
            corrected, new, zero = apply_gains(data, flags, part, antennas)
            opened.write("CORRECTED_DATA", corrected, times=times)
            if new:
                opened.write("FLAG", flags, times=times)
            counts["new"] += new
            counts["zero"] += zero
            counts["flagged_cross"] += int(np.count_nonzero(flags[:, cross]))
            sample = corrected[0, cross][~flags[0, cross]]
            if sample.size:
                medians.append(float(np.median(np.abs(sample[:: max(1, sample.size // 100_000)]))))
    return counts, float(np.median(medians)) if medians else float("nan")


def _require_corrected(ms: Path, counts: dict[str, int], median: float, partition: str | None) -> None:
    if not np.isfinite(median) or median <= 0.0:
        raise PermanentError(
            "CORRECTED_DATA holds no unflagged, finite, non-zero sample",
            partition=partition,
            path=ms,
            cure="look at the flags of the data and of the tables; another calibrator may be needed",
        )
    if counts["zero"]:
        logger.warning("%s: %d unflagged samples of CORRECTED_DATA are zero, as in DATA", ms, counts["zero"])
