"""Drawing the true sky: sources from the NVSS counts, the listed calibrators, and the catalogue that is believed."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.calibrators import calibrator_component, read_calibrators
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import UnknownSourceError
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.simulation_options import SkyOptions
from dsa110_assets.science.sky import Lens, TrueSky, iau_name
from dsa110_assets.science.wander import Wander, draw_wander, seeded_generator, stack_wanders

Floats = npt.NDArray[np.float64]

NVSS_FREQUENCY_GHZ = 1.4
# Integral counts of the NVSS at 1.4 GHz (Condon et al. 1998, AJ 115, 1693): above 50 mJy counted over the sky north of
# -40 deg in the NVSS component catalogue, below from its source counts; Jy and sources per square degree.
_COUNT_FLUX_JY = np.array([0.0025, 0.005, 0.01, 0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0])
_COUNTS_PER_DEG2 = np.array(
    [52.0, 29.0, 16.5, 8.9, 3.698, 2.610, 1.747, 1.059, 0.720, 0.403, 0.185, 0.107, 0.0605, 0.0189]
)
HALF_POWER_RADIUS_DEG = 1.35


@dataclass(frozen=True)
class Region:
    """A strip of sky: within a radius of a track at one declination.

    Attributes
    ----------
    ra_deg : (n,) float
        Right ascensions along the track (ICRS), degrees, dense enough for the radius.
    dec_deg : (n,) float
        Declinations along it.
    radius_deg
        Degrees.
    """

    ra_deg: Floats
    dec_deg: Floats
    radius_deg: float

    def distance_deg(self, ra_deg: Floats, dec_deg: Floats) -> Floats:
        """Distance of positions (n,) from the track, degrees."""
        return np.asarray(
            separation_deg(ra_deg[:, None], dec_deg[:, None], self.ra_deg[None], self.dec_deg[None]).min(axis=1)
        )

    def holds(self, ra_deg: Floats, dec_deg: Floats) -> npt.NDArray[np.bool_]:
        """Whether positions (n,) lie in the region."""
        return np.asarray(self.distance_deg(ra_deg, dec_deg) <= self.radius_deg)


def draw_fluxes(generator: np.random.Generator, n: int, density_per_deg2: float) -> Floats:
    """Flux densities at 1.4 GHz (Jy) with the NVSS counts, cut where their density reaches the one asked for."""
    rarest = _COUNTS_PER_DEG2[-1]
    surface = rarest + generator.random(n) * (density_per_deg2 - rarest)
    order = np.argsort(_COUNTS_PER_DEG2)
    return np.asarray(
        np.exp(np.interp(np.log(surface), np.log(_COUNTS_PER_DEG2[order]), np.log(_COUNT_FLUX_JY[order])))
    )


def draw_field(region: Region, density_per_deg2: float, seed: int) -> Components:
    """Field sources of a region, cell by cell, so that every run with this seed sees the same sky.

    Parameters
    ----------
    region
        Where.
    density_per_deg2
        Sources per square degree; it sets the flux limit.
    seed
        Of the campaign.
    """
    parts = [_draw_cell(band, cell, density_per_deg2, seed) for band, cell in sorted(_cells(region))]
    if not parts:
        return concatenate([])
    ra, dec, flux, alpha = (np.concatenate(column) for column in zip(*parts, strict=True))
    inside = region.holds(ra, dec)
    ra, dec, flux, alpha = ra[inside], dec[inside], flux[inside], alpha[inside]
    names = np.array([iau_name(r, d) for r, d in zip(ra, dec, strict=True)], dtype=np.str_)
    return Components(names, ra, dec, flux, np.full(len(ra), NVSS_FREQUENCY_GHZ), alpha)


def _n_cells(band: int) -> int:
    """Cells of about one square degree in the band of declinations [band, band + 1)."""
    return max(1, round(360.0 * float(np.cos(np.radians(band + 0.5)))))


def _cells(region: Region) -> set[tuple[int, int]]:
    """(band, cell) of every cell that the region may touch."""
    found: set[tuple[int, int]] = set()
    low = int(np.floor(region.dec_deg.min() - region.radius_deg))
    high = int(np.floor(region.dec_deg.max() + region.radius_deg))
    for band in range(max(-90, low), min(89, high) + 1):
        n = _n_cells(band)
        ra, dec = (np.arange(n) + 0.5) * 360.0 / n, np.full(n, band + 0.5)
        found |= {(band, int(c)) for c in np.flatnonzero(region.distance_deg(ra, dec) <= region.radius_deg + 1.0)}
    return found


def _draw_cell(band: int, cell: int, density_per_deg2: float, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """(ra, dec, flux, spectral index) of one cell's sources."""
    generator = seeded_generator(seed, "field", band + 90, cell)
    n_cells = _n_cells(band)
    sines = np.sin(np.radians([band, band + 1.0]))
    area_deg2 = np.degrees(sines[1] - sines[0]) * 360.0 / n_cells
    n = generator.poisson(max(0.0, density_per_deg2 - _COUNTS_PER_DEG2[-1]) * area_deg2)
    ra = (cell + generator.random(n)) * 360.0 / n_cells
    dec = np.degrees(np.arcsin(sines[0] + generator.random(n) * (sines[1] - sines[0])))
    flux = draw_fluxes(generator, n, density_per_deg2)
    flat = generator.random(n) < 0.15
    alpha = np.where(flat, generator.normal(-0.1, 0.3, n), generator.normal(-0.78, 0.2, n))
    return ra, dec, flux, alpha


