"""DSA-110: constants, stations and array configurations, each with its provenance.

The raw writer is ``dsa110-meridian-fs`` (``dsamfs/io.py``); "header" below means a real raw header of 2025-10-03.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

TELESCOPE_NAME = "OVRO_MMA"
"""Name in raw headers and Measurement Sets: the only one CASA's observatory table knows."""
INSTRUMENT_NAME = "DSA"
LATITUDE_DEG = 37.2334051
"""Telescope position of the raw headers (the arms' T-centre), WGS84."""
LONGITUDE_DEG = -118.2830000
ALTITUDE_M = 1188.0519
TELESCOPE_ITRF_M: npt.NDArray[np.float64] = np.array([-2409555.93340861, -4478213.61528579, 3838767.45954561])
"""ITRF position of the telescope, metres, shape (3,) (header)."""

DISH_DIAMETER_M = 4.65
"""Header ``antenna_diameters``."""
SEFD_JY = 6500.0
"""System equivalent flux density of one receptor (antpos ``utils.py``); real data bound it below 7000."""
RAW_GAIN = 0.067
"""Median antenna gain amplitude in raw units per sqrt(Jy) (gain tables of 2026-01-25)."""

CORRELATOR_SAMPLE_S = 0.134217728
SAMPLES_PER_INTEGRATION = 96
INTEGRATION_S = SAMPLES_PER_INTEGRATION * CORRELATOR_SAMPLE_S
"""12.884901888 s, fringe-stopped to hour angle 0."""
HEADER_INTEGRATION_S = 12.884902000427246
"""What headers say: the float32 value held in float64."""
INTEGRATIONS_PER_GROUP = 24
GROUP_SPACING_S = INTEGRATIONS_PER_GROUP * INTEGRATION_S
"""309.2376 s from the start of one group to the next."""
CORRELATOR_RESTART_S = 3801.0
"""The correlator restarts every 63.35 min, 11 groups per cycle (arrivals of 2026-02)."""
GROUPS_PER_RESTART = 11

N_SUBBANDS = 16
CHANNELS_PER_SUBBAND = 48
CHANNEL_WIDTH_HZ = 244140.625
BAND_TOP_HZ = 1498765258.7890625
"""Upper edge of the highest channel (sb00, channel 0)."""
BAND_BOTTOM_HZ = BAND_TOP_HZ - N_SUBBANDS * CHANNELS_PER_SUBBAND * CHANNEL_WIDTH_HZ
REFERENCE_FREQUENCY_HZ = 0.5 * (BAND_TOP_HZ + BAND_BOTTOM_HZ)
"""Centre of the band, 1405.015 MHz."""
POLARIZATIONS = ("XX", "YY")

# Input order of the SNAPs (64-antenna era, dsautils cnf.py), the stations added since appended; it is not ascending,
# so some baselines have ant_1 > ant_2.
_ORDER_2022 = (
    *range(24, 36), *range(20, 12, -1), 50, 51, 102, 116, 103, *range(12, 0, -1), *range(104, 115),
    44, 45, 46, 115, *range(36, 44), 47, 48, 49, 100,
)  # fmt: skip

# 20 E-W, 8 N-S, 4 outriggers: a core dense enough to image with and baselines to 2.2 km (DECISIONS 25).
_SMALL_STATIONS = frozenset({
    1, 3, 5, 8, 12, 15, 17, 19, 20, 24, 25, 27, 29, 31, 34, 37, 40, 44, 47, 51,
    68, 72, 77, 82, 87, 92, 97, 102,
    104, 107, 111, 116,
})  # fmt: skip


@dataclass(frozen=True)
class Stations:
    """The surveyed stations.

    Attributes
    ----------
    numbers : (n,) int
        Station numbers, 1 to 117.
    positions_m : (n, 3) float
        ITRF position minus :data:`TELESCOPE_ITRF_M`, metres.
    arms : (n,) str
        ``E-W``, ``N-S`` or ``outrigger``.
    active : (n,) bool
        Correlated on 2026-01-25.
    """

    numbers: npt.NDArray[np.int64]
    positions_m: npt.NDArray[np.float64]
    arms: npt.NDArray[np.str_]
    active: npt.NDArray[np.bool_]


