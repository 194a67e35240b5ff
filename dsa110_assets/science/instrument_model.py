"""The imperfect telescope: gains, bandpass, delays, dead receptors and noise as functions of absolute time.

Every station has its own random stream, so ``small`` and ``full`` share the gains of a station, and consecutive groups
and days continue smoothly. The raw datum of a baseline is

    V_raw = conj(g_1) g_2 (V_true + V_rfi + n) sinc(D (tau_2 - tau_1)),      vis = conj(A) B,

so that in a Measurement Set, whose data are the conjugate, V_ij = g_i conj(g_j) M_ij as CASA has it.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.instrument import BAND_BOTTOM_HZ, BAND_TOP_HZ, RAW_GAIN, REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.simulation_options import InstrumentOptions
from dsa110_assets.science.wander import Wander, draw_wander, seeded_generator, stack_wanders

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

N_POLARIZATIONS = 2
N_BANDPASS_MODES = 10
DEAD_AMPLITUDE = 0.02
"""What a dead receptor's noise is of a normal one's (station 101, 2025-02-14)."""


@dataclass(frozen=True)
class Instrument:
    """State of the receptors of an array; antennas in correlator order.

    Attributes
    ----------
    stations : (n_ant,) int
        Station numbers, 1 to 117.
    static : (n_ant, 2) complex
        Gain at the reference frequency without drift, raw per sqrt(Jy).
    bandpass_cos, bandpass_sin : (n_ant, 2, n_mode) complex
        Fourier amplitudes over the band of ln |B| (real part) and arg B (imaginary part, radians).
    delay_s : (n_ant, 2) float
        Residual delays: the gain's phase is +2 pi (f - f_ref) tau.
    dead : (n_ant, 2) bool
        Receptors that see no sky.
    noise_scale : (n_ant, 2) float
        Amplitude of a receptor's own noise, relative to a live one's.
    phase_drift, amplitude_drift, flux_drift
        Radians, ln |g| per receptor, and ln of the array-wide flux scale (day and hour parts).
    """

    stations: npt.NDArray[np.int64]
    static: Complexes
    bandpass_cos: Complexes
    bandpass_sin: Complexes
    delay_s: Floats
    dead: npt.NDArray[np.bool_]
    noise_scale: Floats
    phase_drift: Wander
    amplitude_drift: Wander
    flux_drift: tuple[Wander, Wander]

    def bandpass(self, frequency_hz: npt.ArrayLike) -> Complexes:
        """Bandpass with delays, about 1, shape (n_ant, n_chan, 2)."""
        f = np.atleast_1d(np.asarray(frequency_hz, dtype=np.float64))
        x = (f - BAND_BOTTOM_HZ) / (BAND_TOP_HZ - BAND_BOTTOM_HZ)
        angle = np.pi * np.arange(1, self.bandpass_cos.shape[-1] + 1)[:, None] * x
        shape = self.bandpass_cos @ np.cos(angle) + self.bandpass_sin @ np.sin(angle)
        slope = 2.0 * np.pi * self.delay_s[..., None] * (f - REFERENCE_FREQUENCY_HZ)
        return np.exp(shape.real + 1j * (shape.imag + slope)).swapaxes(1, 2)

    def flux_scale(self, mjd: npt.ArrayLike) -> Floats:
        """Array-wide factor on all visibilities, shape (n_time,)."""
        return np.asarray(np.exp(sum(w.at(mjd) for w in self.flux_drift)))

    def drifting_gains(self, mjd: npt.ArrayLike) -> Complexes:
        """Gains at the reference frequency, dead receptors as if alive, shape (n_time, n_ant, 2)."""
        drift = np.exp(self.amplitude_drift.at(mjd) + 1j * self.phase_drift.at(mjd))
        return np.asarray(self.static * drift * np.sqrt(self.flux_scale(mjd))[:, None, None])

    def gains(self, mjd: npt.ArrayLike, frequency_hz: npt.ArrayLike) -> Complexes:
        """Complex gains including the bandpass, raw per sqrt(Jy), shape (n_time, n_ant, n_chan, 2)."""
        return self.drifting_gains(mjd)[:, :, None, :] * self.bandpass(frequency_hz)[None]

    def with_dead(self, antenna: int, polarizations: slice, *, noise_scale: float = DEAD_AMPLITUDE) -> "Instrument":
        """The same instrument with one antenna's receptors dead (index in correlator order)."""
        dead, noise = self.dead.copy(), self.noise_scale.copy()
        dead[antenna, polarizations] = True
        noise[antenna, polarizations] = noise_scale
        return replace(self, dead=dead, noise_scale=noise)

    def with_delay(self, antenna: int, delay_s: float) -> "Instrument":
        """The same instrument with one antenna's delays (both polarisations) off by so many seconds more."""
        delays = self.delay_s.copy()
        delays[antenna] += delay_s
        return replace(self, delay_s=delays)


