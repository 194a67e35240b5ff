"""The bandpass solve: one pass over the data, phases removed per interval as they come.

Interval by interval (30 s) the normal sums are collapsed over channels with the bandpass known so far, a phase per
antenna is solved, and the sums are added with that phase taken out; so phase drifts within the group do not decorrelate
the bandpass, and the data are read, and their model predicted, once.
"""

import logging
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.antenna_solution import (
    AntennaSolution,
    fill_gaps,
    find_dead_receptors,
    flag_receptors,
    invert_noise,
    judge_solution,
    measure_noise,
    solve_antennas,
)
from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_assets.science.normal_sums import Antennas, NormalSums, collapse_data
from dsa110_assets.science.referencing import choose_reference_antenna, rank_reference_antennas, refer_phases
from dsa110_assets.science.stefcal import solve_stefcal

logger = logging.getLogger(__name__)

Flags = npt.NDArray[np.bool_]
Complex64s = npt.NDArray[np.complex64]

_REFINE_AFTER = (1, 2, 4, 8)
"""Intervals after which the bandpass used to collapse the channels is solved again."""
_ESTIMATE_CHANNELS = 192
"""Channels of that bandpass: enough signal for a phase in 30 s, a quarter of the work."""


@dataclass(frozen=True)
class BandpassSolution:
    """What one calibrator group gives.

    Attributes
    ----------
    bandpass : AntennaSolution
        Shape (n_ant, n_chan, n_pol); the reference antenna's phase is zero, the mean phase over the group is in it.
    phases : (n_interval, n_ant, n_pol) complex64
        Pre-bandpass phases, circular mean one over the intervals; 1 where flagged.
    phase_flags, phase_snr : (n_interval, n_ant, n_pol)
    reference
        Index of the phase reference.
    dead : (n_ant, n_pol) bool
        Receptors found dead or without data.
    sums : NormalSums
        Sums of the whole group, pre-bandpass phases taken out: a gain can be solved from them.
    """

    bandpass: AntennaSolution
    phases: Complex64s
    phase_flags: Flags
    phase_snr: npt.NDArray[np.float32]
    reference: int
    dead: Flags
    sums: NormalSums


@dataclass
class _Interval:
    phases: Complex64s
    flags: Flags
    snr: npt.NDArray[np.float32]


