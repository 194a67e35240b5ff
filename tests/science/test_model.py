"""The prediction against exact sums, against numerical averages over integration and channel, and against itself."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.science import geometry
from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.instrument import INTEGRATION_S, TELESCOPE_ITRF_M, array_configuration
from dsa110_assets.science.model import ModelPredictor, antenna_from_baseline

C_M_S = 299792458.0
EARTH_RATE = 7.292115146706979e-5
DEC_APP_DEG = 16.27
TIMES_MJD = 61065.93 + np.arange(3) * INTEGRATION_S / 86400.0
CENTRE = tuple(
    float(x[0]) for x in geometry.meridian_icrs(np.radians(DEC_APP_DEG), np.array([TIMES_MJD[1] + 2400000.5]))
)


@dataclass
class Setup:
    positions: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    frequencies: np.ndarray
    width: float = 244140.625
    interval: float = INTEGRATION_S
    times: np.ndarray = field(default_factory=TIMES_MJD.copy)

    def predictor(self, components: Components, **options: Any) -> ModelPredictor:
        keywords: dict[str, Any] = {
            "antenna_positions_itrf_m": self.positions,
            "antenna1": self.antenna1,
            "antenna2": self.antenna2,
            "times_mjd": self.times,
            "frequencies_hz": self.frequencies,
            "channel_width_hz": self.width,
            "interval_s": self.interval,
            "phase_center_deg": CENTRE,
            "dec_app_deg": DEC_APP_DEG,
        }
        return ModelPredictor(components, **{**keywords, **options})


def dsa_setup(*, stride: int = 6, n_channels: int = 11, width: float = 244140.625) -> Setup:
    """Every so-many-th antenna of the full array, outriggers in, autocorrelations in, ant1 > ant2 occurring."""
    array = array_configuration("full")
    chosen = np.union1d(array.antenna_order[::stride], [102, 106, 113, 115])
    first, second = np.triu_indices(len(chosen))
    first[::3], second[::3] = second[::3].copy(), first[::3].copy()
    frequencies = 1.35e9 + width * np.arange(n_channels)
    return Setup(TELESCOPE_ITRF_M + array.antenna_positions_m[chosen], first, second, frequencies, width)


def sources(offsets_deg: Any, fluxes_jy: Any, *, alpha: float = -0.7) -> Components:
    east, north = np.asarray(offsets_deg, float).T
    n = len(east)
    ra = CENTRE[0] + east / np.cos(np.radians(CENTRE[1] + north))
    return Components(
        np.array([f"s{i}" for i in range(n)]),
        ra % 360.0,
        CENTRE[1] + north,
        np.asarray(fluxes_jy, float),
        np.full(n, 1.4),
        np.full(n, alpha),
    )


def exact(setup: Setup, components: Components, *, beam: bool = True, smearing: bool = True) -> np.ndarray:
    """The double sum of the module's formula, in float64 and without any expansion."""
    jd = setup.times + 2400000.5
    direction = geometry.icrs_to_itrs(components.ra_deg, components.dec_deg, jd)
    centre = geometry.icrs_to_itrs([CENTRE[0]], [CENTRE[1]], jd)
    pointing = geometry.meridian_direction(np.radians(DEC_APP_DEG))
    baseline = setup.positions[setup.antenna1] - setup.positions[setup.antenna2]
    turn = np.cross([0.0, 0.0, EARTH_RATE], direction - pointing)
    delay, rate, across = (
        np.einsum("bi,tsi->tbs", baseline, v) / C_M_S for v in (direction - centre, turn, direction - pointing)
    )
    separation = np.arccos(np.clip(direction @ pointing, -1, 1))
    out = np.zeros((len(jd), len(baseline), len(setup.frequencies)), complex)
    for c, (f, flux) in enumerate(zip(setup.frequencies, components.flux_at(setup.frequencies).T, strict=True)):
        apparent = flux * (airy_power(separation, f) if beam else np.ones_like(separation))
        loss = np.sinc(f * rate * setup.interval) * np.sinc(across * setup.width) if smearing else 1.0
        out[:, :, c] = (apparent[:, None] * loss * np.exp(2j * np.pi * f * delay)).sum(axis=2)
    return out


def test_source_at_the_phase_centre_is_its_flux_on_every_baseline() -> None:
    setup = dsa_setup()
    model = setup.predictor(sources([(0.0, 0.0)], [2.5], alpha=0.0), beam=None, smearing=False).predict()
    np.testing.assert_allclose(model, 2.5, rtol=2e-6)