def draw_instrument(stations: npt.NDArray[np.int64], options: InstrumentOptions, seed: int) -> Instrument:
    """Draw the receptors of an array.

    Parameters
    ----------
    stations : (n_ant,) int
        Station numbers, in correlator order.
    options
        Amplitudes of every term.
    seed
        Seed of the campaign.
    """
    streams = [seeded_generator(seed, "receptors", int(s)) for s in stations]
    static, cos, sin, delay = (
        np.stack(part) for part in zip(*(_draw_receptors(g, options) for g in streams), strict=True)
    )
    drifts = [_draw_drifts(g, options) for g in streams]
    common = seeded_generator(seed, "flux scale")
    instrument = Instrument(
        stations=stations,
        static=static,
        bandpass_cos=cos,
        bandpass_sin=sin,
        delay_s=delay,
        dead=np.zeros((len(stations), N_POLARIZATIONS), dtype=bool),
        noise_scale=np.ones((len(stations), N_POLARIZATIONS)),
        phase_drift=stack_wanders([phase for phase, _ in drifts]),
        amplitude_drift=stack_wanders([amplitude for _, amplitude in drifts]),
        flux_drift=(
            draw_wander(common, rms=options.flux_drift_day * options.gains, period_days=(2.0, 20.0)),
            draw_wander(common, rms=options.flux_drift_group * options.gains, period_days=(1 / 24, 6 / 24)),
        ),
    )
    return _break_some(instrument, options, seed)


def _draw_receptors(
    generator: np.random.Generator, options: InstrumentOptions
) -> tuple[Complexes, Complexes, Complexes, Floats]:
    """Static gain (2,), bandpass amplitudes (2, mode) twice and delays (2,) of one antenna."""
    on = float(options.gains)
    amplitude = RAW_GAIN * np.exp(on * options.gain_spread * generator.standard_normal(N_POLARIZATIONS))
    static = amplitude * np.exp(2j * np.pi * on * generator.random(N_POLARIZATIONS))
    weight = 1.0 / np.arange(1, N_BANDPASS_MODES + 1)
    weight *= on / np.sqrt(np.sum(weight**2))
    parts = weight * generator.standard_normal((4, N_POLARIZATIONS, N_BANDPASS_MODES))
    ripple, phase = options.bandpass_amplitude, np.radians(options.bandpass_phase_deg)
    cos, sin = ripple * parts[0] + 1j * phase * parts[1], ripple * parts[2] + 1j * phase * parts[3]
    difference = options.delay_xy_ns * generator.standard_normal() * np.array([-0.5, 0.5])
    delay = on * 1e-9 * (options.delay_ns * generator.standard_normal() + difference)
    return static, cos, sin, delay


def _draw_drifts(generator: np.random.Generator, options: InstrumentOptions) -> tuple[Wander, Wander]:
    """Phase (radians) and ln amplitude drifts of one antenna's two receptors; nine tenths of the phase is shared."""
    on = float(options.gains)
    rms = on * np.radians(options.phase_drift_deg)
    hours = (2.0 / 24.0, 30.0 / 24.0)
    shared = draw_wander(generator, rms=0.95 * rms, period_days=hours)
    phases = []
    for _ in range(N_POLARIZATIONS):
        own = draw_wander(generator, rms=0.3 * rms, period_days=hours)
        parts = zip((shared.amplitude, shared.phase_turns, shared.period_days),
                    (own.amplitude, own.phase_turns, own.period_days), strict=True)  # fmt: skip
        phases.append(Wander(*(np.concatenate(pair) for pair in parts)))
    amplitudes = [
        draw_wander(generator, rms=on * options.amplitude_drift, period_days=(4.0 / 24.0, 30.0 / 24.0))
        for _ in range(N_POLARIZATIONS)
    ]
    return stack_wanders(phases), stack_wanders(amplitudes)


def _break_some(instrument: Instrument, options: InstrumentOptions, seed: int) -> Instrument:
    """Kill receptors and misset delays of different antennas, station 103 (the usual reference) excepted."""
    generator = seeded_generator(seed, "broken")
    candidates = np.flatnonzero(instrument.stations != 103)
    chosen = list(generator.permutation(candidates))
    for _ in range(options.n_dead_antennas):
        instrument = instrument.with_dead(int(chosen.pop()), slice(None))
    for k in range(options.n_dead_receptors):
        # one in two sends zeros, the other weak noise
        scale = 0.0 if k % 2 else DEAD_AMPLITUDE
        instrument = instrument.with_dead(int(chosen.pop()), slice(k % 2, k % 2 + 1), noise_scale=scale)
    for delay_ns in options.rogue_delays_ns if options.gains else ():
        instrument = instrument.with_delay(int(chosen.pop()), delay_ns * 1e-9)
    return instrument


def thermal_sigma_jy(sefd_jy: float, channel_width_hz: float, integration_s: float) -> float:
    """Noise of the real (or imaginary) part of a cross-correlation, SEFD / sqrt(2 D t), Jy (2.59 for ``full``)."""
    return float(sefd_jy / np.sqrt(2.0 * channel_width_hz * integration_s))