@dataclass
class BandpassStream:
    """Collects intervals, then solves.

    Parameters
    ----------
    antennas
        Antenna indices (i, j) of each baseline.
    positions_m : (n_ant, 3) float
        Antenna positions, metres; names the central antennas.
    names
        Antenna names.
    n_channel
        Channels per baseline.
    options
        :class:`BandpassOptions`.
    """

    antennas: Antennas
    positions_m: npt.NDArray[np.float64]
    names: tuple[str, ...]
    n_channel: int
    options: BandpassOptions
    _sums: NormalSums = field(init=False)
    _estimate: Complex64s | None = field(init=False, default=None)
    _weight: npt.NDArray[np.float32] | None = field(init=False, default=None)
    _intervals: list[_Interval] = field(init=False, default_factory=list)
    _n_added: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._sums = NormalSums.empty(len(self.antennas[0]), self.n_channel, 2)

    def add_interval(self, data: Complex64s, flags: Flags, model: Complex64s) -> None:
        """Add the integrations of one pre-bandpass interval; shapes as in :meth:`NormalSums.add`."""
        unit = np.ones((len(self.names), 2), np.complex64)
        first = self._estimate is None
        if not first:
            interval = self._solve_phases(data, flags, model)
            # a receptor that has no bandpass yet (flagged so far) joins with the array's mean phase
            unit = np.where(interval.flags & self._known(), 0, interval.phases).astype(np.complex64)
        self._sums.add(data, flags, model, antennas=self.antennas, phases=unit)
        self._n_added += 1
        if first or self._n_added in _REFINE_AFTER or self._meets_new_receptors(flags):
            self._refine()
        if first:  # its phases are the zero the others are measured from
            interval = self._solve_phases(data, flags, model)
            interval.phases[...] = 1
        self._intervals.append(interval)

    def predict_snr(self, noise_jy: float) -> float:
        """SNR per receptor and channel that the model's flux allows, median over those with data.

        ``sqrt(sum_j sum_t |M_ij|^2) / sigma``: for a point source of S Jy, ``S sqrt((N − 1) n_time) / sigma``.

        Parameters
        ----------
        noise_jy
            Thermal noise sigma of the real part of a sample, Jy.
        """
        n_ant = len(self.names)
        flux = np.ones((n_ant, self.n_channel, 2), np.float32)
        information, baselines = self._sums.information(flux, self.antennas)
        seen = baselines > 0
        return float(np.median(np.sqrt(information[seen]))) / noise_jy if seen.any() else 0.0

    def finish(self) -> BandpassSolution:
        """Solve the bandpass from all intervals.

        Raises
        ------
        SolveError
            Without unflagged data, or when no antenna has a solution.
        """
        n_ant = len(self.names)
        options = self.options
        minimum = (options.minsnr, options.min_baselines)
        solution = solve_antennas(self._sums, self.antennas, n_ant, minimum=minimum)
        dead = find_dead_receptors(
            solution, amplitude_ratio=options.dead_amplitude_ratio, flagged_fraction=options.dead_flagged_fraction
        )
        solution = flag_receptors(solution, dead)
        order = rank_reference_antennas(solution.flags, solution.snr, self.positions_m)
        reference = choose_reference_antenna(order, self.names, options.refant)
        if options.refant is not None and self.names[reference] != options.refant:
            logger.warning("reference antenna %s has no solutions; %s stands in", options.refant, self.names[reference])
        return self._assemble(solution, dead, reference, next((int(i) for i in order if i != reference), None))

    def _assemble(
        self, solution: AntennaSolution, dead: Flags, reference: int, fallback: int | None
    ) -> BandpassSolution:
        flags = np.stack([i.flags for i in self._intervals]) | dead[None]
        flags |= flags[:, reference : reference + 1]  # without the reference an interval has no common phase zero
        phases = np.stack([i.phases for i in self._intervals])
        phases = np.where(flags, 1.0, phases * np.conj(phases[:, reference : reference + 1]))
        mean = np.sum(np.where(flags, 0, phases), axis=0)
        mean = np.where(mean == 0, 1.0, mean / np.maximum(np.abs(mean), 1e-30))
        phases = np.where(flags, 1.0, phases * np.conj(mean)[None])
        self._sums.cross *= (mean[self.antennas[0]] * np.conj(mean[self.antennas[1]])).astype(np.complex64)[:, None]
        gains = solution.gains * mean[:, None, :]
        referred = refer_phases(gains.astype(np.complex128), solution.flags, reference, fallback)
        referred = np.where(solution.flags, 0.0, referred)
        filled = fill_gaps(referred.astype(np.complex64), solution.flags, solution.snr, self.options.fill_gaps)
        return BandpassSolution(
            bandpass=AntennaSolution(*filled, solution.noise),
            phases=phases.astype(np.complex64),
            phase_flags=flags,
            phase_snr=np.where(flags, 0, np.stack([i.snr for i in self._intervals])),
            reference=reference,
            dead=dead,
            sums=self._sums,
        )

    def _solve_phases(self, data: Complex64s, flags: Flags, model: Complex64s) -> _Interval:
        """Phase per receptor of one interval, against the bandpass known so far."""
        n_ant = len(self.names)
        if self._estimate is None or self._weight is None:  # nothing unflagged so far
            return _Interval(
                np.ones((n_ant, 2), np.complex64), np.ones((n_ant, 2), bool), np.zeros((n_ant, 2), np.float32)
            )
        collapsed = collapse_data(data, flags, model, self._estimate, self.antennas)
        gains, _ = solve_stefcal(collapsed, self.antennas, self._weight, phase_only=True)
        noise = invert_noise(self._weight)
        judged = judge_solution(
            collapsed,
            self.antennas,
            gains,
            noise=noise,
            converged=np.ones((1, 2), bool),
            minimum=(self.options.prebp_minsnr, self.options.min_baselines),
        )
        # the common phase is free: it is set so that the mean phase, weighted by SNR, is zero
        common = np.sum(gains * np.where(judged.flags, 0, judged.snr), axis=0, keepdims=True)
        turned = gains * np.exp(-1j * np.angle(common))
        phases = np.where(judged.flags, 1.0, turned)[:, 0]
        return _Interval(phases.astype(np.complex64), judged.flags[:, 0], judged.snr[:, 0])

    def _known(self) -> Flags:
        """Receptors, (n_ant, n_pol), that the bandpass known so far holds."""
        if self._estimate is None:
            return np.zeros((len(self.names), 2), bool)
        return np.asarray(np.any(self._estimate != 0, axis=1))

    def _meets_new_receptors(self, flags: Flags) -> bool:
        """Whether an interval holds data of a receptor without a bandpass so far."""
        unknown = ~self._known()
        if not unknown.any():
            return False
        first, second = self.antennas
        alive = ~np.all(flags, axis=(0, 2)) & (first != second)[:, None]
        return bool(np.any(alive & (unknown[first] | unknown[second])))

    def _refine(self) -> None:
        """Solve some channels of the bandpass from what has been added, for the next intervals' phases."""
        if not self._sums.count.any():
            return
        n_ant = len(self.names)
        some = slice(None, None, max(1, self.n_channel // _ESTIMATE_CHANNELS))
        sums = self._sums.select(some)
        weight = np.ones((n_ant, 2), np.float32) if self._weight is None else self._weight
        start = None if self._estimate is None else self._estimate[:, some]
        gains, _ = solve_stefcal(sums, self.antennas, weight, start=start, max_iterations=30)
        noise, _ = measure_noise(sums, gains, self.antennas)
        self._estimate = np.zeros((n_ant, self.n_channel, 2), np.complex64)
        self._estimate[:, some] = gains
        self._weight = invert_noise(noise)
        if not np.any(self._weight > 0):
            raise SolveError("the residuals of the first intervals show no noise: the data are empty")


def solve_gain(
    sums: NormalSums,
    antennas: Antennas,
    bandpass: AntennaSolution,
    *,
    minimum: tuple[float, int] = (3.0, 4),
    amplitudes: bool = False,
) -> tuple[AntennaSolution, float]:
    """Broadband gain of each receptor from per-channel sums, with the bandpass applied.

    Returns
    -------
    solution : AntennaSolution
        Shape (n_ant, 1, n_pol); see :func:`shape_gains` for what ``amplitudes`` decides.
    flux_ratio : float
        Observed over model flux density on the bandpass's scale.
    """
    gains = np.where(bandpass.flags, 0, bandpass.gains).astype(np.complex64)
    solution = solve_antennas(sums.collapse(gains, antennas), antennas, len(gains), minimum=minimum)
    return shape_gains(solution, amplitudes=amplitudes)


def shape_gains(solution: AntennaSolution, *, amplitudes: bool) -> tuple[AntennaSolution, float]:
    """What of a gain solution is kept: phases, and amplitudes relative to the array's median.

    The common amplitude is the flux scale's business (DECISIONS 10): it is reported, never kept.

    Parameters
    ----------
    solution
        Shape (n_ant, 1, n_pol).
    amplitudes
        Keep one amplitude per antenna (SNR-weighted over polarizations), the array's median being 1.

    Returns
    -------
    solution : AntennaSolution
    flux_ratio : float
        Median amplitude squared; NaN without solutions.
    """
    modulus, good = np.abs(solution.gains), ~solution.flags
    if not good.any():
        return solution, float("nan")
    weight = np.where(good, solution.snr.astype(np.float64) ** 2, 0.0)
    total = np.sum(weight, axis=2, keepdims=True)
    per_antenna = np.sum(weight * modulus, axis=2, keepdims=True) / np.where(total > 0, total, 1.0)
    common = float(np.median(per_antenna[total > 0]))
    amplitude = np.where(total > 0, per_antenna / common, 1.0) if amplitudes else np.ones_like(per_antenna)
    unit = np.where(good, solution.gains / np.where(modulus > 0, modulus, 1.0), 0.0)
    gains = (unit * amplitude).astype(np.complex64)
    return AntennaSolution(gains, solution.flags, solution.snr, solution.noise), common**2
