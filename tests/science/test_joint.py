"""The joint solve against a synthetic field: 32 antennas, exact visibilities with w terms, injected errors.

The perturbations are those of SCIENCE 3b; the catalogue handed to the solve is wrong, the data are the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.band_limited import read_band_limited
from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.forced import PhotometryFlag
from dsa110_assets.science.geometry import direction_cosines, separation_deg, uvw_axes
from dsa110_assets.science.imaging import ImageGeometry, make_dirty_image, make_psf
from dsa110_assets.science.instrument import array_configuration
from dsa110_assets.science.joint import JointOptions, JointResult, check_agreement, solve_joint
from dsa110_assets.science.joint_sources import source_name
from dsa110_assets.science.noise import robust_rms
from dsa110_assets.science.residual import ResidualImage
from dsa110_assets.science.synthesized_beam import fit_synthesized_beam

RA, DEC, JD = 0.4, 16.27, 2461000.3
CELL, PIXELS = 5.0, 1024
NOISE = 1e-3
"""Image rms, Jy/beam."""


@dataclass(frozen=True)
class Field:
    """A small array, its sampling and a grid."""

    uvw: np.ndarray
    frequencies: np.ndarray
    geometry: ImageGeometry
    psf: np.ndarray
    beam: tuple[float, float, float]
    plane: tuple[float, float]

    def predict(self, sky: Components, *, dish_m: float = 4.65) -> np.ndarray:
        ll, mm, nn = direction_cosines(sky.ra_deg, sky.dec_deg, RA, DEC)
        radius = np.radians(separation_deg(sky.ra_deg, sky.dec_deg, RA, DEC))
        out = np.zeros((len(self.uvw), len(self.frequencies)), np.complex128)
        for c, frequency in enumerate(self.frequencies):
            apparent = sky.flux_at(frequency)[:, 0] * airy_power(radius, frequency, diameter_m=dish_m)
            turns = self.uvw @ np.stack([ll, mm, nn - 1.0]) * (frequency / 299792458.0)
            out[:, c] = np.exp(2j * np.pi * turns) @ apparent
        return out

    def primary_beam(self) -> np.ndarray:
        step = 32
        grid = np.arange(0, PIXELS + step, step)
        gx, gy = np.meshgrid(grid, grid)
        ra, dec = self.geometry.wcs().wcs_pix2world(gx.ravel(), gy.ravel(), 0)
        radius = np.radians(separation_deg(ra, dec, RA, DEC))
        power = np.mean([airy_power(radius, f) for f in self.frequencies], axis=0).reshape(gx.shape)
        columns = np.stack([np.interp(np.arange(PIXELS), grid, row) for row in power])
        return np.stack([np.interp(np.arange(PIXELS), grid, c) for c in columns.T], axis=1).astype(np.float32)

    def residual_maker(self, data: np.ndarray) -> Maker:
        return Maker(self, data, self.primary_beam())


class Maker:
    """make_residual that remembers what it was asked to subtract."""

    def __init__(self, field: Field, data: np.ndarray, primary_beam: np.ndarray) -> None:
        self.field, self.data, self.primary_beam = field, data, primary_beam
        self.calls: list[Components] = []

    def __call__(self, components: Components) -> ResidualImage:
        self.calls.append(components)
        field = self.field
        left = (self.data - field.predict(components)).astype(np.complex64)
        weights = np.ones(left.shape, np.float32)
        image = make_dirty_image(left, weights, field.uvw, field.frequencies, geometry=field.geometry)
        return ResidualImage(
            image=image,
            psf=field.psf,
            noise_psf=None,
            wcs=field.geometry.wcs(),
            beam=field.beam,
            frequency_hz=float(field.frequencies.mean()),
            primary_beam=self.primary_beam,
            components=components,
            plane=field.plane,
            thermal_jyb=NOISE,
        )


@cache
def make_field() -> Field:
    array = array_configuration("small")
    positions = array.antenna_positions_m[array.antenna_order]
    first, second = np.triu_indices(len(positions), 1)
    axes = uvw_axes(RA, DEC, JD + np.arange(6) * 50.0 / 86400.0)
    uvw = np.einsum("tij,bj->tbi", axes, positions[first] - positions[second]).reshape(-1, 3)
    frequencies = np.linspace(1.32e9, 1.49e9, 12)
    geometry = ImageGeometry(PIXELS, PIXELS, CELL, RA, DEC)
    weights = np.ones((len(uvw), len(frequencies)), np.float32)
    psf = make_psf(weights, uvw, frequencies, geometry=geometry.resized(2 * PIXELS, 2 * PIXELS, CELL))
    beam = fit_synthesized_beam(psf, CELL / 3600).triple
    plane = np.linalg.lstsq(uvw[:, :2], uvw[:, 2], rcond=None)[0]
    return Field(uvw, frequencies, geometry, psf, beam, (float(plane[0]), float(plane[1])))


def make_sky(n: int = 60, seed: int = 5) -> Components:
    """Sources of 8 mJy to 0.6 Jy and one calibrator of 5 Jy, at least two beams apart."""
    rng = np.random.default_rng(seed)
    half = 0.45 * PIXELS * CELL / 3600
    x, y = [], []
    while len(x) < n:
        px, py = rng.uniform(-half, half, 2)
        if all(np.hypot(px - a, py - b) > 2.2 * make_field().beam[0] for a, b in zip(x, y, strict=True)):
            x.append(px)
            y.append(py)
    flux = 0.008 * (0.6 / 0.008) ** rng.uniform(0, 1, n)
    flux[0] = 5.0
    dec = DEC + np.array(y)
    ra = (RA + np.array(x) / np.cos(np.radians(dec))) % 360.0
    names = np.array([f"S{k:03d}" for k in range(n)])
    return Components(names, ra, dec, flux, np.full(n, 1.4), rng.normal(-0.7, 0.2, n))


def observe(field: Field, sky: Components, *, seed: int = 7, dish_m: float = 4.65) -> Maker:
    vis = field.predict(sky, dish_m=dish_m)
    sigma = NOISE * np.sqrt(vis.size)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape)
    return field.residual_maker(vis + sigma * noise)


def perturbed(sky: Components, *, flux: float = 0.15, arcsec: float = 0.0, seed: int = 11) -> Components:
    rng = np.random.default_rng(seed)
    east, north = rng.normal(0, max(arcsec, 1e-12), (2, len(sky))) / 3600
    ra = (sky.ra_deg + east / np.cos(np.radians(sky.dec_deg))) % 360
    factor = np.maximum(1 + flux * rng.normal(size=len(sky)), 0.3)
    return replace(sky, ra_deg=ra, dec_deg=sky.dec_deg + north, flux_jy=sky.flux_jy * factor)


@dataclass(frozen=True)
class Outcome:
    """Apparent fluxes against the truth."""

    bright: float
    bright_scatter: float
    calibrator: float
    error_jyb: float
    pull: float


def compare(result: JointResult, sky: Components, primary_beam: np.ndarray | None = None) -> Outcome:
    """Median ratio of sources above 100 sigma, the calibrator's, and errors of all (by name)."""
    table = result.table.set_index("source_id").loc[sky.source_id.tolist()]
    response = table.pb_response if primary_beam is None else primary_beam
    truth = sky.flux_at(result.residual.frequency_hz)[:, 0] * response
    ratio = (table.apparent_jyb / truth).to_numpy()
    bright = ratio[(table.snr > 100).to_numpy()]
    difference = table.apparent_jyb - truth
    return Outcome(
        bright=float(np.median(bright)),
        bright_scatter=float(robust_rms(bright)),
        calibrator=float(ratio[0]),
        error_jyb=float(robust_rms(difference)),
        pull=float(robust_rms(difference / table.apparent_err_jyb)),
    )


