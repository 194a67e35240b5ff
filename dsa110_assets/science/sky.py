"""The true sky of a simulation: point sources whose spectra and fluxes on a date are known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.components import Components
from dsa110_assets.science.flux_scale import perley_butler_2017
from dsa110_assets.science.instrument import REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.wander import Wander

Floats = npt.NDArray[np.float64]

FLICKER_COLOUR = -0.5
"""ln S of a scintillating source varies as nu^-0.5: the colour sign of a lens, much weaker."""


@dataclass(frozen=True)
class Lens:
    """A Gaussian plasma lens crossing one source (Clegg, Fey & Lazio 1998, ApJ 496, 253).

    Attributes
    ----------
    source
        Index of the source.
    mid_mjd
        Closest approach, MJD.
    crossing_days
        Time in which the lens moves by its own scale, days.
    strength
        alpha at the reference frequency; proportional to nu^-2.
    source_fwhm
        Of the source profile, in lens scales.
    """

    source: int
    mid_mjd: float
    crossing_days: float
    strength: float
    source_fwhm: float

    def gain(self, frequency_hz: Floats, mjd: float) -> Floats:
        """Magnification at frequencies (n,) Hz on a date, shape (n,)."""
        from dsa110_assets.science.lens import gaussian_lens_gain

        u = np.array([(mjd - self.mid_mjd) / self.crossing_days])
        strengths = self.strength * (REFERENCE_FREQUENCY_HZ / frequency_hz) ** 2
        # the gain is smooth in frequency over 13 %: seven Chebyshev nodes carry it to 1e-5 and spare 700 evaluations
        if len(frequency_hz) <= _LENS_NODES:
            return np.array([float(gaussian_lens_gain(u, s, source_fwhm=self.source_fwhm)[0]) for s in strengths])
        low, high = float(frequency_hz.min()), float(frequency_hz.max())
        nodes = np.polynomial.chebyshev.chebpts1(_LENS_NODES)
        at_nodes = self.gain(low + (high - low) * (nodes + 1.0) / 2.0, mjd)
        fit = np.polynomial.chebyshev.chebfit(nodes, at_nodes, _LENS_NODES - 1)
        x = 2.0 * (frequency_hz - low) / (high - low) - 1.0
        return np.asarray(np.polynomial.chebyshev.chebval(x, fit))


_LENS_NODES = 7


@dataclass(frozen=True)
class TrueSky:
    """Point sources with everything that makes them vary.

    Attributes
    ----------
    components
        True positions, mean flux densities and spectral indices.
    kind : (n,) str
        ``calibrator``, ``steady``, ``flickering``, ``lensed`` or ``blazar``.
    scale_name : (n,) str
        Name on the Perley-Butler scale, whose polynomial then replaces the power law; else empty.
    flicker
        ln S of every source against time at the reference frequency (amplitude 0: steady).
    lenses
        Lensing events.
    catalogue
        What is believed: the catalogue to be written.
    catalogue_row : (n,) int
        Row of each source in ``catalogue``; -1: uncatalogued.
    """

    components: Components
    kind: npt.NDArray[np.str_]
    scale_name: npt.NDArray[np.str_]
    flicker: Wander
    lenses: tuple[Lens, ...]
    catalogue: Components
    catalogue_row: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.components)

    def mean_flux_jy(self, frequency_hz: npt.ArrayLike) -> Floats:
        """Flux densities without variability, shape (n_source, n_frequency), Jy."""
        frequency = np.atleast_1d(np.asarray(frequency_hz, dtype=np.float64))
        flux = self.components.flux_at(frequency)
        for row in np.flatnonzero(self.scale_name != ""):
            flux[row] = perley_butler_2017(str(self.scale_name[row]), frequency / 1e9)
        return flux

    def flux_jy(self, frequency_hz: npt.ArrayLike, mjd: float) -> Floats:
        """Flux densities on a date, shape (n_source, n_frequency), Jy; the primary beam is not in them."""
        frequency = np.atleast_1d(np.asarray(frequency_hz, dtype=np.float64))
        colour = (frequency / REFERENCE_FREQUENCY_HZ) ** FLICKER_COLOUR
        flux = self.mean_flux_jy(frequency) * np.exp(self.flicker.at(mjd)[0][:, None] * colour)
        for lens in self.lenses:
            flux[lens.source] *= lens.gain(frequency, mjd)
        return np.asarray(flux)


def iau_name(ra_deg: float, dec_deg: float, *, prefix: str = "NVSS") -> str:
    """IAU-style name, truncated not rounded: ``NVSS J123456.7+420312``."""
    tenths = int(np.floor((ra_deg % 360.0) / 15.0 * 36000.0 + 1e-6))
    seconds = int(np.floor(abs(dec_deg) * 3600.0 + 1e-6))
    hours, rest = divmod(tenths, 36000)
    minutes, rest = divmod(rest, 600)
    sign = "-" if dec_deg < 0 else "+"
    degrees, left = divmod(seconds, 3600)
    return (
        f"{prefix} J{hours:02d}{minutes:02d}{rest // 10:02d}.{rest % 10}"
        f"{sign}{degrees:02d}{left // 60:02d}{left % 60:02d}"
    )