@cache
def read_stations() -> Stations:
    """Read the station table that ships with the package."""
    text = resources.files("dsa110_assets.science").joinpath("data/antennas.csv").read_text()
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    itrf = np.array([[float(row[f"itrf_{axis}_m"]) for axis in "xyz"] for row in rows])
    return Stations(
        numbers=np.array([int(row["station"]) for row in rows]),
        positions_m=itrf - TELESCOPE_ITRF_M,
        arms=np.array([row["arm"] for row in rows]),
        active=np.array([row["active"] == "1" for row in rows]),
    )


@dataclass(frozen=True)
class ArrayConfiguration:
    """What one raw file looks like.

    Attributes
    ----------
    name
        ``full`` or ``small``.
    antenna_names
        All stations of the header, in header order.
    antenna_positions_m : (n_telescope, 3) float
        ITRF minus telescope, metres.
    antenna_order : (n_data,) int
        Header indices of the antennas with data, in correlator order (not ascending).
    n_channels
        Channels per subband.
    n_integrations
        Integrations per group.
    """

    name: str
    antenna_names: tuple[str, ...]
    antenna_positions_m: npt.NDArray[np.float64]
    antenna_order: npt.NDArray[np.int64]
    n_channels: int
    n_integrations: int

    @property
    def channel_width_hz(self) -> float:
        """Channel width, Hz: the same band whatever the number of channels."""
        return (BAND_TOP_HZ - BAND_BOTTOM_HZ) / (N_SUBBANDS * self.n_channels)

    def frequencies_hz(self, subband: int) -> npt.NDArray[np.float64]:
        """Channel centres of one subband, Hz, shape (n_channels,), DESCENDING; subband 0 is the highest."""
        first = subband * self.n_channels
        centres = BAND_TOP_HZ - (first + np.arange(self.n_channels) + 0.5) * self.channel_width_hz
        return np.asarray(centres, dtype=np.float64)

    def baselines(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Header indices (ant_1, ant_2) of every baseline, autos included, in the writer's order.

        For i in the correlator order, for j up to i: (order[j], order[i]); ant_1 > ant_2 occurs.
        """
        second, first = np.tril_indices(len(self.antenna_order))
        return self.antenna_order[first], self.antenna_order[second]


def _build_array(name: str, stations: frozenset[int], n_channels: int, n_integrations: int) -> ArrayConfiguration:
    table = read_stations()
    order = [s for s in _ORDER_2022 if s in stations]
    order += [int(s) for s in table.numbers if s in stations and s not in _ORDER_2022]
    return ArrayConfiguration(
        name=name,
        antenna_names=tuple(str(n) for n in table.numbers),
        antenna_positions_m=table.positions_m,
        antenna_order=np.array(order) - 1,
        n_channels=n_channels,
        n_integrations=n_integrations,
    )


@cache
def array_configuration(name: str) -> ArrayConfiguration:
    """One of the known arrays.

    Parameters
    ----------
    name
        ``full``: the 96 antennas of 2026-01-25, 16 x 48 channels, 24 integrations.
        ``small``: the same structure cut down, 32 antennas, 16 x 8 channels, 8 integrations.

    Raises
    ------
    KeyError
        For any other name.
    """
    table = read_stations()
    full = frozenset(int(n) for n in table.numbers[table.active])
    builders = {
        "full": (full, CHANNELS_PER_SUBBAND, INTEGRATIONS_PER_GROUP),
        "small": (_SMALL_STATIONS, 8, 8),
    }
    stations, n_channels, n_integrations = builders[name]
    return _build_array(name, stations, n_channels, n_integrations)


ARRAY_NAMES = ("full", "small")