@pytest.mark.parametrize("offset", [(0.1, 0.0), (-0.8, 0.5), (1.5, 0.0), (0.0, -1.9), (2.3, 1.2)])
@pytest.mark.parametrize("width", [244140.625, 1464843.75])
def test_every_visibility_is_within_a_thousandth_of_the_source(offset: tuple[float, float], width: float) -> None:
    setup = dsa_setup(width=width)
    one = sources([offset], [1.0])
    error = np.abs(setup.predictor(one, beam=None).predict() - exact(setup, one, beam=False))
    assert error.max() < 1e-3 * one.flux_at([1.35e9]).max()


def test_many_sources_with_the_drifting_beam() -> None:
    setup = dsa_setup()
    generator = np.random.default_rng(5)
    many = sources(generator.normal(0.0, 0.8, (60, 2)), generator.exponential(0.1, 60))
    error = np.abs(setup.predictor(many).predict() - exact(setup, many))
    # the neglected terms add up at random: far below a thousandth of the total
    assert error.max() < 3e-4 * many.flux_jy.sum()
    assert np.sqrt(np.mean(error**2)) < 2e-5 * many.flux_jy.sum()


def test_phase_is_that_of_direction_cosines_with_the_measurement_sets_sign() -> None:
    setup = dsa_setup(stride=12)
    east_north = sources([(0.2, -0.1)], [1.0])
    axes = geometry.uvw_axes(*CENTRE, setup.times + 2400000.5)
    baseline = setup.positions[setup.antenna1] - setup.positions[setup.antenna2]
    uvw = np.einsum("tij,bj->tbi", axes, baseline)
    l_cosine, m_cosine, n_cosine = geometry.direction_cosines(east_north.ra_deg, east_north.dec_deg, *CENTRE)
    lag = uvw @ np.array([l_cosine[0], m_cosine[0], n_cosine[0] - 1.0])
    expected = np.exp(2j * np.pi * lag[..., None] * setup.frequencies / C_M_S)
    model = setup.predictor(east_north, beam=None, smearing=False).predict()
    # direction cosines leave out differential aberration: 20.5 arcsec x 0.2 deg = 0.07 arcsec, 0.03 rad on 2.6 km
    assert np.abs(np.angle(model * expected.conj())).max() < 0.03


def test_smearing_equals_the_numerical_average_over_integration_and_channel() -> None:
    """Averages of the true, sidereally tracked fringe: no formula shared with the prediction."""
    setup = dsa_setup(stride=12, n_channels=3, width=1464843.75)
    setup.times = TIMES_MJD[1:2]
    far = sources([(1.4, -0.6)], [1.0], alpha=0.0)
    steps = (np.arange(24) + 0.5) / 24 - 0.5
    baseline = setup.positions[setup.antenna1] - setup.positions[setup.antenna2]
    middle = setup.times + 2400000.5
    tracked_ra, tracked_dec = geometry.meridian_icrs(np.radians(DEC_APP_DEG), middle)
    jd = middle + steps * setup.interval / 86400.0
    source = geometry.icrs_to_itrs(far.ra_deg, far.dec_deg, jd)[:, 0]
    tracked = geometry.icrs_to_itrs(tracked_ra, tracked_dec, jd)[:, 0]
    frequency = setup.frequencies[:, None] + steps * setup.width
    lag = (source - tracked) @ baseline.T / C_M_S
    average = np.exp(2j * np.pi * lag[:, :, None, None] * frequency).mean(axis=(0, 3))
    expected = np.abs(average)
    model = np.abs(setup.predictor(far, beam=None).predict())[0]
    assert expected.min() < 0.9
    np.testing.assert_allclose(model, expected, atol=2e-3)


def test_time_smearing_in_closed_form_on_an_east_west_baseline() -> None:
    """On the meridian the fringe of an E-W baseline turns at omega E cos(dec): 13 % are lost on 2.6 km, 1.5 deg off."""
    longitude, dec, north, length = np.radians(-118.283), np.radians(71.6), np.radians(1.5), 2600.0
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    positions = np.stack([TELESCOPE_ITRF_M, TELESCOPE_ITRF_M + length * east])
    setup = Setup(positions, np.array([0]), np.array([1]), np.array([1.405e9]), 1.0, INTEGRATION_S, TIMES_MJD[1:2])
    ra, declination = geometry.meridian_icrs(dec + north, setup.times + 2400000.5)
    one = Components(np.array(["n"]), ra, declination, np.ones(1), np.full(1, 1.4), np.zeros(1))
    ra0, dec0 = (float(x[0]) for x in geometry.meridian_icrs(dec, setup.times + 2400000.5))
    model = setup.predictor(one, beam=None, dec_app_deg=71.6, phase_center_deg=(ra0, dec0)).predict()
    turns = (np.cos(dec) - np.cos(dec + north)) * EARTH_RATE * length * 1.405e9 / C_M_S * INTEGRATION_S
    expected = np.sinc(turns)
    assert 0.86 < expected < 0.88
    np.testing.assert_allclose(np.abs(model), expected, atol=5e-4)


