"""Delays of the antennas, and the plane they make across the array when the phase centre was wrong."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S
from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.instrument import LATITUDE_DEG, LONGITUDE_DEG

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ROGUE_NS = 50.0
"""An antenna farther than this from the array's plane has a wrong cable or correlator delay (DECISIONS 12)."""
_PADDING = 8
_MIN_CHANNELS = 4
_REFINEMENTS = 4
_BATCH = 32
_TRIALS = 400
_RCOND = 1e-3  # antennas in one line leave the gradient across it undetermined: it is then 0, not noise


@dataclass(frozen=True)
class DelayPlane:
    """Least-squares plane through antenna delays, rogue antennas left out.

    Attributes
    ----------
    east_ns_m, north_ns_m
        Gradient, ns per metre.
    error_ns_m
        One-sigma error of the gradient's modulus, from the residuals.
    offset_ns : (n_pol,) float
        Delay of each polarization at the array's median position, ns.
    residual_ns : (n_ant, n_pol) float
        Delay less plane, NaN where there is no delay.
    rogue : (n_ant,) bool
        Antennas farther than the limit from the plane in a polarization.
    rms_ns
        Root mean square residual of the antennas kept.
    n_antennas
        Antennas kept.
    """

    east_ns_m: float
    north_ns_m: float
    error_ns_m: float
    offset_ns: Floats
    residual_ns: Floats
    rogue: Flags
    rms_ns: float
    n_antennas: int

    @property
    def gradient_ns_m(self) -> float:
        """Modulus of the gradient, ns per metre."""
        return float(np.hypot(self.east_ns_m, self.north_ns_m))

    @property
    def angle_deg(self) -> float:
        """Direction error that makes this gradient, degrees: sin(angle) = c gradient (0.02 ns/m is 0.34 deg)."""
        return float(np.degrees(np.arcsin(min(1.0, SPEED_OF_LIGHT_M_S * 1e-9 * self.gradient_ns_m))))


def measure_delays(
    gains: npt.NDArray[np.complexfloating], flags: Flags, frequencies_hz: Floats
) -> tuple[Floats, Floats]:
    """Delay of each receptor from the phases of its bandpass.

    The delay tau maximises ``|sum_c u_c exp(-2 pi i nu_c tau)|`` with u the unit phasors: found on a padded Fourier
    transform (unambiguous within half the inverse channel spacing, +-2048 ns), then refined by the weighted phase slope
    of what remains.

    Parameters
    ----------
    gains, flags : (n_ant, n_chan, n_pol)
        Bandpass.
    frequencies_hz : (n_chan,) float
        Ascending; gaps between subbands are allowed.

    Returns
    -------
    delays_ns : (n_ant, n_pol) float
        NaN with fewer than 4 channels. A positive delay is a phase that rises with frequency.
    coherence : (n_ant, n_pol) float
        0 to 1: how much of the phase a single delay explains.
    """
    if gains.shape != flags.shape or gains.shape[1] != len(frequencies_hz):
        raise ShapeError(f"gains {gains.shape}, flags {flags.shape}, {len(frequencies_hz)} frequencies")
    unit = np.where(flags | (gains == 0), 0.0, np.exp(1j * np.angle(gains)))
    antenna, pol = np.nonzero(np.sum(unit != 0, axis=1) >= _MIN_CHANNELS)
    delays = np.full((gains.shape[0], gains.shape[2]), np.nan)
    coherence = np.zeros_like(delays)
    for start in range(0, len(antenna), _BATCH):
        some = (antenna[start : start + _BATCH], pol[start : start + _BATCH])
        delays[some], coherence[some] = _measure_delays(unit[some[0], :, some[1]], frequencies_hz)
    return delays, coherence


def _measure_delays(unit: npt.NDArray[np.complex128], frequencies_hz: Floats) -> tuple[Floats, Floats]:
    """Delays (ns) and coherence of receptors, ``unit`` being (n, n_chan) with 0 where there is nothing."""
    spacing = float(np.min(np.diff(frequencies_hz)))
    slot = np.round((frequencies_hz - frequencies_hz[0]) / spacing).astype(np.int64)
    length = int(2 ** np.ceil(np.log2(_PADDING * (slot[-1] + 1))))
    padded = np.zeros((len(unit), length), np.complex128)
    padded[:, slot] = unit
    tau = np.fft.fftfreq(length, spacing)[np.argmax(np.abs(np.fft.fft(padded, axis=1)), axis=1)]
    used = unit != 0
    number = used.sum(axis=1)
    offset = frequencies_hz - frequencies_hz.mean()
    centred = np.where(used, offset - (used @ offset / number)[:, None], 0.0)
    for _ in range(_REFINEMENTS):
        rest = unit * np.exp(-2j * np.pi * offset * tau[:, None])
        phase = np.angle(rest * np.conj(np.sum(rest, axis=1, keepdims=True)))
        tau = tau + np.sum(centred * phase, axis=1) / np.sum(centred**2, axis=1) / (2 * np.pi)
    final = np.abs(np.sum(unit * np.exp(-2j * np.pi * offset * tau[:, None]), axis=1)) / number
    return 1e9 * tau, final


