"""Matched filter for lensing events: a bank of lens templates against a light curve with gaps, by FFT.

Per template T (gain - 1) and centre, the curve is fitted by a constant and A T within two event widths: with weights w
and sums over that window, Z = (sum w r T - S_r S_T / S_w) / sqrt(S_TT - S_T^2 / S_w) is the amplitude in its own
sigma. The constant is the baseline of the surroundings, the event left out of it by the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft

from dsa110_assets.science.lens import gaussian_lens_gain

Floats = npt.NDArray[np.float64]

SHAPES = (
    (0.5, 0.5),
    (1.0, 0.3),
    (1.0, 2.0),
    (3.0, 0.3),
    (3.0, 1.5),
    (10.0, 0.3),
    (10.0, 1.0),
    (50.0, 0.3),
    (100.0, 3.0),
)
"""(strength, source FWHM) of the bank: from weak lenses to strong ones, from point-like to resolved sources."""
EDGE_FRACTION = 0.1
"""An event begins and ends where its template departs by this part of its depth."""
WINDOW_WIDTHS = 2.0
"""Half the window of the fit, event widths."""
MIN_CORE_EPOCHS = 3
"""Epochs needed where the template is deeper than half its depth."""
MIN_OUTSIDE_EPOCHS = 6
"""Epochs needed in the window but outside the event."""


@dataclass(frozen=True)
class Shape:
    """One lens, as a function of position in lens scales.

    Attributes
    ----------
    strength, source_fwhm : float
        Of the lens.
    u, change : (n,) float
        Positions and gain - 1.
    depth : float
        Largest decrease, -min(change).
    edge : float
        |u| outside which the decrease is less than EDGE_FRACTION of the depth.
    """

    strength: float
    source_fwhm: float
    u: Floats
    change: Floats
    depth: float
    edge: float

    def at(self, days: Floats, width_days: float) -> Floats:
        """Gain - 1 at days from the centre of an event of a full width (edge to edge) in days."""
        return np.interp(days * (2.0 * self.edge / width_days), self.u, self.change, left=0.0, right=0.0)


@lru_cache(maxsize=128)
def lens_shape(strength: float, source_fwhm: float) -> Shape:
    """Tabulate a lens."""
    reach = 6.0 + strength + 2.0 * source_fwhm
    u = np.linspace(-reach, reach, 4001)
    change = gaussian_lens_gain(u, strength, source_fwhm=source_fwhm) - 1.0
    depth = float(-change.min())
    edge = float(np.abs(u[change < -EDGE_FRACTION * depth]).max())
    return Shape(strength, source_fwhm, u, change, depth, edge)


@dataclass(frozen=True)
class Bank:
    """Templates on a regular grid, as conjugate spectra.

    Attributes
    ----------
    shapes : tuple of Shape
        One per template.
    widths : (n_template,) float
        Full width of each event, days.
    depths : (n_template,) float
        Depth of each at amplitude 1.
    window : (n_template,) int
        Row of the template's window in ``windows``.
    spectra, squares : (n_template, n_frequency) complex
        Of T and T^2 within the window.
    core, windows : (n_template or n_width, n_frequency) complex
        Of the core (deeper than half) and the windows.
    inside : (n_template, n_frequency) complex
        Of the event (edge to edge).
    step_days : float
        Grid spacing.
    size : int
        Grid length, with room for templates beyond both ends.
    """

    shapes: tuple[Shape, ...]
    widths: Floats
    depths: Floats
    window: npt.NDArray[np.int64]
    spectra: npt.NDArray[np.complex128]
    squares: npt.NDArray[np.complex128]
    core: npt.NDArray[np.complex128]
    inside: npt.NDArray[np.complex128]
    windows: npt.NDArray[np.complex128]
    step_days: float
    size: int


@lru_cache(maxsize=8)
def make_bank(n_days: int, step_days: float, widths: tuple[float, ...]) -> Bank:
    """Templates of all shapes and widths (days) for curves of up to a number of days."""
    reach = WINDOW_WIDTHS * max(widths)
    size = int(next_fast_len(int(np.ceil((n_days + 2.0 * reach) / step_days)) + 2, real=True))
    days = np.asarray(np.fft.fftfreq(size, 1.0 / size) * step_days, np.float64)
    shapes = [lens_shape(*pair) for pair in SHAPES]
    windows = np.stack([np.abs(days) <= WINDOW_WIDTHS * width for width in widths]).astype(np.float64)
    rows = [(shape, k) for k in range(len(widths)) for shape in shapes]
    change = np.stack([shape.at(days, widths[k]) * windows[k] for shape, k in rows])
    depths = np.array([shape.depth for shape, _ in rows])
    inside = np.stack([np.abs(days) <= 0.5 * widths[k] for _, k in rows]).astype(np.float64)
    core = (change < -0.5 * depths[:, None]).astype(np.float64)
    spectra, squares, core_f, inside_f, windows_f = (
        np.conj(rfft(a, axis=1)) for a in (change, change**2, core, inside, windows)
    )
    return Bank(
        tuple(shape for shape, _ in rows), np.array([widths[k] for _, k in rows]), depths,
        np.array([k for _, k in rows]), spectra, squares, core_f, inside_f, windows_f, step_days, size,
    )  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """A bank applied to one sampling: everything that does not depend on the fluxes.

    Attributes
    ----------
    bank : Bank
        The templates.
    cell : (n_epoch,) int
        Grid cell of every epoch.
    weight : (n_epoch,) float
        1 / sigma^2.
    mean : (n_template, size) float
        S_T / S_w.
    scale : (n_template, size) float
        1 / sqrt(S_TT - S_T^2 / S_w); 0 where there are too few epochs in the core or outside the event.
    """

    bank: Bank
    cell: npt.NDArray[np.int64]
    weight: Floats
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, bank: Bank, day: Floats, sigma: Floats) -> Filter:
        """Prepare for epochs at days (from the first, ascending) with errors."""
        cell = np.rint(day / bank.step_days).astype(np.int64)
        weight = 1.0 / sigma**2
        weights = rfft(np.bincount(cell, weight, bank.size))
        counts = rfft(np.bincount(cell, minlength=bank.size).astype(np.float64))
        total = irfft(weights * bank.windows, bank.size, axis=1)[bank.window]
        mean = irfft(weights * bank.spectra, bank.size, axis=1)
        variance = irfft(weights * bank.squares, bank.size, axis=1)
        floor = 1e-9 * weight.max()
        mean = np.where(total > floor, mean / np.maximum(total, floor), 0.0)
        variance = variance - mean**2 * total
        core = irfft(counts * bank.core, bank.size, axis=1)
        inside = irfft(counts * bank.inside, bank.size, axis=1)
        outside = irfft(counts * bank.windows, bank.size, axis=1)[bank.window] - inside
        enough = (core > MIN_CORE_EPOCHS - 0.5) & (outside > MIN_OUTSIDE_EPOCHS - 0.5) & (variance > floor)
        scale = np.where(enough, 1.0 / np.sqrt(np.maximum(variance, floor)), 0.0)
        return cls(bank, cell, weight, mean, scale)

    def apply(self, residual: Floats) -> Floats:
        """Z of every template and centre, (n_template, size), for fractional residuals (n_epoch,)."""
        bank = self.bank
        data = rfft(np.bincount(self.cell, self.weight * residual, bank.size))
        level = irfft(data * bank.windows, bank.size, axis=1)[bank.window]
        matched = irfft(data * bank.spectra, bank.size, axis=1)
        matched -= level * self.mean
        matched *= self.scale
        return np.asarray(matched)

    def day_of(self, place: int) -> float:
        """Days of a grid place from the first epoch; the upper part of the grid lies before it."""
        bank = self.bank
        reach = int(np.ceil(WINDOW_WIDTHS * bank.widths.max() / bank.step_days))
        return float((place if place < bank.size - reach else place - bank.size) * bank.step_days)


def shuffle(values: Floats, generator: np.random.Generator, n: int) -> Floats:
    """A curve of ``n`` values drawn from these without replacement, repeated when there are fewer."""
    return np.resize(generator.permutation(values), n)


def randomise_phases(values: Floats, generator: np.random.Generator, n: int) -> Floats:
    """A curve of ``n`` values with the power spectrum of these and random phases (Theiler et al. 1992)."""
    spectrum = rfft(values - values.mean())
    phases = np.exp(2j * np.pi * generator.random(spectrum.size))
    phases[0] = 1.0
    if values.size % 2 == 0:
        phases[-1] = 1.0
    return np.resize(np.roll(irfft(spectrum * phases, values.size), generator.integers(values.size)), n)


def measure_surrogates(
    matched: Filter, outside: Floats, sigma: Floats, number: int, generator: np.random.Generator
) -> tuple[list[Floats], float]:
    """Largest |Z| of ``number`` curves of each kind, and the larger scatter of Z over places and templates."""
    maxima: list[Floats] = []
    spreads: list[float] = []
    for kind in (shuffle, randomise_phases):
        largest, squares = np.empty(number), np.empty(number)
        for k in range(number):
            snr = matched.apply(sigma * kind(outside, generator, len(sigma)))
            largest[k] = float(np.max(np.abs(snr)))
            squares[k] = float(np.sum(snr**2)) / max(int(np.count_nonzero(matched.scale)), 1)
        maxima.append(largest)
        spreads.append(float(np.sqrt(squares.mean())))
    return maxima, max(spreads)


def gumbel_tail(value: float, maxima: Floats) -> float:
    """Probability that a maximum exceeds a value, from a Gumbel distribution fitted to maxima by moments.

    P = 1 - exp(-exp(-(x - mu) / beta)), beta = s sqrt(6) / pi, mu = mean - 0.5772 beta. The maxima of Gaussian
    processes fall off faster, so far out the probability is too large, never too small.
    """
    beta = max(float(np.std(maxima, ddof=1)) * np.sqrt(6.0) / np.pi, 1e-12)
    centre = float(np.mean(maxima)) - np.euler_gamma * beta
    return float(-np.expm1(-np.exp(-np.clip((value - centre) / beta, -50.0, 700.0))))
