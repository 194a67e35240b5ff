"""Is a calibration table fit for use? Every check returns a small result with its cure; nothing is decided silently.

Gains are judged by their *change*: absolute antenna phases are random, and their scatter (103.9 deg for a uniform
distribution) says nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from dsa110_assets.science.delay import DelayPlane, fit_delay_plane, measure_delays
from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.gain_change import measure_change
from dsa110_assets.science.gains import GainTable, multiply_gains

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class SolutionLimits(BaseModel, frozen=True):
    """Limits of the checks."""

    min_solution_fraction: float = Field(0.7, ge=0, le=1)
    """Solved part of the cells of working receptors."""
    min_working_fraction: float = Field(0.5, ge=0, le=1)
    """Receptors that work, of those expected."""
    working_cells: float = Field(0.2, gt=0, le=1)
    """A receptor works when at least this part of its cells is solved."""
    max_phase_roughness_deg: float = Field(30.0, gt=0)
    """Phase noise from channel to channel, median over receptors."""
    max_amplitude_roughness: float = Field(0.3, gt=0)
    """Amplitude noise from channel to channel relative to the amplitude, median over receptors."""
    min_coherence: float = Field(0.7, ge=0, le=1)
    """How much of a receptor's phase a single delay explains, median over receptors."""
    max_gradient_ns_m: float = Field(0.02, gt=0)
    """Delay gradient across the array: 0.02 ns/m is a direction error of 0.34 deg."""
    rogue_ns: float = Field(50.0, gt=0)
    """Distance from the delay plane that makes an antenna rogue."""
    max_phase_change_deg: float = Field(90.0, gt=0)
    """Robust rms phase change from the previous table, common phase and plane removed."""
    max_amplitude_change: float = Field(0.2, gt=0)
    """Robust rms relative amplitude change from the previous table."""
    max_solver_phase_deg: float = Field(1.0, gt=0)
    """Robust rms phase difference of two solvers on the same data."""
    max_solver_amplitude: float = Field(0.01, gt=0)
    """Robust rms relative amplitude difference, and common difference, of two solvers on the same data."""
    flux_ratio_range: tuple[float, float] = (0.8, 1.25)
    """Observed over model flux density."""


@dataclass(frozen=True)
class SolutionCheck:
    """Outcome of one check.

    Attributes
    ----------
    name
        What was checked.
    passed
        Verdict.
    severity
        ``ERROR``: a table that fails must not be used; ``WARN``: it may.
    value, limit
        What was measured and its limit, in the unit the message gives; NaN where nothing could be measured.
    message
        For the operator: what was found, and the cure when it failed.
    """

    name: str
    passed: bool
    severity: Literal["ERROR", "WARN"]
    value: float
    limit: float
    message: str


DEFAULT_LIMITS = SolutionLimits()
COHERENT = 0.5
"""Coherence from which a receptor's delay is believed in the plane."""
SIGNIFICANT = 3.0
"""A gradient above the limit counts only if it is this many times its error (small arrays, large delay scatter)."""


def check_bandpass(
    table: GainTable,
    *,
    gain: GainTable | None = None,
    previous: GainTable | None = None,
    limits: SolutionLimits = DEFAULT_LIMITS,
    expected_antennas: int | None = None,
) -> list[SolutionCheck]:
    """All checks of a bandpass table.

    Parameters
    ----------
    table
        Kind ``B``.
    gain
        A gain table of the same solve with one solution per spectral window: it completes the phases of a bandpass
        whose windows were solved apart.
    previous
        The bandpass in force before.
    limits
        Limits.
    expected_antennas
        Antennas with data; by default what the table says, else all of it.
    """
    whole = table if gain is None else multiply_gains(table, gain)
    checks = [
        check_solution_fraction(whole, limits=limits),
        check_working_receptors(whole, limits=limits, expected_antennas=expected_antennas),
        check_smoothness(whole, limits=limits),
        *check_delays(whole, limits=limits),
    ]
    if previous is not None:
        checks += check_change(table, previous, limits=limits)
    return checks


def check_gain(
    table: GainTable,
    *,
    previous: GainTable | None = None,
    flux_ratio: float | None = None,
    limits: SolutionLimits = DEFAULT_LIMITS,
) -> list[SolutionCheck]:
    """All checks of a gain table."""
    checks = [check_solution_fraction(table, limits=limits), check_working_receptors(table, limits=limits)]
    if previous is not None:
        checks += check_change(table, previous, limits=limits)
    if flux_ratio is not None:
        checks.append(check_flux_ratio(flux_ratio, limits=limits))
    return checks


def find_working_receptors(flags: Flags, working_cells: float) -> Flags:
    """Receptors, shape (n_ant, n_pol), with at least this part of their cells solved."""
    return np.asarray(np.mean(~flags, axis=(0, 2)) >= working_cells)