def test_own_uvw_gives_the_same_as_positions() -> None:
    setup = dsa_setup()
    two = sources([(0.7, 0.4), (-1.1, 0.2)], [1.0, 0.3])
    axes = geometry.uvw_axes(*CENTRE, setup.times + 2400000.5)
    uvw = np.einsum("tij,bj->tbi", axes, setup.positions[setup.antenna1] - setup.positions[setup.antenna2])
    np.testing.assert_allclose(setup.predictor(two, uvw_m=uvw).predict(), setup.predictor(two).predict(), atol=5e-5)


def test_uvw_with_missing_rows_is_used_where_it_is_known() -> None:
    setup = dsa_setup()
    two = sources([(0.7, 0.4), (-1.1, 0.2)], [1.0, 0.3])
    axes = geometry.uvw_axes(*CENTRE, setup.times + 2400000.5)
    uvw = np.einsum("tij,bj->tbi", axes, setup.positions[setup.antenna1] - setup.positions[setup.antenna2])
    uvw[1, 5:40:7] = np.nan
    np.testing.assert_allclose(setup.predictor(two, uvw_m=uvw).predict(), setup.predictor(two).predict(), atol=5e-5)


def test_slices_equal_the_whole() -> None:
    setup = dsa_setup(n_channels=37)
    predictor = setup.predictor(sources([(0.7, 0.4), (-1.1, 1.2)], [1.0, 0.3]))
    whole = predictor.predict()
    for times, channels in (
        (slice(1, 2), slice(3, 20)),
        (slice(0, 3, 2), slice(36, 37)),
        (slice(2, 3), slice(1, 30, 4)),
    ):
        np.testing.assert_allclose(predictor.predict(times, channels), whole[times, :, channels], atol=1e-3)
    buffer = np.full((1, *whole.shape[1:]), np.nan, np.complex64)
    assert predictor.predict(slice(2, 3), out=buffer) is buffer
    np.testing.assert_allclose(buffer[0], whole[2], atol=1e-3)
    # the same call gives the same bits, whatever the number of threads
    other = setup.predictor(sources([(0.7, 0.4), (-1.1, 1.2)], [1.0, 0.3]), n_threads=3)
    np.testing.assert_array_equal(other.predict(), whole)


def test_a_missing_subband_leaves_a_gap_that_is_bridged_rightly() -> None:
    setup = dsa_setup()
    setup.frequencies = np.concatenate([1.32e9 + 244140.625 * np.arange(9), 1.40e9 + 244140.625 * np.arange(5)])
    one = sources([(1.0, -0.9)], [1.0])
    np.testing.assert_allclose(setup.predictor(one).predict(), exact(setup, one), atol=6e-4)


def test_negative_and_zero_fluxes_are_linear() -> None:
    setup = dsa_setup()
    places = [(0.3, 0.2), (-0.9, 0.5), (0.1, -1.2)]
    mixed = setup.predictor(sources(places, [1.0, -0.4, 0.0])).predict()
    parts = (
        setup.predictor(sources(places[:1], [1.0])).predict() - setup.predictor(sources(places[1:2], [0.4])).predict()
    )
    np.testing.assert_allclose(mixed, parts, atol=1e-3)


def test_sources_far_outside_the_expansion_are_summed_directly() -> None:
    setup = dsa_setup(stride=12, n_channels=4)
    both = sources([(14.0, 3.0), (0.4, 0.1)], [3.0, 1.0])
    model = setup.predictor(both, beam=None).predict()
    np.testing.assert_allclose(model, exact(setup, both, beam=False), atol=1e-3)


