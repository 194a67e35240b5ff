"""Visibilities of known gains, with noise, for the solver's tests."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.bandpass_solve import BandpassSolution, BandpassStream
from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_assets.science.gains import GainTable

NOISE_JY = 2.59
"""Standard deviation of real and imaginary part: SEFD 6500 Jy, 244 kHz, 12.9 s."""


@dataclass(frozen=True)
class Recipe:
    n_ant: int = 32
    n_chan: int = 64
    n_time: int = 8
    flux_jy: float = 10.0
    spread: float = 0.4
    """Scatter of ln |g|: sensitivity differs from antenna to antenna in raw units, not in Jy."""
    drift_rad: float = 0.0
    """Step of the random walk of the phases per integration."""
    delay_ns: float = 5.0
    noise_jy: float = NOISE_JY
    dead: tuple[tuple[int, int], ...] = ()
    seed: int = 3


@dataclass(frozen=True)
class Visibilities:
    recipe: Recipe
    antennas: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    positions_m: npt.NDArray[np.float64]
    frequencies_hz: npt.NDArray[np.float64]
    gains: npt.NDArray[np.complex128]
    """(n_ant, n_chan, n_pol), without the drift."""
    drift: npt.NDArray[np.complex128]
    """(n_time, n_ant, n_pol) unit phasors."""
    data: npt.NDArray[np.complex64]
    flags: npt.NDArray[np.bool_]
    model: npt.NDArray[np.complex64]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(i + 1) for i in range(self.recipe.n_ant))

    @property
    def thermal(self) -> float:
        """Expected fractional amplitude error per receptor and channel."""
        alive = self.recipe.n_ant - 1 - len(self.recipe.dead) / 2
        return self.recipe.noise_jy / (self.recipe.flux_jy * np.sqrt(alive * self.recipe.n_time))


def make_visibilities(recipe: Recipe) -> Visibilities:
    random = np.random.default_rng(recipe.seed)
    second, first = np.tril_indices(recipe.n_ant)
    frequencies = np.linspace(1.3115e9, 1.4985e9, recipe.n_chan)
    shape = (recipe.n_ant, 1, 2)
    amplitude = 0.067 * np.exp(recipe.spread * random.standard_normal(shape))
    ripple = 1 + 0.04 * np.cos(2 * np.pi * frequencies[None, :, None] / 60e6 + random.uniform(0, 6, shape))
    delay = 1e-9 * recipe.delay_ns * random.standard_normal(shape)
    turn = random.uniform(0, 2 * np.pi, shape) + 2 * np.pi * frequencies[None, :, None] * delay
    gains = amplitude * ripple * np.exp(1j * turn)
    walk = np.cumsum(recipe.drift_rad * random.standard_normal((recipe.n_time, recipe.n_ant, 2)), axis=0)
    drift = np.exp(1j * walk)
    noise_gain = np.abs(gains)
    gains = gains.copy()
    for a, p in recipe.dead:
        gains[a, :, p] = 0
    shape_vis = (recipe.n_time, len(first), recipe.n_chan)
    model = recipe.flux_jy * np.exp(1j * random.uniform(0, 2 * np.pi, shape_vis))
    effective = drift[:, :, None] * gains[None]
    data = effective[:, first] * np.conj(effective[:, second]) * model[..., None]
    noise = random.standard_normal((*shape_vis, 2)) + 1j * random.standard_normal((*shape_vis, 2))
    data += recipe.noise_jy * noise * (noise_gain[first] * noise_gain[second])[None]
    return Visibilities(
        recipe=recipe,
        antennas=(first.astype(np.int64), second.astype(np.int64)),
        positions_m=random.standard_normal((recipe.n_ant, 3)) * 300.0,
        frequencies_hz=frequencies,
        gains=gains,
        drift=drift,
        data=data.astype(np.complex64),
        flags=np.zeros(data.shape, bool),
        model=model.astype(np.complex64),
    )


def solve(visibilities: Visibilities, options: BandpassOptions | None = None, step: int = 2) -> BandpassSolution:
    stream = BandpassStream(
        visibilities.antennas,
        visibilities.positions_m,
        visibilities.names,
        visibilities.recipe.n_chan,
        options or BandpassOptions(),
    )
    for start in range(0, visibilities.recipe.n_time, step):
        part = slice(start, start + step)
        stream.add_interval(visibilities.data[part], visibilities.flags[part], visibilities.model[part])
    return stream.finish()


def ratio_to_truth(visibilities: Visibilities, solution: BandpassSolution) -> npt.NDArray[np.complex128]:
    """Solved over true gains, both referred to the solution's antenna; NaN where flagged."""
    mean = visibilities.drift.mean(axis=0)
    truth = visibilities.gains * (mean / np.abs(mean))[:, None]
    truth = truth * np.exp(-1j * np.angle(truth[solution.reference]))[None]
    good = ~solution.bandpass.flags & (truth != 0)
    return np.where(good, solution.bandpass.gains / np.where(good, truth, 1), np.nan)


def robust_scatter(values: npt.NDArray[np.float64]) -> float:
    """1.4826 MAD of the finite values."""
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite))))


def make_table(kind="B", n_time=1, n_ant=12, n_chan=16, *, seed=0, times_mjd=None, **changes) -> GainTable:
    """A random, unflagged table."""
    random = np.random.default_rng(seed)
    shape = (n_time, n_ant, n_chan, 2)
    gains = np.exp(0.1 * random.standard_normal(shape)) * np.exp(2j * np.pi * random.uniform(size=shape))
    width = 187.5e6 / n_chan
    fields = {
        "kind": kind,
        "gains": gains,
        "flags": np.zeros(shape, bool),
        "snr": np.full(shape, 50.0),
        "times_mjd": 61000.0 + np.arange(n_time) / 24 if times_mjd is None else np.asarray(times_mjd),
        "interval_s": 300.0,
        "frequencies_hz": 1311.265e6 + (np.arange(n_chan) + 0.5) * width,
        "channel_widths_hz": np.full(n_chan, width),
        "antenna_names": tuple(str(i + 1) for i in range(n_ant)),
        "antenna_positions_m": random.standard_normal((n_ant, 3)) * 400.0,
        "refant": "1",
        "phase_center_deg": (343.5, 16.1),
    }
    return GainTable(**{**fields, **changes})
