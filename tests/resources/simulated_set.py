"""Measurement Sets of the simulated telescope, the truth beside them: noise, gains, interference, dead receptors."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.components import Components
from dsa110_assets.science.gains import GainTable
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_resources.archive import path_form
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.conversion import ConversionOptions, convert_group
from dsa110_resources.measurement_set import read_column, read_layout
from dsa110_resources.telescope import simulate

SEFD_NOISE_JY = 6500.0


@dataclass(frozen=True)
class SimulatedSet:
    """One group.

    Attributes
    ----------
    ms
        Measurement Set.
    components
        True sky.
    gains : (n_time, n_ant, n_chan, n_pol) complex
        True gains of the antennas with data, in the order of ``names``.
    dead : (n_ant, n_pol) bool
    delay_ns : (n_ant, n_pol) float
    """

    ms: Path
    components: Components
    names: tuple[str, ...]
    gains: npt.NDArray[np.complex128]
    dead: npt.NDArray[np.bool_]
    delay_ns: npt.NDArray[np.float64]

    def thermal(self, flux_jy: float) -> float:
        """Fractional amplitude error of a channel's bandpass, for an apparent flux density."""
        layout = read_layout(self.ms)
        noise = SEFD_NOISE_JY / np.sqrt(2 * layout.channel_width_hz * layout.interval_s)
        alive = np.count_nonzero(~self.dead) / 2
        return float(noise / (flux_jy * np.sqrt((alive - 1) * layout.n_times)))

    def ratio(self, table: GainTable) -> npt.NDArray[np.complex128]:
        """Solved over true bandpass at mid-group, both referred to the table's antenna; NaN where flagged or dead."""
        solved = table.for_antennas(self.names)
        phase = np.mean(self.gains / np.abs(np.where(self.gains == 0, 1, self.gains)), axis=0)
        truth = np.mean(np.abs(self.gains), axis=0) * np.exp(1j * np.angle(phase))
        reference = self.names.index(table.refant)
        truth = truth * np.exp(-1j * np.angle(truth[reference]))[None]
        good = ~solved.flags[0] & ~self.dead[:, None, :]
        return np.where(good, solved.gains[0] / np.where(truth == 0, 1, truth), np.nan)


def make_sets(folder: Path, *, n_groups: int = 1, array: str = "small", **instrument: object) -> list[SimulatedSet]:
    """Consecutive groups, the first with the calibrator (2253+161, 10 Jy) in transit."""
    options = SimulationOptions(
        array=array, seed=2, n_groups=n_groups, sky=SkyOptions(n_lensed=0), instrument=InstrumentOptions(**instrument)
    )
    observation = simulate(options, folder / "raw")
    components = read_component_catalogue(observation.catalogue_path)
    sets = []
    for number, (group, paths) in enumerate(observation.groups):
        ms = folder / f"group{number}.ms"
        convert_group(paths, ms, options=ConversionOptions(), partition=group)
        truth = np.load(observation.truth_dir / "instrument" / f"{path_form(group)}.npz")
        sets.append(
            SimulatedSet(
                ms=ms,
                components=components,
                names=tuple(str(name) for name in truth["stations"]),
                gains=truth["gains"][:, :, None] * truth["bandpass"][None],
                dead=truth["dead"],
                delay_ns=truth["delay_ns"],
            )
        )
    shutil.rmtree(folder / "raw")
    return sets


def make_set(folder: Path, **options: object) -> SimulatedSet:
    """A calibrator group."""
    return make_sets(folder, **options)[0]


def copy_set(simulated: SimulatedSet, folder: Path) -> Path:
    """A copy of the Measurement Set to write into."""
    target = folder / "copy.ms"
    shutil.copytree(simulated.ms, target)
    return target


def corrected(ms: Path) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_]]:
    """CORRECTED_DATA and FLAG."""
    return read_column(ms, "CORRECTED_DATA"), read_column(ms, "FLAG")
