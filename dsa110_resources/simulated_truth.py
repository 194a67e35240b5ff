"""The truth of a simulation, written beside its data, and the catalogues that are believed."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from dsa110_assets.science.components import Components
from dsa110_assets.science.flux_scale import power_law
from dsa110_assets.science.instrument import N_SUBBANDS, REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.simulation_campaign import Campaign
from dsa110_assets.science.simulation_group import GroupSimulator
from dsa110_assets.science.simulation_schedule import MJD_ZERO_JD
from dsa110_resources.archive import atomic_file
from dsa110_resources.catalogues import write_component_catalogue

CATALOGUE_NAME = "catalogue.csv"
NVSS_NAME = "nvss.fits"
TRUTH_NAME = "truth"


def write_nvss_catalogue(path: Path, components: Components) -> None:
    """Write a catalogue as the NVSS's own FITS table: ``RA(2000)``, ``DEC(2000)``, ``PEAK INT`` (Jy/beam), ``QUAL``.

    Flux densities are brought to 1.4 GHz; quality 0 is the best.
    """
    flux = power_law(components.flux_jy, components.freq_ghz, components.spectral_index, 1.4)
    order = np.argsort(components.ra_deg, kind="stable")
    columns = [
        fits.Column("RA(2000)", "1D", unit="DEGREE", array=components.ra_deg[order]),
        fits.Column("DEC(2000)", "1D", unit="DEGREE", array=components.dec_deg[order]),
        fits.Column("PEAK INT", "1E", unit="JY/BEAM", array=flux[order]),
        fits.Column("QUAL", "1J", array=np.zeros(len(order), dtype=np.int32)),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="AIPS VZ")
    table.header["REF_FREQ"] = (1.4e9, "Reference frequency (Hz)")
    table.header["ORIGIN"] = "dsa110 simulate"
    with atomic_file(path) as staged:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(staged, output_verify="exception")


def write_catalogues(out_dir: Path, campaign: Campaign) -> tuple[Path, Path]:
    """Write what is believed of the sky as component CSV and as NVSS-format FITS; returns both paths."""
    csv, nvss = out_dir / CATALOGUE_NAME, out_dir / NVSS_NAME
    write_component_catalogue(csv, campaign.sky.catalogue)
    write_nvss_catalogue(nvss, campaign.sky.catalogue)
    return csv, nvss


@dataclass
class TruthWriter:
    """Collects the truth of a campaign and keeps its tables on disk up to date, group by group.

    Attributes
    ----------
    directory
        Where the tables go.
    campaign
        What is simulated.
    """

    directory: Path
    campaign: Campaign
    _groups: list[dict[str, object]] = field(default_factory=list)
    _fluxes: list[pd.DataFrame] = field(default_factory=list)
    _rfi: list[pd.DataFrame] = field(default_factory=list)

    def write_campaign(self) -> None:
        """Write what holds for all groups: options, sources and lenses."""
        with atomic_file(self.directory / "options.json") as staged:
            staged.write_text(self.campaign.options.model_dump_json(indent=2) + "\n")
        sky, true = self.campaign.sky, self.campaign.sky.components
        listed = sky.catalogue_row >= 0
        row = np.where(listed, sky.catalogue_row, 0)
        frame = pd.DataFrame(
            {
                "source_id": true.source_id,
                "ra_deg": true.ra_deg,
                "dec_deg": true.dec_deg,
                "flux_jy": true.flux_jy,
                "freq_ghz": true.freq_ghz,
                "spectral_index": true.spectral_index,
                "flux_1405mhz_jy": sky.mean_flux_jy(REFERENCE_FREQUENCY_HZ)[:, 0],
                "kind": sky.kind,
                "scale_name": sky.scale_name,
                "is_catalogued": listed,
            }
        )
        for name in ("ra_deg", "dec_deg", "flux_jy"):
            frame[f"catalogue_{name}"] = np.where(listed, getattr(sky.catalogue, name)[row], np.nan)
        self._write("sources", frame)
        lenses = [{**vars(lens), "source_id": true.source_id[lens.source]} for lens in sky.lenses]
        self._write("lenses", pd.DataFrame(lenses))

    def add_group(self, group_id: str, simulator: GroupSimulator, paths: list[Path], faults: list[str]) -> None:
        """Record one written group: its fluxes, gains, receptors and RFI."""
        self._groups.append(_group_row(group_id, simulator, paths, faults))
        self._fluxes.append(_flux_rows(group_id, simulator))
        self._rfi.append(_rfi_rows(group_id, simulator))
        self._write("groups", pd.DataFrame(self._groups))
        self._write("fluxes", pd.concat(self._fluxes, ignore_index=True))
        self._write("rfi", pd.concat(self._rfi, ignore_index=True))
        target = self.directory / "instrument" / f"{group_id.replace('T', '_').replace(':', '_')}.npz"
        with atomic_file(target) as staged, staged.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **_instrument_arrays(simulator))

    def _write(self, name: str, frame: pd.DataFrame) -> None:
        with atomic_file(self.directory / f"{name}.parquet") as staged:
            frame.to_parquet(staged, index=False)


def _group_row(group_id: str, simulator: GroupSimulator, paths: list[Path], faults: list[str]) -> dict[str, object]:
    planned = simulator.planned
    return {
        "group_id": group_id,
        "day": planned.day,
        "time_start_jd": float(planned.times_jd[0]),
        "mid_mjd": planned.mid_mjd,
        "pointing_dec_deg": float(np.degrees(planned.pointing_dec_rad)),
        "phase_dec_deg": float(np.degrees(planned.phase_dec_rad)),
        "flux_scale": float(simulator.instrument.flux_scale(planned.mid_mjd)[0]),
        "n_sources": len(simulator.sources),
        "faults": ",".join(faults),
        "files": [path.name for path in paths],
    }


def _flux_rows(group_id: str, simulator: GroupSimulator) -> pd.DataFrame:
    """True flux densities (reference frequency, and each subband's centre), drift-averaged beam, closest approach."""
    sky, rows = simulator.campaign.sky, simulator.sources
    centres = simulator.frequencies_hz.reshape(N_SUBBANDS, -1).mean(axis=1)
    subbands = sky.flux_jy(centres, simulator.planned.mid_mjd)[rows]
    flux = sky.flux_jy(REFERENCE_FREQUENCY_HZ, simulator.planned.mid_mjd)[rows, 0]
    return pd.DataFrame(
        {
            "group_id": group_id,
            "source_id": sky.components.source_id[rows],
            "mjd": simulator.planned.mid_mjd,
            "flux_jy": flux,
            "subband_fluxes_jy": list(subbands),
            "primary_beam": simulator.mean_beam(),
            "separation_deg": np.degrees(simulator.separation_rad.min(axis=0)),
            "kind": sky.kind[rows],
        }
    )


def _rfi_rows(group_id: str, simulator: GroupSimulator) -> pd.DataFrame:
    """One row per channel with interference: channel counted from the bottom of the band, as in the MS."""
    rfi, n_channels = simulator.interference, len(simulator.frequencies_hz)
    array_wide = pd.DataFrame(
        {
            "channel": n_channels - 1 - rfi.channel,
            "frequency_hz": simulator.frequencies_hz[rfi.channel],
            "amplitude_jy": rfi.amplitude_jy,
            "scope": "array",
            "baseline": -1,
            "integrations": ["".join("1" if on else "0" for on in row) for row in rfi.on],
        }
    )
    n_times = len(simulator.planned.times_jd)
    middle = ["1" if n_times // 4 <= t < n_times - n_times // 4 else "0" for t in range(n_times)]
    local = pd.DataFrame(
        {
            "channel": n_channels - 1 - rfi.local_channel,
            "frequency_hz": simulator.frequencies_hz[rfi.local_channel],
            "amplitude_jy": rfi.local_amplitude_jy,
            "scope": "local",
            "baseline": rfi.local_baseline,
            "integrations": "".join(middle),
        }
    )
    both = pd.concat([array_wide, local], ignore_index=True)
    both.insert(0, "group_id", group_id)
    return both


def _instrument_arrays(simulator: GroupSimulator) -> dict[str, np.ndarray]:
    """Gains (n_time, n_ant, 2) at the reference frequency, bandpass (n_ant, n_chan ascending, 2), delays, dead."""
    instrument, mjd = simulator.instrument, simulator.planned.times_jd - MJD_ZERO_JD
    frequencies = simulator.frequencies_hz[::-1]
    return {
        "stations": instrument.stations,
        "times_mjd": mjd,
        "frequencies_hz": frequencies,
        "gains": instrument.drifting_gains(mjd).astype(np.complex64),
        "bandpass": instrument.bandpass(frequencies).astype(np.complex64),
        "delay_ns": instrument.delay_s * 1e9,
        "dead": instrument.dead,
        "flux_scale": instrument.flux_scale(mjd),
    }