def listed_calibrators(min_flux_jy: float) -> tuple[Components, npt.NDArray[np.str_]]:
    """Every calibrator of the list above a flux density (Jy), and its name on the flux scale or an empty string."""
    entries = [c for c in read_calibrators() if c.flux_jy >= min_flux_jy]
    names = np.array([c.scale_name for c in entries], dtype="U16")
    return concatenate([calibrator_component(c) for c in entries]), names


def steady_sky(
    components: Components, *, kind: str = "steady", scale_name: npt.NDArray[np.str_] | None = None
) -> TrueSky:
    """A sky on which nothing varies and the catalogue is the truth."""
    n = len(components)
    zero = np.zeros((n, 1))
    return TrueSky(
        components=components,
        kind=np.full(n, kind, dtype="U16"),
        scale_name=np.full(n, "", dtype="U16") if scale_name is None else scale_name,
        flicker=Wander(zero, zero, zero + 1.0),
        lenses=(),
        catalogue=components,
        catalogue_row=np.arange(n),
    )


def join_skies(calibrators: Components, scale_name: npt.NDArray[np.str_], field: Components) -> TrueSky:
    """Calibrators and field as one sky; field sources within 60 arcsec of a calibrator give way."""
    if len(calibrators) and len(field):
        nearest = separation_deg(
            field.ra_deg[:, None], field.dec_deg[:, None], calibrators.ra_deg[None], calibrators.dec_deg[None]
        ).min(axis=1)
        field = field.select(nearest > 60.0 / 3600.0)
    names = np.concatenate([scale_name, np.full(len(field), "", dtype="U16")]).astype("U16")
    sky = steady_sky(concatenate([calibrators, field]), scale_name=names)
    kind = sky.kind.copy()
    kind[: len(calibrators)] = "calibrator"
    return replace(sky, kind=kind)


def make_variable(sky: TrueSky, region: Region, options: SkyOptions, *, mid_mjd: float, seed: int) -> TrueSky:
    """Let chosen sources vary: lensed ones, scintillating ones and, if asked for, the blazars.

    Parameters
    ----------
    sky
        A steady sky.
    region
        Where the telescope looks: lenses cross the brightest field sources of the inner beam.
    options
        How many and how much.
    mid_mjd
        Middle of the simulated span, MJD.
    seed
        Of the campaign.

    Raises
    ------
    UnknownSourceError
        If a source to be lensed is not on the sky.
    """
    kind, names = sky.kind.copy(), sky.components.source_id
    absent = set(options.lensed) - set(names.tolist())
    if absent:
        raise UnknownSourceError(f"cannot lens {', '.join(sorted(absent))}: not on this sky")
    is_field = kind == "steady"
    distance = region.distance_deg(sky.components.ra_deg, sky.components.dec_deg)
    inner = np.where(is_field & (distance < HALF_POWER_RADIUS_DEG), sky.components.flux_jy, 0.0)
    brightest = [int(k) for k in np.argsort(-inner, kind="stable")[: options.n_lensed or 0] if inner[k] > 0]
    chosen = list(dict.fromkeys(brightest + [int(k) for k in np.flatnonzero(np.isin(names, options.lensed))]))
    kind[chosen] = "lensed"
    wanders = []
    for row, name in enumerate(names):
        generator = seeded_generator(seed, "flicker", str(name))
        if is_field[row] and kind[row] == "steady" and generator.random() < options.flickering_fraction:
            kind[row] = "flickering"
        blazar = kind[row] == "calibrator" and not sky.scale_name[row] and options.blazar_modulation > 0
        kind[row] = "blazar" if blazar else kind[row]
        rms = {"flickering": options.flicker_modulation, "blazar": options.blazar_modulation}.get(str(kind[row]), 0.0)
        wanders.append(draw_wander(generator, rms=rms, period_days=(80.0, 500.0) if blazar else (5.0, 50.0)))
    middle = mid_mjd if options.lens_mid_mjd is None else options.lens_mid_mjd
    lenses = tuple(
        Lens(row, middle, options.lens_crossing_days, options.lens_strength, options.lens_source_fwhm) for row in chosen
    )
    return replace(sky, kind=kind, lenses=lenses, flicker=stack_wanders(wanders) if wanders else sky.flicker)


def perturb_catalogue(sky: TrueSky, options: SkyOptions, seed: int) -> TrueSky:
    """Make the catalogue wrong as asked for: positions, fluxes and missing sources of the field, never calibrators."""
    n = len(sky)
    generator = seeded_generator(seed, "catalogue errors")
    true, is_field = sky.components, ~np.isin(sky.kind, ["calibrator", "blazar"])
    shift = generator.standard_normal((2, n)) * options.catalogue_position_error_arcsec / 3600.0 * is_field
    factor = np.exp(generator.standard_normal(n) * options.catalogue_flux_error * is_field)
    known = ~is_field | (generator.random(n) >= options.uncatalogued_fraction)
    ra = (true.ra_deg + shift[0] / np.cos(np.radians(true.dec_deg))) % 360.0
    dec = true.dec_deg + shift[1]
    names = true.source_id.copy()
    for k in np.flatnonzero(known & (np.abs(shift).max(axis=0) > 0)):
        if names[k].startswith("NVSS J"):  # a catalogue names its sources by the positions it gives
            names[k] = iau_name(float(ra[k]), float(dec[k]))
    believed = replace(true, source_id=names, ra_deg=ra, dec_deg=dec, flux_jy=true.flux_jy * factor)
    row = np.full(n, -1)
    row[known] = np.arange(int(known.sum()))
    return replace(sky, components=replace(true, source_id=names), catalogue=believed.select(known), catalogue_row=row)
