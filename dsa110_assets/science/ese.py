"""Extreme scattering events in light curves: the one detector.

A matched filter over lens templates with a baseline from outside the event; then its look-elsewhere false-alarm
probability from time-shuffled and phase-randomised curves of that very source (SCIENCE 7): refractive scintillation
and slow intrinsic variation raise their own threshold.

References: Fiedler et al. 1994, ApJ 430, 581; Lazio et al. 2001, ApJS 136, 265; Clegg, Fey & Lazio 1998, ApJ 496, 253.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from scipy.stats import norm

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.ese_filter import (
    MIN_CORE_EPOCHS,
    Filter,
    gumbel_tail,
    lens_shape,
    make_bank,
    measure_surrogates,
)
from dsa110_assets.science.ese_placebo import placebo_false_alarm
from dsa110_assets.science.ese_refine import Peak, refine_peak
from dsa110_assets.science.noise import robust_rms

Floats = npt.NDArray[np.float64]
_WIDTH_TOLERANCE = 1.2
"""An event fitted with a longer width than the longest searched, by this factor, is none."""
_MIN_OUTSIDE = 8
"""Epochs outside an event that a level needs."""


class SearchOptions(BaseModel, frozen=True):
    """What counts as an event."""

    min_epochs: int = Field(default=20, ge=12)
    """Curves with fewer good epochs are not searched."""
    min_width_days: float = Field(default=5.0, gt=0)
    """Shortest event (full width where the template departs by a tenth of its depth), days."""
    max_width_days: float = Field(default=150.0, gt=0)
    """Longest event, days."""
    width_step: float = Field(default=1.6, gt=1.05, le=3.0)
    """Ratio of neighbouring widths in the bank."""
    step_days: float = Field(default=1.0, gt=0)
    """Grid spacing, days: a fifth of the shortest event."""
    min_depth: float = Field(default=0.1, ge=0)
    """Smallest fractional depth."""
    max_amplitude: float = Field(default=1.3, gt=0)
    """Largest factor on a template: more than all of the flux cannot be lensed."""
    min_snr: float = Field(default=5.0, gt=0)
    """Smallest amplitude in its own sigma; what is below is not compared with surrogates."""
    max_false_alarm: float = Field(default=1e-3, gt=0, le=1)
    """Events with a larger look-elsewhere false-alarm probability are not returned."""
    n_surrogates: int = Field(default=100, ge=20)
    """Curves of each kind (shuffled, phase-randomised) behind the first false-alarm probability."""
    n_confirm: int = Field(default=0, ge=0)
    """Curves of each kind with which events that pass are judged again; 10,000 for a publication."""
    max_candidates: int = Field(default=3, ge=1)
    """Events per curve."""
    seed: int = 0
    """Of the surrogates."""

    @property
    def widths(self) -> tuple[float, ...]:
        """Widths of the bank, days."""
        ratio = self.max_width_days / self.min_width_days
        n = 1 + int(np.ceil(np.log(max(ratio, 1.0)) / np.log(self.width_step)))
        return tuple(
            float(w) for w in np.geomspace(self.min_width_days, max(self.max_width_days, self.min_width_days), n)
        )


@dataclass(frozen=True)
class Candidate:
    """One event.

    Attributes
    ----------
    mjd_start, mjd_end : float
        First and last time at which the template departs by a tenth of its depth; the end not after the last epoch.
    mjd_mid : float
        Centre.
    depth : float
        Fractional depth of the fitted event.
    timescale_days : float
        Full width, edge to edge of the template.
    asymmetry : float
        (A_after - A_before) / (A_after + A_before) of the amplitudes fitted on both sides of the centre; NaN when one
        side was not observed.
    lens_strength, source_fwhm : float
        Of the template.
    amplitude : float
        Part of the flux that the lens acts on.
    baseline_jy : float
        Median flux outside the event.
    snr : float
        Amplitude over its sigma (with the source's own scatter).
    significance : float
        The same over the scatter it has in surrogates.
    score : float
        1 - local false-alarm probability.
    false_alarm_probability : float
        Look-elsewhere: that the strongest event of such a curve without one is at least this strong.
    n_epochs : int
        Good epochs within the event.
    ongoing : bool
        The template had not ended at the last epoch.
    vetoes : tuple of str
        Names of what speaks against it; see `ese_vetoes.find_vetoes`.
    """

    mjd_start: float
    mjd_end: float
    mjd_mid: float
    depth: float
    timescale_days: float
    asymmetry: float
    lens_strength: float
    source_fwhm: float
    amplitude: float
    baseline_jy: float
    snr: float
    significance: float
    score: float
    false_alarm_probability: float
    n_epochs: int
    ongoing: bool
    vetoes: tuple[str, ...] = field(default=())

    def with_vetoes(self, vetoes: tuple[str, ...]) -> Candidate:
        """The same with vetoes."""
        return replace(self, vetoes=vetoes)


def search(
    mjd: npt.ArrayLike, flux: npt.ArrayLike, flux_err: npt.ArrayLike, *, options: SearchOptions | None = None
) -> list[Candidate]:
    """Find lensing events in one light curve.

    Parameters
    ----------
    mjd : (n,)
        Mid-exposure times, days, any order.
    flux, flux_err : (n,)
        Flux densities (normalised) and errors, any one unit. Epochs that are not finite are left out.
    options : SearchOptions
        None: the defaults.

    Returns
    -------
    list of Candidate
        The strongest first; empty when there are too few epochs or nothing stands out.

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    """
    options = options or SearchOptions()
    time, value, error = (np.asarray(a, np.float64) for a in (mjd, flux, flux_err))
    if not (time.shape == value.shape == error.shape and time.ndim == 1):
        raise ShapeError(f"mjd {time.shape}, flux {value.shape} and flux_err {error.shape} must be (n,) each")
    good = np.isfinite(time) & np.isfinite(value) & np.isfinite(error) & (error > 0)
    order = np.argsort(time[good], kind="stable")
    curve = _Curve(time[good][order], value[good][order], error[good][order])
    generator = np.random.default_rng(options.seed)
    found: list[Candidate] = []
    keep = np.ones(len(curve.mjd), np.bool_)
    while len(found) < options.max_candidates and keep.sum() >= options.min_epochs:
        candidate = _strongest(curve.select(keep), options, generator)
        if candidate is None:
            break
        found.append(candidate)
        away = curve.mjd - candidate.mjd_mid
        shape = lens_shape(candidate.lens_strength, candidate.source_fwhm)
        model = 1.0 + candidate.amplitude * shape.at(away, candidate.timescale_days)
        keep &= (np.abs(away) > 0.5 * candidate.timescale_days) & (model > 0.0)
        curve = replace(curve, flux=curve.flux / np.where(keep, model, 1.0))
    return found


@dataclass(frozen=True)
class _Curve:
    mjd: Floats
    flux: Floats
    error: Floats

    def select(self, keep: npt.NDArray[np.bool_]) -> _Curve:
        return _Curve(self.mjd[keep], self.flux[keep], self.error[keep])


def _strongest(curve: _Curve, options: SearchOptions, generator: np.random.Generator) -> Candidate | None:
    """The best event of a curve; filtered twice, the second time with level and scatter from outside the event."""
    trial = _filter_once(curve, None, options)
    if trial is not None:
        first = refine_peak(trial.residual, trial.matched.weight, curve.mjd, trial.peak)
        trial = _filter_once(curve, ~first.inside, options)
    if trial is None:
        return None
    peak, residual, weight = trial.peak, trial.residual, trial.matched.weight
    refined = refine_peak(residual, weight, curve.mjd, peak)
    if refined.width > _WIDTH_TOLERANCE * options.max_width_days:
        return None  # what goes on is slower than any event looked for
    model = refined.amplitude * refined.shape.at(curve.mjd - refined.mid, refined.width)
    placebo = placebo_false_alarm(curve.mjd, residual, weight, model, mid=refined.mid, width=refined.width)
    if placebo > options.max_false_alarm:
        return None
    null = _judge(trial, options=options, generator=generator)
    if null is None:
        return None
    null = _Null(max(null.false_alarm, placebo), null.significance)
    return _describe(curve, trial, refine_peak(residual, weight, curve.mjd, refined, fine=True), null)


@dataclass(frozen=True)
class _Trial:
    """A curve filtered against one level: fractional residuals, their errors, the filter and its peak."""

    level: float
    residual: Floats
    sigma: Floats
    matched: Filter
    peak: Peak


def _filter_once(curve: _Curve, outside: npt.NDArray[np.bool_] | None, options: SearchOptions) -> _Trial | None:
    """Filter against level and scatter of what lies outside an event; before one is known, of everything.

    An event may fill most of a short curve: its scatter is then that of successive differences.
    """
    used = np.ones(len(curve.mjd), np.bool_) if outside is None else outside
    level = float(np.median(curve.flux[used])) if used.sum() >= _MIN_OUTSIDE else np.nan
    if not level > 0:
        return None
    residual, noise = curve.flux / level - 1.0, curve.error / level
    wander = residual[used] if outside is not None else np.diff(residual) / np.sqrt(2.0)
    sigma = np.hypot(noise, _own_scatter(wander, noise[used]))
    bank = make_bank(_rounded_span(curve.mjd), options.step_days, options.widths)
    matched = Filter.of(bank, curve.mjd - curve.mjd[0], sigma)
    peak = _find_peak(matched, residual, curve.mjd, options)
    if peak is None or not _is_broad(residual, matched.weight, curve.mjd, peak):
        return None
    return _Trial(level, residual, sigma, matched, peak)


def _rounded_span(mjd: Floats) -> int:
    """Length of a curve, days, in steps: curves of similar length share a bank."""
    return 64 * int(np.ceil((mjd[-1] - mjd[0] + 1.0) / 64.0))


def _own_scatter(residual: Floats, noise: Floats) -> float:
    """Fractional scatter that the errors do not explain."""
    return float(np.sqrt(max(float(robust_rms(residual)) ** 2 - float(np.median(noise**2)), 0.0)))


def _find_peak(matched: Filter, residual: Floats, mjd: Floats, options: SearchOptions) -> Peak | None:
    snr = matched.apply(residual)
    amplitude = snr * matched.scale
    bank = matched.bank
    possible: npt.NDArray[np.bool_] = (amplitude * bank.depths[:, None] >= options.min_depth) & (
        amplitude <= options.max_amplitude
    )
    best = int(np.argmax(np.where(possible, snr, -np.inf)))
    template, place = divmod(best, snr.shape[1])
    if not (possible[template, place] and snr[template, place] >= options.min_snr):
        return None
    mid, width = mjd[0] + matched.day_of(place), float(bank.widths[template])
    inside = np.abs(mjd - mid) <= 0.5 * width
    found = float(snr[template, place]), float(amplitude[template, place])
    return Peak(bank.shapes[template], width, mid, *found, inside)


def _is_broad(residual: Floats, weight: Floats, mjd: Floats, peak: Peak) -> bool:
    """Whether no single epoch makes half of the event, and at least three depart."""
    change = peak.shape.at(mjd - peak.mid, peak.width)
    if not peak.inside.any() or peak.inside.all():
        return False
    fallen = residual - float(np.median(residual[~peak.inside]))
    share: Floats = weight * fallen * change
    deep = peak.inside & (fallen < -0.25 * peak.amplitude * peak.shape.depth)
    return bool(deep.sum() >= MIN_CORE_EPOCHS and float(np.max(share)) < 0.5 * float(np.sum(share)))


@dataclass(frozen=True)
class _Null:
    """What curves without the event give: false-alarm probability of the peak, and its significance and local one."""

    false_alarm: float
    significance: float


def _judge(trial: _Trial, *, options: SearchOptions, generator: np.random.Generator) -> _Null | None:
    """Compare a peak with surrogates of what lies outside it; None when it is not rare enough."""
    outside = (trial.residual / trial.sigma)[~trial.peak.inside]
    null = _Null(1.0, 0.0)
    for number in (20, options.n_surrogates, options.n_confirm):  # the first few send most of them away
        if not number:
            continue
        strongest, spread = measure_surrogates(trial.matched, outside, trial.sigma, number, generator)
        alarms = [gumbel_tail(trial.peak.snr, maxima) for maxima in strongest]
        null = _Null(max(alarms), trial.peak.snr / max(spread, 1.0))
        if null.false_alarm > (0.2 if number == 20 else options.max_false_alarm):
            return None
    return null


def _describe(curve: _Curve, trial: _Trial, peak: Peak, null: _Null) -> Candidate:
    """Depth and baseline with the shoulders of the lens taken out of the surroundings."""
    change = peak.shape.at(curve.mjd - peak.mid, peak.width)
    outside = ~peak.inside
    baseline = float(np.median(curve.flux[outside] / (1.0 + peak.amplitude * change[outside])))
    residual, weight = curve.flux / baseline - 1.0, trial.matched.weight
    sides = [
        _amplitude(residual, weight, change, peak.inside & side)
        for side in (curve.mjd < peak.mid, curve.mjd > peak.mid)
    ]
    amplitude = _amplitude(residual, weight, change, peak.inside)
    total = sides[0] + sides[1]
    start, end = peak.mid - 0.5 * peak.width, peak.mid + 0.5 * peak.width
    return Candidate(
        mjd_start=float(max(start, curve.mjd[0])),
        mjd_end=float(min(end, curve.mjd[-1])),
        mjd_mid=peak.mid,
        depth=amplitude * peak.shape.depth,
        timescale_days=peak.width,
        asymmetry=float((sides[1] - sides[0]) / total) if np.isfinite(total) and total != 0.0 else float("nan"),
        lens_strength=peak.shape.strength,
        source_fwhm=peak.shape.source_fwhm,
        amplitude=amplitude,
        baseline_jy=baseline,
        snr=peak.snr,
        significance=null.significance,
        score=float(norm.cdf(null.significance)),
        false_alarm_probability=null.false_alarm,
        n_epochs=int(peak.inside.sum()),
        ongoing=bool(end > curve.mjd[-1]),
    )


def _amplitude(residual: Floats, weight: Floats, change: Floats, use: npt.NDArray[np.bool_]) -> float:
    """Least-squares factor on a template over some epochs; NaN with fewer than three."""
    if use.sum() < MIN_CORE_EPOCHS:
        return float("nan")
    return float(np.sum((weight * residual * change)[use]) / np.sum((weight * change**2)[use]))