def test_the_psf_between_pixels_is_the_direct_sum() -> None:
    field = make_field()
    rng = np.random.default_rng(3)
    dx, dy = rng.uniform(-400, 400, (2, 200))
    dx[:50], dy[:50] = rng.uniform(-12, 12, (2, 50))
    u, v = field.uvw[:, 0], field.uvw[:, 1]
    cell = np.radians(CELL / 3600)
    direct = np.zeros(200)
    for frequency in field.frequencies:
        turns = (np.outer(-dx, u) + np.outer(dy, v)) * cell * frequency / 299792458.0
        direct += np.cos(2 * np.pi * turns).mean(axis=1) / len(field.frequencies)
    found = read_band_limited(field.psf, PIXELS + dx, PIXELS + dy)[0]
    np.testing.assert_allclose(found, direct, atol=2e-4)


def test_derivatives_between_pixels_are_exact_for_a_wave() -> None:
    kx, ky = 2 * np.pi * 0.21, 2 * np.pi * -0.13
    j, i = np.mgrid[:80, :90]
    x, y = np.random.default_rng(1).uniform(20, 60, (2, 40))
    phase = kx * x + ky * y
    found = read_band_limited(np.cos(kx * i + ky * j), x, y)
    expected = [np.cos(phase), -kx * np.sin(phase), -ky * np.sin(phase)]
    expected += [-kx * kx * np.cos(phase), -kx * ky * np.cos(phase), -ky * ky * np.cos(phase)]
    for order, terms in ((0, [0]), (1, [1, 2]), (2, [3, 4, 5])):
        np.testing.assert_allclose(found[terms], np.stack(expected)[terms], atol=(5e-5, 3e-4, 1.5e-3)[order])


