"""The joint solve against a synthetic field: 32 antennas, exact visibilities with w terms, injected errors.

The perturbations are those of SCIENCE 3b; the catalogue handed to the solve is wrong, the data are the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.forced import PhotometryFlag
from dsa110_assets.science.geometry import direction_cosines, separation_deg, uvw_axes
from dsa110_assets.science.imaging import ImageGeometry, make_dirty_image, make_psf
from dsa110_assets.science.instrument import array_configuration
from dsa110_assets.science.joint import JointOptions, JointResult, check_agreement, solve_joint
from dsa110_assets.science.joint_sources import source_name
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

    def residual_maker(self, data: np.ndarray) -> "Maker":
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
    ratio_bright: float
    scatter_bright: float
    calibrator: float
    error_jyb: float
    pull: float


def compare(result: JointResult, sky: Components, frequency: float) -> Outcome:
    """Against the truth, by name; sigma as reported."""
    table = result.table.set_index("source_id").loc[sky.source_id.tolist()]
    truth = sky.flux_at(frequency)[:, 0]
    ratio = (table.flux_jy / truth).to_numpy()
    bright = (table.snr > 100).to_numpy()
    difference = (table.flux_jy - truth) * table.pb_response
    pull = 1.4826 * np.median(np.abs(difference / table.apparent_err_jyb))
    outcome = Outcome(
        float(np.median(ratio[bright])),
        float(1.4826 * np.median(np.abs(ratio[bright] - np.median(ratio[bright])))),
        float(ratio[0]),
        float(1.4826 * np.median(np.abs(difference))),
        float(pull),
    )
    print(outcome, result.rounds, result.converged, result.rms_jyb, result.condition_number, result.n_new)
    return outcome


def test_wrong_fluxes_alone() -> None:
    field, sky = make_field(), make_sky()
    maker = observe(field, sky)
    result = solve_joint(maker, perturbed(sky), position_error_arcsec=0.0)
    compare(result, sky, 1.405e9)