def check_solution_fraction(table: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS) -> SolutionCheck:
    """Solved part of the cells of working receptors (dead ones are no measure of a solve)."""
    working = find_working_receptors(table.flags, limits.working_cells)
    solved = (~table.flags).transpose(1, 3, 0, 2)
    fraction = float(np.mean(solved[working])) if working.any() else 0.0
    passed = fraction >= limits.min_solution_fraction
    message = f"{fraction:.1%} of the solutions of {np.count_nonzero(working)} working receptors exist"
    cure = "; look at the flags of the group and at the calibrator's SNR" if not passed else ""
    return SolutionCheck("solution_fraction", passed, "ERROR", fraction, limits.min_solution_fraction, message + cure)


def check_working_receptors(
    table: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS, expected_antennas: int | None = None
) -> SolutionCheck:
    """Receptors that work, of those expected; the dead antennas are named."""
    working = find_working_receptors(table.flags, limits.working_cells)
    expected = working.shape[1] * (expected_antennas or table.n_observed or working.shape[0])
    fraction = float(np.count_nonzero(working) / expected)
    passed = fraction >= limits.min_working_fraction
    dead = [table.antenna_names[i] for i in np.flatnonzero(~np.any(working, axis=1))]
    message = f"{np.count_nonzero(working)} of {expected} receptors work; without any solution: {_shorten(dead)}"
    cure = "; the group holds no usable calibrator, or the flags are wrong" if not passed else ""
    return SolutionCheck("working_receptors", passed, "ERROR", fraction, limits.min_working_fraction, message + cure)


