"""Smooth random functions of absolute time: the same at any hour of any run with the same seed."""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def seeded_generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Random generator that depends on nothing but the seed and its keys (names or non-negative numbers)."""
    numbers = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in keys]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *numbers])))


@dataclass(frozen=True)
class Wander:
    """A sum of sinusoids with log-spaced periods, amplitudes proportional to the period (a red spectrum).

    Attributes
    ----------
    amplitude, phase_turns : (..., n_mode) float
        Amplitude of each mode and its phase at MJD 0, turns.
    period_days : (..., n_mode) float
        Days.
    """

    amplitude: Floats
    phase_turns: Floats
    period_days: Floats

    def at(self, mjd: npt.ArrayLike) -> Floats:
        """Values at times (n_time,), shape (n_time, ...)."""
        when = np.atleast_1d(np.asarray(mjd, dtype=np.float64)).reshape(-1, *([1] * self.amplitude.ndim))
        turns = when / self.period_days + self.phase_turns
        return np.asarray(np.sum(self.amplitude * np.sin(2.0 * np.pi * turns), axis=-1))


def draw_wander(
    generator: np.random.Generator, *, rms: float, period_days: tuple[float, float], n_modes: int = 10
) -> Wander:
    """Draw one wandering quantity with an rms over all time.

    Parameters
    ----------
    generator
        Source of the phases and periods.
    rms
        In the unit of the quantity.
    period_days
        Shortest and longest period, days.
    n_modes
        Number of sinusoids.
    """
    edges = np.geomspace(*period_days, n_modes + 1)
    periods = edges[:-1] * (edges[1:] / edges[:-1]) ** generator.random(n_modes)
    amplitude = rms * np.sqrt(2.0) * periods / np.sqrt(np.sum(periods**2))
    return Wander(amplitude, generator.random(n_modes), periods)


def stack_wanders(wanders: list[Wander]) -> Wander:
    """Several wanders as one with a leading axis."""
    return Wander(
        np.stack([w.amplitude for w in wanders]),
        np.stack([w.phase_turns for w in wanders]),
        np.stack([w.period_days for w in wanders]),
    )
