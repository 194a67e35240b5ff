"""Point-source components: the sky model of calibration, imaging and photometry."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flux_scale import power_law

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Point sources with power-law spectra.

    Attributes
    ----------
    source_id : (n,) str
        Name, e.g. ``NVSS J123456.7+420312``.
    ra_deg, dec_deg : (n,) float
        ICRS position, degrees.
    flux_jy : (n,) float
        Flux density at ``freq_ghz``, Jy.
    freq_ghz : (n,) float
        Frequency of ``flux_jy``, GHz.
    spectral_index : (n,) float
        alpha of S proportional to nu^alpha.
    """

    source_id: npt.NDArray[np.str_]
    ra_deg: Floats
    dec_deg: Floats
    flux_jy: Floats
    freq_ghz: Floats
    spectral_index: Floats

    def __post_init__(self) -> None:
        n = len(self.source_id)
        for name in ("ra_deg", "dec_deg", "flux_jy", "freq_ghz", "spectral_index"):
            if getattr(self, name).shape != (n,):
                raise ShapeError(f"{name} has shape {getattr(self, name).shape}, expected ({n},)")

    def __len__(self) -> int:
        return len(self.source_id)

    def flux_at(self, frequency_hz: npt.ArrayLike) -> Floats:
        """Flux densities in Jy, shape (n_source, n_frequency), at frequencies in Hz."""
        frequency_ghz = np.atleast_1d(np.asarray(frequency_hz, dtype=np.float64)) / 1e9
        return power_law(
            self.flux_jy[:, None], self.freq_ghz[:, None], self.spectral_index[:, None], frequency_ghz[None, :]
        )

    def select(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Components":
        """The components of a boolean mask or of indices."""
        return Components(
            source_id=self.source_id[mask],
            ra_deg=self.ra_deg[mask],
            dec_deg=self.dec_deg[mask],
            flux_jy=self.flux_jy[mask],
            freq_ghz=self.freq_ghz[mask],
            spectral_index=self.spectral_index[mask],
        )

    def with_flux(self, flux_jy: Floats) -> "Components":
        """The same sources with other flux densities, Jy, shape (n,)."""
        return replace(self, flux_jy=flux_jy)


def concatenate(parts: Sequence[Components]) -> Components:
    """Join component lists in order; an empty sequence gives an empty list."""
    if not parts:
        empty = np.zeros(0)
        return Components(np.zeros(0, dtype=np.str_), empty, empty, empty, empty, empty)
    return Components(
        source_id=np.concatenate([p.source_id for p in parts]),
        ra_deg=np.concatenate([p.ra_deg for p in parts]),
        dec_deg=np.concatenate([p.dec_deg for p in parts]),
        flux_jy=np.concatenate([p.flux_jy for p in parts]),
        freq_ghz=np.concatenate([p.freq_ghz for p in parts]),
        spectral_index=np.concatenate([p.spectral_index for p in parts]),
    )