def check_smoothness(table: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS) -> SolutionCheck:
    """Noise from channel to channel, in amplitude and (delays removed) in phase, medians over receptors.

    The noise is 1.4826 median |x_(c+1) − x_c| / sqrt 2 with x the phase or the logarithm of the amplitude.
    """
    flags, gains = table.flags[0], np.where(table.flags[0], np.nan, table.gains[0])
    delays, _ = measure_delays(table.gains[0], flags, table.frequencies_hz)
    turn = np.exp(-2e-9j * np.pi * table.frequencies_hz[None, :, None] * np.nan_to_num(delays)[:, None, :])
    ratio = (gains * turn)[:, 1:] * np.conj((gains * turn)[:, :-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_step = np.diff(np.log(np.abs(gains)), axis=1)
    phase = _median_roughness(np.degrees(np.angle(ratio)))
    amplitude = _median_roughness(log_step)
    passed = bool(phase <= limits.max_phase_roughness_deg and amplitude <= limits.max_amplitude_roughness)
    message = f"from channel to channel {phase:.1f} deg (limit {limits.max_phase_roughness_deg:g}) and {amplitude:.1%}"
    cure = "; unflagged interference or a calibrator too faint for this channel width" if not passed else ""
    return SolutionCheck("smoothness", passed, "ERROR", phase, limits.max_phase_roughness_deg, message + cure)


def check_delays(table: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS) -> list[SolutionCheck]:
    """Coherence of the phases, gradient of the delay plane, and rogue antennas."""
    delays, coherence = measure_delays(table.gains[0], table.flags[0], table.frequencies_hz)
    known = np.isfinite(delays)
    typical = float(np.median(coherence[known])) if known.any() else 0.0
    coherent = typical >= limits.min_coherence
    message = f"a single delay explains {typical:.2f} of a receptor's phases (median)"
    cure = "" if coherent else "; these are phases of noise: no calibrator was in the field, or the model is wrong"
    checks = [SolutionCheck("coherence", coherent, "ERROR", typical, limits.min_coherence, message + cure)]
    judged = np.where(coherence >= COHERENT, delays, np.nan)
    try:
        plane = fit_delay_plane(judged, table.antenna_positions_m, rogue_ns=limits.rogue_ns)
    except SolveError as error:
        message = f"the delay plane cannot be judged ({error}); solve on a calibrator"
        return [*checks, SolutionCheck("delay_plane", False, "ERROR", float("nan"), limits.max_gradient_ns_m, message)]
    return [*checks, _check_plane(plane, limits), _check_rogues(plane, table.antenna_names, limits)]


def check_change(
    table: GainTable, previous: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS
) -> list[SolutionCheck]:
    """Change from the previous table: phases, amplitudes, and receptors that died."""
    change = measure_change(table, previous)
    phase = SolutionCheck(
        "phase_change",
        bool(change.phase_rms_deg <= limits.max_phase_change_deg),
        "WARN",
        change.phase_rms_deg,
        limits.max_phase_change_deg,
        f"phases changed by {change.phase_rms_deg:.1f} deg (robust rms; common phase and plane removed)"
        + ("" if change.phase_rms_deg <= limits.max_phase_change_deg else "; a restart or a new delay set? compare K"),
    )
    amplitude = SolutionCheck(
        "amplitude_change",
        bool(change.amplitude_rms <= limits.max_amplitude_change),
        "WARN",
        change.amplitude_rms,
        limits.max_amplitude_change,
        f"amplitudes changed by {change.amplitude_rms:.1%} (robust rms), together by {change.amplitude_ratio - 1:+.1%}"
        + ("" if change.amplitude_rms <= limits.max_amplitude_change else "; attenuators changed, or the model is off"),
    )
    died = SolutionCheck(
        "newly_dead",
        not change.died,
        "WARN",
        float(len(change.died)),
        0.0,
        f"receptors that lost their solutions: {_shorten(list(change.died))}",
    )
    return [phase, amplitude, died]


def check_flux_ratio(flux_ratio: float, *, limits: SolutionLimits = DEFAULT_LIMITS) -> SolutionCheck:
    """Observed over model flux density on the bandpass's scale."""
    low, high = limits.flux_ratio_range
    passed = bool(low <= flux_ratio <= high)
    message = f"observed over model flux density {flux_ratio:.3f} (expected {low:g} to {high:g})"
    cure = "" if passed else "; the bandpass belongs to another strip or state, or the sky model is wrong"
    return SolutionCheck("flux_ratio", passed, "WARN", flux_ratio, high if flux_ratio > high else low, message + cure)


def check_solver_agreement(
    table: GainTable, other: GainTable, *, limits: SolutionLimits = DEFAULT_LIMITS
) -> list[SolutionCheck]:
    """Whether two solvers' tables of the same data agree: phases and amplitudes per receptor.

    Made on demand and weekly; both see the same noise, so they agree to a fraction of it.
    """
    change = measure_change(table, other)
    pairs = (
        ("solver_phases", change.phase_rms_deg, limits.max_solver_phase_deg, f"{change.phase_rms_deg:.2f} deg"),
        ("solver_amplitudes", change.amplitude_rms, limits.max_solver_amplitude, f"{change.amplitude_rms:.2%}"),
        (
            "solver_scale",
            abs(change.amplitude_ratio - 1.0),
            limits.max_solver_amplitude,
            f"{change.amplitude_ratio - 1.0:+.2%} in common amplitude",
        ),
    )
    cure = "; one of the solvers is wrong: look at flags, weights and model of the group"
    return [
        SolutionCheck(
            name,
            bool(value <= limit),
            "WARN",
            value,
            limit,
            f"they differ by {text}{'' if value <= limit else cure}",
        )
        for name, value, limit, text in pairs
    ]


def is_usable(checks: list[SolutionCheck]) -> bool:
    """Whether no ERROR check failed."""
    return all(check.passed for check in checks if check.severity == "ERROR")


def _check_plane(plane: DelayPlane, limits: SolutionLimits) -> SolutionCheck:
    gradient = plane.gradient_ns_m
    passed = gradient <= max(limits.max_gradient_ns_m, SIGNIFICANT * plane.error_ns_m)
    message = (
        f"delay gradient {plane.east_ns_m:+.3f} ns/m east, {plane.north_ns_m:+.3f} ns/m north, error "
        f"{plane.error_ns_m:.3f} ({plane.angle_deg:.2f} deg on the sky), residual {plane.rms_ns:.1f} ns rms over "
        f"{plane.n_antennas} antennas"
    )
    cure = "" if passed else "; the phase centre of the data or of the model is wrong: check pt_dec and the rephasing"
    return SolutionCheck("delay_plane", passed, "ERROR", gradient, limits.max_gradient_ns_m, message + cure)


def _check_rogues(plane: DelayPlane, names: tuple[str, ...], limits: SolutionLimits) -> SolutionCheck:
    worst = np.nanmax(np.abs(np.nan_to_num(plane.residual_ns)), axis=1)
    rogues = [f"{names[i]} ({worst[i]:.0f} ns)" for i in np.flatnonzero(plane.rogue)]
    cure = "; their cable or correlator delay is wrong (applied_delays)" if rogues else ""
    message = f"antennas more than {limits.rogue_ns:g} ns off the plane: {_shorten(rogues)}{cure}"
    return SolutionCheck("rogue_delays", not rogues, "WARN", float(len(rogues)), 0.0, message)


def _median_roughness(step: Floats) -> float:
    """1.4826 median |step| / sqrt 2 per receptor, median over receptors; inf without steps."""
    values = [
        1.4826 * float(np.median(np.abs(s[np.isfinite(s)]))) / np.sqrt(2.0)
        for s in np.moveaxis(step, 1, -1).reshape(-1, step.shape[1])
        if np.isfinite(s).any()
    ]
    return float(np.median(values)) if values else float("inf")


def _shorten(names: list[str], limit: int = 30) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
