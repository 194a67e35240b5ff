"""What speaks against a candidate by name, its colour, and the seeds' scores as reported columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.ese import Candidate
from dsa110_assets.science.ese_filter import lens_shape
from dsa110_assets.science.lens import gaussian_lens_gain, strength_at_frequency

Floats = npt.NDArray[np.float64]

MIN_SUN_DEG = 20.0
"""Nearer than this, the Sun's side lobes and the solar wind are suspects."""
MAX_NEIGHBOUR_SHARE = 0.4
"""Median change of the neighbours over the candidate's depth that counts as the same."""


@dataclass(frozen=True)
class Surroundings:
    """What is known of the epochs of a curve, all (n_epoch,) in its order; None where not known.

    Attributes
    ----------
    mjd : float
        Times.
    common_mode : bool, optional
        Epochs that depart in many sources at once.
    table_set : str, optional
        Calibration tables of each epoch.
    pb_response : float, optional
        Primary-beam response, 0-1.
    sun_deg : float, optional
        Angle to the Sun, degrees.
    neighbours : (n_neighbour, n_epoch) float, optional
        Normalised fluxes of nearby sources over their medians.
    """

    mjd: Floats
    common_mode: npt.NDArray[np.bool_] | None = None
    table_set: npt.NDArray[np.str_] | None = None
    pb_response: Floats | None = None
    sun_deg: Floats | None = None
    neighbours: Floats | None = None


def find_vetoes(candidate: Candidate, around: Surroundings) -> tuple[str, ...]:
    """Names of the vetoes that apply: common_mode, shared_table, primary_beam, sun, neighbours.

    common_mode: half of the event's epochs depart in many sources; shared_table: all its (three or more) epochs, and
    none outside, used one set of tables; primary_beam: the median response within differs by over 10 % from that
    outside or lies below 0.25; sun: half within 20 degrees; neighbours: they fade by 40 % of the depth at least.
    """
    inside = (around.mjd >= candidate.mjd_start) & (around.mjd <= candidate.mjd_end)
    if not inside.any() or inside.all():
        return ()
    tests = {
        "common_mode": around.common_mode is not None and bool(np.mean(around.common_mode[inside]) >= 0.5),
        "shared_table": around.table_set is not None and _one_table(around.table_set, inside),
        "primary_beam": around.pb_response is not None and _beam_differs(around.pb_response, inside),
        "sun": around.sun_deg is not None and bool(np.mean(around.sun_deg[inside] < MIN_SUN_DEG) >= 0.5),
        "neighbours": around.neighbours is not None and _neighbours_fade(around.neighbours, inside, candidate.depth),
    }
    return tuple(name for name, applies in tests.items() if applies)


def _one_table(tables: npt.NDArray[np.str_], inside: npt.NDArray[np.bool_]) -> bool:
    within = np.unique(tables[inside])
    return bool(inside.sum() >= 3 and within.size == 1 and not np.any(tables[~inside] == within[0]))


def _beam_differs(response: Floats, inside: npt.NDArray[np.bool_]) -> bool:
    within, without = float(np.nanmedian(response[inside])), float(np.nanmedian(response[~inside]))
    return within < 0.25 or abs(within / without - 1.0) > 0.1


def _neighbours_fade(neighbours: Floats, inside: npt.NDArray[np.bool_], depth: float) -> bool:
    if len(neighbours) < 2:
        return False
    change = np.nanmedian(neighbours[:, inside], axis=1) / np.nanmedian(neighbours[:, ~inside], axis=1) - 1.0
    return bool(-np.nanmedian(change) > MAX_NEIGHBOUR_SHARE * depth)


def measure_colour(
    mjd: npt.ArrayLike, fluxes: Floats, errors: Floats, frequencies_ghz: npt.ArrayLike, candidate: Candidate
) -> float:
    """How much better the event is fitted with a proportional to nu^-2 across the band than without colour.

    Half the difference of chi squared between the grey template and the chromatic one, the amplitude of each fitted:
    positive favours a plasma lens. Intrinsic change and calibration have another colour or none (Bannister+16).

    Parameters
    ----------
    mjd : (n_epoch,)
        Times.
    fluxes, errors : (n_epoch, n_subband)
        In-band fluxes and errors; NaN where not measured.
    frequencies_ghz : (n_subband,)
        GHz.
    candidate : Candidate
        The event, its strength at the mean frequency.

    Returns
    -------
    float
        ln of the likelihood ratio; NaN with fewer than two subbands or three epochs in the event.
    """
    time, nu = np.asarray(mjd, np.float64), np.asarray(frequencies_ghz, np.float64)
    inside = (time >= candidate.mjd_start) & (time <= candidate.mjd_end)
    if len(nu) < 2 or inside.sum() < 3 or not (~inside).any():
        return float("nan")
    base = np.nanmedian(fluxes[~inside], axis=0)
    value, sigma = fluxes[inside] / base - 1.0, errors[inside] / base
    shape = lens_shape(candidate.lens_strength, candidate.source_fwhm)
    u = (time[inside] - candidate.mjd_mid) * 2.0 * shape.edge / candidate.timescale_days
    mean = float(np.mean(nu))
    templates = []
    for chromatic in (False, True):
        at = [mean if not chromatic else float(f) for f in nu]
        change = [
            gaussian_lens_gain(
                u, float(strength_at_frequency(shape.strength, mean, f)), source_fwhm=candidate.source_fwhm
            )
            for f in at
        ]
        templates.append(np.stack(change, axis=1) - 1.0)
    chi2 = [_chi2_of(value, sigma, template) for template in templates]
    return 0.5 * (chi2[0] - chi2[1])


def _chi2_of(value: Floats, sigma: Floats, template: Floats) -> float:
    good = np.isfinite(value) & np.isfinite(sigma) & (sigma > 0)
    v, s, t = value[good], sigma[good], template[good]
    amplitude = float(np.sum(v * t / s**2) / np.sum(t * t / s**2))
    return float(np.sum(((v - amplitude * t) / s) ** 2))


def composite_score(chi2_nu: npt.ArrayLike, v: npt.ArrayLike, sigma_deviation: npt.ArrayLike) -> Floats:
    """The seeds' composite ESE score, 0-1, reported and never used to detect.

    0.5 min(1, sigma_deviation / 10) + 0.3 min(1, chi2_nu / 10) + 0.2 min(1, V / 0.2); NaN where any is unknown.
    """
    parts = [
        np.clip(np.asarray(a, np.float64) / full, 0.0, 1.0)
        for a, full in ((sigma_deviation, 10.0), (chi2_nu, 10.0), (v, 0.2))
    ]
    return np.asarray(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])


def flag_types(
    chi2_nu: npt.ArrayLike, v: npt.ArrayLike, sigma_deviation: npt.ArrayLike, *, n_epochs: npt.ArrayLike = 21
) -> npt.NDArray[np.str_]:
    """The seeds' automatic flags: ``rapid_change`` (|sigma deviation| > 5), else ``variability`` (chi2_nu > 5).

    Only with more than 20 epochs (``n_epochs``); V > 0.10 also counts as variability when chi2_nu > 3.
    """
    chi2, amplitude, deviation = (np.asarray(a, np.float64) for a in (chi2_nu, v, sigma_deviation))
    enough = np.asarray(n_epochs) > 20
    with np.errstate(invalid="ignore"):
        rapid = enough & (np.abs(deviation) > 5.0)
        variable = enough & ((chi2 > 5.0) | ((amplitude > 0.10) & (chi2 > 3.0)))
    return np.where(rapid, "rapid_change", np.where(variable, "variability", ""))