def east_north_m(positions_itrf_m: Floats) -> Floats:
    """East and north components (n, 2), metres, at the telescope, about the median of the finite positions."""
    longitude, latitude = np.radians(LONGITUDE_DEG), np.radians(LATITUDE_DEG)
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    north = np.array([-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)])
    plane = positions_itrf_m @ np.stack([east, north], axis=1)
    return np.asarray(plane - np.nanmedian(plane, axis=0))


def fit_delay_plane(
    delays_ns: Floats, positions_itrf_m: Floats, *, rogue_ns: float = ROGUE_NS, minimum: int = 6
) -> DelayPlane:
    """Fit ``delay = offset_p + g_E east + g_N north`` to the antennas that agree on one plane.

    A plane is drawn through random triples of antennas (fixed seed); the one with the smallest median absolute residual
    is the start (least median of squares, Rousseeuw 1984, which survives half of the antennas being wrong). Antennas
    farther than ``rogue_ns`` are then left out of a least-squares fit until their list no longer changes.

    Parameters
    ----------
    delays_ns : (n_ant, n_pol) float
        NaN where there is none.
    positions_itrf_m : (n_ant, 3) float
        Metres.
    rogue_ns
        Limit beyond which an antenna is rogue, ns.
    minimum
        Fewest delays that make a plane.

    Returns
    -------
    DelayPlane

    Raises
    ------
    SolveError
        With fewer delays.
    """
    n_ant, n_pol = delays_ns.shape
    antenna, pol = np.nonzero(np.isfinite(delays_ns) & np.isfinite(positions_itrf_m[:, :1]))
    if len(antenna) < minimum:
        raise SolveError(f"{len(antenna)} antenna delays make no plane; at least {minimum} are needed")
    ground = east_north_m(positions_itrf_m) / 1000.0
    design = np.concatenate([ground[antenna], np.eye(n_pol)[pol]], axis=1)
    values = delays_ns[antenna, pol]
    solution = _start_plane(design, values)
    keep = np.ones(len(values), bool)
    for _ in range(20):
        inside = np.abs(values - design @ solution) <= rogue_ns
        bad = np.isin(antenna, antenna[~inside])
        if np.count_nonzero(~bad) < minimum:
            break
        done, keep = np.array_equal(keep, ~bad), ~bad
        solution = np.linalg.lstsq(design[keep], values[keep], rcond=_RCOND)[0]
        if done:
            break
    residual = np.full((n_ant, n_pol), np.nan)
    residual[antenna, pol] = values - design @ solution
    rogue = np.zeros(n_ant, bool)
    rogue[antenna[np.abs(residual[antenna, pol]) > rogue_ns]] = True
    rms = float(np.sqrt(np.mean((values - design @ solution)[keep] ** 2)))
    covariance = np.linalg.pinv(design[keep].T @ design[keep], rcond=_RCOND**2, hermitian=True) * rms**2
    direction = solution[:2] / max(float(np.hypot(*solution[:2])), 1e-30)
    return DelayPlane(
        east_ns_m=float(solution[0]) / 1000.0,
        north_ns_m=float(solution[1]) / 1000.0,
        error_ns_m=float(np.sqrt(direction @ covariance[:2, :2] @ direction)) / 1000.0,
        offset_ns=np.asarray(solution[2:]),
        residual_ns=residual,
        rogue=rogue,
        rms_ns=rms,
        n_antennas=len(np.unique(antenna[keep])),
    )


def _start_plane(design: Floats, values: Floats) -> Floats:
    """Least-median-of-squares start."""
    random = np.random.default_rng(20251013)
    n, m = design.shape
    best, best_score = np.linalg.lstsq(design, values, rcond=_RCOND)[0], np.inf
    for _ in range(_TRIALS):
        pick = random.choice(n, size=min(n, m + 1), replace=False)
        trial = np.linalg.lstsq(design[pick], values[pick], rcond=_RCOND)[0]
        score = float(np.median(np.abs(values - design @ trial)))
        if score < best_score:
            best, best_score = trial, score
    return np.asarray(best)