def test_wrong_fluxes_alone_leave_only_noise() -> None:
    field, sky = make_field(), make_sky()
    result = solve_joint(observe(field, sky), perturbed(sky))
    found = compare(result, sky)
    assert result.converged
    assert result.n_new == 0
    assert result.rms_jyb == pytest.approx(NOISE, rel=0.15)
    assert abs(found.bright - 1) < 2e-3
    assert abs(found.calibrator - 1) < 1e-3
    assert found.error_jyb < 1.3 * NOISE
    assert 0.8 < found.pull < 1.25
    assert result.condition_number < 20
    assert (result.components.flux_jy[0] / sky.flux_jy[0]) == pytest.approx(1.0, abs=1e-3)
    chi2 = result.table.chi2 / result.table.dof
    assert 0.8 < float(np.median(chi2)) < 1.25


def test_positions_wrong_by_an_arcsecond_are_found() -> None:
    field, sky = make_field(), make_sky()
    maker = observe(field, sky)
    catalogue = perturbed(sky, arcsec=1.0)
    result = solve_joint(maker, catalogue)
    found = compare(result, sky)
    assert result.rounds <= 4
    assert abs(found.bright - 1) < 2e-3
    assert abs(found.calibrator - 1) < 1e-3
    assert found.error_jyb < 1.4 * NOISE
    table = result.table.set_index("source_id").loc[sky.source_id.tolist()]
    fitted = (table["flags"] & int(PhotometryFlag.POSITION_FITTED)).to_numpy() != 0
    assert fitted.sum() > 35
    cosine = np.cos(np.radians(sky.dec_deg))
    east = (sky.ra_deg - catalogue.ra_deg + 180) % 360 - 180
    pull_ra = (table.shift_ra_arcsec - east * cosine * 3600) / table.shift_ra_err_arcsec
    pull_dec = (table.shift_dec_arcsec - (sky.dec_deg - catalogue.dec_deg) * 3600) / table.shift_dec_err_arcsec
    pulls = np.concatenate([pull_ra[fitted], pull_dec[fitted]])
    assert 0.75 < float(robust_rms(pulls)) < 1.3
    # the same catalogue with its positions held is worse by far more than the noise
    held = compare(solve_joint(maker, catalogue, position_error_arcsec=0.0), sky)
    assert abs(held.calibrator - 1) > 1e-3
    assert held.error_jyb > found.error_jyb


def test_positions_wrong_by_three_arcseconds_do_not_diverge() -> None:
    field, sky = make_field(), make_sky()
    options = JointOptions(position_error_arcsec=3.0)
    found = compare(solve_joint(observe(field, sky), perturbed(sky, arcsec=3.0), options=options), sky)
    assert abs(found.bright - 1) < 5e-3
    assert abs(found.calibrator - 1) < 2e-3
    assert found.error_jyb < 1.9 * NOISE


def test_a_beam_three_per_cent_wide_is_harmless_to_apparent_fluxes() -> None:
    field, sky = make_field(), make_sky()
    result = solve_joint(observe(field, sky, dish_m=4.65 / 1.03), perturbed(sky))
    radius = np.radians(separation_deg(sky.ra_deg, sky.dec_deg, RA, DEC))
    true_beam = np.mean([airy_power(radius, f, diameter_m=4.65 / 1.03) for f in field.frequencies], axis=0)
    found = compare(result, sky, true_beam)
    assert abs(found.bright - 1) < 2e-3
    assert found.error_jyb < 1.3 * NOISE


def test_uncatalogued_sources_are_found_and_added() -> None:
    field, sky = make_field(), make_sky()
    missing = np.arange(len(sky)) % 10 == 3
    result = solve_joint(observe(field, sky), perturbed(sky).select(~missing))
    new = result.table[(result.table["flags"] & int(PhotometryFlag.NEW_SOURCE)) != 0]
    assert result.n_new == len(new) == missing.sum()
    for row in np.flatnonzero(missing):
        distance = separation_deg(new.ra_deg.to_numpy(), new.dec_deg.to_numpy(), sky.ra_deg[row], sky.dec_deg[row])
        match = new.iloc[int(np.argmin(distance))]
        truth = float(sky.flux_at(1.405e9)[row, 0])
        assert distance.min() * 3600 < 5 * match.shift_ra_err_arcsec + 0.3
        assert abs(match.flux_jy - truth) < 5 * match.err_stat_jyb + 0.003 * truth
        assert match.source_id.startswith("DSA J")
        assert np.isnan(match.catalog_flux_jy)
    found = compare(result, sky.select(~missing))
    assert abs(found.bright - 1) < 3e-3
    assert found.error_jyb < 1.4 * NOISE