def test_a_field_across_zero_hours_of_right_ascension() -> None:
    setup = dsa_setup(stride=12)
    start = 61065.93 + (360.0 - CENTRE[0]) / 360.98565
    jd = np.array([start + 2400000.5])
    ra, dec = (float(x[0]) for x in geometry.meridian_icrs(np.radians(DEC_APP_DEG), jd))
    setup.times = np.array([start])
    east = Components(*(np.array([x]) for x in ("e", (ra + 0.5) % 360, dec, 1.0, 1.4, 0.0)))  # type: ignore[arg-type]
    west = Components(*(np.array([x]) for x in ("w", (ra - 0.5) % 360, dec, 1.0, 1.4, 0.0)))  # type: ignore[arg-type]
    options = {"phase_center_deg": (ra, dec), "smearing": False}
    a, b = (setup.predictor(c, **options).predict() for c in (east, west))
    assert abs(ra - 360 * (ra > 180)) < 0.6
    # mirror images in l: equal amplitude, and phases opposite up to the w term
    np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=2e-3)


def test_tracking_arrays_point_at_the_phase_centre() -> None:
    setup = dsa_setup(stride=12)
    centre = setup.predictor(sources([(0.0, 0.0)], [1.0], alpha=0.0), dec_app_deg=None).predict()
    np.testing.assert_allclose(centre, 1.0, atol=1e-6)


def test_the_beam_drifts_with_the_sky() -> None:
    setup = dsa_setup(stride=12)
    setup.times = TIMES_MJD[1] + np.array([-1.0, 0.0, 1.0]) * 600.0 / 86400.0
    at_centre = sources([(0.0, 0.0)], [1.0], alpha=0.0)
    amplitude = np.abs(setup.predictor(at_centre, smearing=False).predict()).mean(axis=1)
    angle = 600.0 * EARTH_RATE * np.cos(np.radians(DEC_APP_DEG))
    expected = airy_power(angle, setup.frequencies)
    np.testing.assert_allclose(amplitude[1], 1.0, atol=1e-5)
    np.testing.assert_allclose(amplitude[0], expected, rtol=2e-3)
    np.testing.assert_allclose(amplitude[2], expected, rtol=2e-3)


def test_nothing_to_predict() -> None:
    setup = dsa_setup()
    none = sources(np.zeros((0, 2)), [])
    assert not setup.predictor(none).predict().any()
    assert setup.predictor(sources([(0, 0)], [1.0])).predict(channels=slice(0, 0)).shape[2] == 0


def test_shapes_are_required() -> None:
    setup = dsa_setup()
    one = sources([(0, 0)], [1.0])
    with pytest.raises(ShapeError, match="uvw_m"):
        setup.predictor(one, uvw_m=np.zeros((2, 3, 3)))
    with pytest.raises(ShapeError, match="no position"):
        setup.predictor(one, antenna_positions_itrf_m=setup.positions[:3])
    with pytest.raises(ShapeError, match="out has shape"):
        setup.predictor(one).predict(out=np.zeros((1, 1, 1), np.complex64))


def test_antenna_coordinates_from_baselines_of_a_partial_array() -> None:
    generator = np.random.default_rng(2)
    positions = generator.normal(0, 100, (6, 3))
    pairs = np.array([[0, 1], [1, 3], [3, 0], [4, 1]])  # 2 and 5 are not there
    found = antenna_from_baseline(pairs, 6) @ (positions[pairs[:, 0]] - positions[pairs[:, 1]])
    np.testing.assert_allclose(
        found[pairs[:, 0]] - found[pairs[:, 1]], positions[pairs[:, 0]] - positions[pairs[:, 1]], atol=1e-9
    )
    np.testing.assert_allclose(found[[2, 5]], 0.0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_ant=st.integers(2, 9),
    n_channels=st.integers(1, 19),
    extent_m=st.floats(10.0, 4000.0),
    interval_s=st.floats(0.1, 60.0),
)
def test_any_array(seed: int, n_ant: int, n_channels: int, extent_m: float, interval_s: float) -> None:
    generator = np.random.default_rng(seed)
    positions = TELESCOPE_ITRF_M + generator.normal(0, extent_m / 3, (n_ant, 3))
    first, second = np.tril_indices(n_ant, -1)
    setup = Setup(positions, first, second, 1.4e9 + 1e6 * np.arange(n_channels), 1e6, interval_s, TIMES_MJD[:1])
    few = sources(generator.normal(0, 1.2, (4, 2)), generator.exponential(1.0, 4))
    error = np.abs(setup.predictor(few, beam=None).predict() - exact(setup, few, beam=False))
    assert error.max() < 1e-3 * few.flux_jy.sum()
