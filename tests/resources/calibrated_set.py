"""A calibrated Measurement Set made by a direct sum, independent of the pipeline's model prediction.

Each integration is the mean of sub-samples, fringe-stopped on the meridian point as the correlator does it; channels
are sums over sub-channels. So time and channel smearing are there without any smearing formula.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, airy_power
from dsa110_assets.science.components import Components
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.measurement_set import rewriting, write_column
from dsa110_resources.ms_creation import create_measurement_set
from dsa110_resources.ms_subtables import SubtableContent, write_subtables

START_JD = 2461066.4347222224
DEC_APP_DEG = 16.27
STEP_S = 4.0


@dataclass(frozen=True)
class Recipe:
    """What is observed, and how."""

    components: Components
    array: str = "small"
    start_jd: float = START_JD
    dec_app_deg: float = DEC_APP_DEG
    noise_jy: float = 0.0
    n_channels: int = 32
    channel_width_hz: float = 1.46484375e6
    first_hz: float = 1.382e9
    n_times: int = 8
    oversample: int = 1
    seed: int = 1
    flagged_channels: tuple[int, ...] = field(default_factory=tuple)
    with_autos: bool = True


def make_components(ra_deg: list[float], dec_deg: list[float], flux_jy: list[float], alpha: float = 0.0) -> Components:
    n = len(ra_deg)
    return Components(
        source_id=np.array([f"S{k}" for k in range(n)]),
        ra_deg=np.array(ra_deg) % 360.0,
        dec_deg=np.array(dec_deg),
        flux_jy=np.array(flux_jy),
        freq_ghz=np.full(n, 1.405),
        spectral_index=np.full(n, alpha),
    )


def phase_center(recipe: Recipe) -> tuple[float, float]:
    mid = times_jd(recipe).mean()
    ra, dec = geometry.meridian_icrs(np.radians(recipe.dec_app_deg), mid)
    return float(ra[0]), float(dec[0])


def times_jd(recipe: Recipe) -> npt.NDArray[np.float64]:
    return recipe.start_jd + np.arange(recipe.n_times) * instrument.INTEGRATION_S / 86400.0


def frequencies_hz(recipe: Recipe) -> npt.NDArray[np.float64]:
    return recipe.first_hz + np.arange(recipe.n_channels) * recipe.channel_width_hz


def _baselines(recipe: Recipe) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    first, second = instrument.array_configuration(recipe.array).baselines()
    keep = np.ones(len(first), bool) if recipe.with_autos else first != second
    return first[keep], second[keep]


def direct_visibilities(recipe: Recipe) -> npt.NDArray[np.complex128]:
    """(time, baseline, channel): V = exp(+2 pi i (x1 - x2) . (s - s_pc) f / c) S P, sub-sampled."""
    array = instrument.array_configuration(recipe.array)
    first, second = _baselines(recipe)
    ra0, dec0 = phase_center(recipe)
    meridian = geometry.meridian_direction(np.radians(recipe.dec_app_deg))
    n_sub = recipe.oversample
    shift = (np.arange(n_sub) + 0.5) / n_sub - 0.5
    out = np.zeros((recipe.n_times, len(first), recipe.n_channels), np.complex128)
    x = array.antenna_positions_m
    flux = recipe.components.flux_at(frequencies_hz(recipe))
    for t, jd in enumerate(times_jd(recipe)):
        centre = geometry.icrs_to_itrs([ra0], [dec0], jd)[0, 0]
        stopped_ra, stopped_dec = geometry.meridian_icrs(np.radians(recipe.dec_app_deg), jd)
        for sub in shift:
            moment = jd + sub * instrument.INTEGRATION_S / 86400.0
            source = geometry.icrs_to_itrs(recipe.components.ra_deg, recipe.components.dec_deg, moment)[0]
            stopped = geometry.icrs_to_itrs(stopped_ra, stopped_dec, moment)[0]  # follows the sky for an integration
            separation = np.arccos(np.clip(source @ meridian, -1, 1))
            for df in shift:
                f = frequencies_hz(recipe) + df * recipe.channel_width_hz
                # stopped on the point that crosses the meridian in mid-integration, then turned to the phase centre
                delay = x @ (source - stopped).T / SPEED_OF_LIGHT_M_S  # (ant, src)
                turn = x @ (meridian - centre) / SPEED_OF_LIGHT_M_S
                phasor = np.exp(2j * np.pi * delay[:, :, None] * f)
                amplitude = flux * airy_power(separation[:, None], f[None, :])
                e1, e2 = phasor[first], phasor[second].conj()
                fringe = np.einsum("bsf,bsf,sf->bf", e1, e2, amplitude)
                out[t] += fringe * np.exp(2j * np.pi * (turn[first] - turn[second])[:, None] * frequencies_hz(recipe))
    return out / n_sub**2


def write_calibrated_set(path: Path, recipe: Recipe) -> Path:
    """Measurement Set whose CORRECTED_DATA are the direct sum plus noise (per real and imaginary part)."""
    array = instrument.array_configuration(recipe.array)
    first, second = _baselines(recipe)
    ra0, dec0 = phase_center(recipe)
    jd, freq = times_jd(recipe), frequencies_hz(recipe)
    n_t, n_b, n_c = recipe.n_times, len(first), recipe.n_channels
    create_measurement_set(path, n_baseline=n_b, n_time=n_t, n_channel=n_c, n_pol=2)
    half = 0.5 * instrument.INTEGRATION_S / 86400.0
    mjd = jd - 2400000.5
    write_subtables(
        path,
        SubtableContent(
            antenna_names=array.antenna_names,
            antenna_positions_itrf_m=array.antenna_positions_m + instrument.TELESCOPE_ITRF_M,
            antenna_diameters_m=np.full(len(array.antenna_names), instrument.DISH_DIAMETER_M),
            frequencies_hz=freq,
            channel_width_hz=recipe.channel_width_hz,
            polarizations=("XX", "YY"),
            time_range_mjd=(float(mjd[0] - half), float(mjd[-1] + half)),
            phase_center_deg=(ra0, dec0),
            group_id="2026-01-25T22:26:00",
            field_name="test",
            history=("test",),
        ),
    )
    axes = geometry.uvw_axes(ra0, dec0, jd)
    x = array.antenna_positions_m
    uvw = np.einsum("tij,bj->tbi", axes, x[first] - x[second])
    seconds = np.repeat(mjd * 86400.0, n_b)
    n_row = n_t * n_b
    columns = {
        "UVW": uvw.reshape(-1, 3),
        "ANTENNA1": np.tile(first, n_t).astype(np.int32),
        "ANTENNA2": np.tile(second, n_t).astype(np.int32),
        "TIME": seconds,
        "TIME_CENTROID": seconds,
        "INTERVAL": np.full(n_row, instrument.INTEGRATION_S),
        "EXPOSURE": np.full(n_row, instrument.INTEGRATION_S),
        "WEIGHT": np.ones((n_row, 2), np.float32),
        "SIGMA": np.ones((n_row, 2), np.float32),
        "SCAN_NUMBER": np.ones(n_row, np.int32),
        "FLAG_ROW": np.zeros(n_row, bool),
    }
    names = ("ARRAY_ID", "DATA_DESC_ID", "FEED1", "FEED2", "FIELD_ID", "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID")
    columns |= dict.fromkeys(names, np.zeros(n_row, np.int32))
    flags = np.zeros((n_row, n_c, 2), bool)
    flags[:, list(recipe.flagged_channels)] = True
    with open_table(path, write=True) as table:
        table.putkeyword("DSA110_GROUP_ID", "2026-01-25T22:26:00")
        table.putkeyword("DSA110_DEC_APP_DEG", recipe.dec_app_deg)
        table.putkeyword("DSA110_MISSING_SUBBANDS", "")
        table.putkeyword("DSA110_WRITER_TYPE", "test")
        for name, values in columns.items():
            table.putcol(name, values)
        table.putcol("FLAG", flags)
        table.putcol("DATA", np.zeros((n_row, n_c, 2), np.complex64))
    visibilities = np.repeat(direct_visibilities(recipe)[..., None], 2, axis=-1)
    rng = np.random.default_rng(recipe.seed)
    noise = rng.normal(size=visibilities.shape) + 1j * rng.normal(size=visibilities.shape)
    visibilities = visibilities + recipe.noise_jy * noise
    visibilities[:, :, list(recipe.flagged_channels)] = 1e6
    with rewriting(path):
        write_column(path, "CORRECTED_DATA", visibilities.astype(np.complex64))
    return path