def test_components_closer_than_half_a_beam_are_one() -> None:
    field, sky = make_field(), make_sky(20)
    bmaj = field.beam[0]
    pair = replace(sky.select(np.array([5])), dec_deg=sky.dec_deg[5:6] + 0.2 * bmaj, source_id=np.array(["twin"]))
    both = concatenate([sky, pair.with_flux(np.array([0.05]))])
    result = solve_joint(observe(field, both), perturbed(both, flux=0.05), options=JointOptions(max_rounds=2))
    table = result.table.set_index("source_id")
    total = both.flux_at(1.405e9)[[5, -1], 0].sum()
    assert table.loc[["S005", "twin"], "flux_jy"].to_numpy() == pytest.approx(total, rel=0.02)
    assert (table.loc[["S005", "twin"], "flags"] & int(PhotometryFlag.BLENDED) != 0).all()
    assert table.loc["S005", "blended_with"] == "twin"
    assert (table["flags"] & int(PhotometryFlag.BLENDED) != 0).sum() == 2
    assert table.loc["S001", "blended_with"] == ""


def test_one_round_with_held_positions_is_one_reading() -> None:
    field, sky = make_field(), make_sky()
    maker = observe(field, sky)
    options = JointOptions(max_rounds=1)
    first = solve_joint(maker, sky, options=options, position_error_arcsec=0.0)
    assert len(maker.calls) == 1
    assert first.converged
    assert (first.table["flags"] & int(PhotometryFlag.POSITION_HELD) != 0).all()
    again = solve_joint(maker, sky, options=options, position_error_arcsec=0.0)
    pd.testing.assert_frame_equal(first.table, again.table)


def test_negative_noise_is_reported_and_never_subtracted() -> None:
    field, sky = make_field(), make_sky()
    empty = replace(sky.select(np.arange(12)), source_id=np.array([f"E{k}" for k in range(12)]))
    empty = replace(empty, dec_deg=empty.dec_deg + 2.6 * field.beam[0]).with_flux(np.full(12, 1e-5))
    maker = observe(field, sky)
    result = solve_joint(maker, concatenate([sky, empty]), position_error_arcsec=0.0)
    dark = result.table[result.table.source_id.str.startswith("E")]
    assert (dark.flux_jy < 0).sum() >= 2
    assert ((dark["flags"] & int(PhotometryFlag.NEGATIVE_FLUX) != 0) == (dark.flux_jy < 0)).all()
    assert all((call.flux_jy >= 0).all() for call in maker.calls)


def test_outside_the_image_is_unknown() -> None:
    field, sky = make_field(), make_sky(20)
    far = replace(sky.select(np.array([3])), dec_deg=np.array([DEC + 3.0]), source_id=np.array(["far"]))
    result = solve_joint(observe(field, sky), concatenate([sky, far]), options=JointOptions(max_rounds=1))
    row = result.table[result.table.source_id == "far"].iloc[0]
    assert np.isnan(row.flux_jy)
    assert int(row["flags"]) & int(PhotometryFlag.NO_COVERAGE)
    with pytest.raises(SolveError, match="nothing to solve"):
        solve_joint(observe(field, sky), far)
    with pytest.raises(ShapeError, match="position_error"):
        solve_joint(observe(field, sky), sky, position_error_arcsec=np.ones(3))


def test_names_of_new_sources_are_truncated_coordinates() -> None:
    assert source_name(188.736, 42.0536) == "DSA J123456.6+420312"
    assert source_name(0.0, -0.5) == "DSA J000000.0-003000"


def test_agreement_of_two_methods() -> None:
    rng = np.random.default_rng(1)
    flux = rng.uniform(0.05, 1.0, 40)
    table = pd.DataFrame({"source_id": [f"S{k}" for k in range(40)], "apparent_jyb": flux, "snr": flux / 1e-3})
    noisy = table.assign(apparent_jyb=flux + rng.normal(0, 1e-3, 40))
    assert check_agreement(table, noisy).passed
    low = check_agreement(table, table.assign(apparent_jyb=0.9 * flux))
    assert not low.passed
    assert low.median_ratio == pytest.approx(0.9)
    nothing = check_agreement(table.assign(snr=1.0), table)
    assert nothing.passed
    assert nothing.n_common == 0
