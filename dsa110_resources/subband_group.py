"""The subbands of one observation, checked against each other before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.phasing import BaselineOrder, Floats, UvwComparison, compare_uvw, order_baselines
from dsa110_assets.science.subbands import group_id_of
from dsa110_resources.archive import path_form
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.uvh5 import Baselines, SubbandHeader, read_baselines, read_header

SAME_TIME_S = instrument.CORRELATOR_SAMPLE_S / 2.0
"""Members of a group agree within half a correlator sample (0.067 s)."""


@dataclass(frozen=True, eq=False)
class SubbandGroup:
    """Headers of one group, by subband.

    Attributes
    ----------
    headers
        Subband index to header; the missing ones have no entry.
    baselines
        As recorded; the same in all members.
    uvw
        The members' uvw against positions and declination: the worst of them.
    """

    headers: dict[int, SubbandHeader]
    baselines: Baselines
    uvw: UvwComparison

    @property
    def first(self) -> SubbandHeader:
        """The member with the lowest subband index."""
        return self.headers[min(self.headers)]

    @property
    def missing(self) -> tuple[int, ...]:
        """Subbands without a file."""
        return tuple(sorted(set(range(instrument.N_SUBBANDS)) - set(self.headers)))

    @property
    def n_channels(self) -> int:
        """Channels of the whole band."""
        return instrument.N_SUBBANDS * self.first.n_channels

    @cached_property
    def frequencies_hz(self) -> Floats:
        """Ascending channel centres of the whole band, Hz; missing subbands continue the comb of the first member."""
        first = self.first
        width = first.n_channels * first.channel_width_hz
        band = np.empty(self.n_channels)
        for subband in range(instrument.N_SUBBANDS):
            shifted = first.frequencies_hz - (subband - first.subband) * width
            member = self.headers.get(subband)
            band[self.channels_of(subband)] = np.sort(shifted if member is None else member.frequencies_hz)
        return band

    @cached_property
    def order(self) -> BaselineOrder:
        """Rows of one integration of the Measurement Set."""
        return order_baselines(self.baselines.antenna1, self.baselines.antenna2)

    def channels_of(self, subband: int) -> slice:
        """Where a subband lies in the ascending band."""
        n_channels = self.first.n_channels
        start = (instrument.N_SUBBANDS - 1 - subband) * n_channels
        return slice(start, start + n_channels)

    @cached_property
    def phase_center_deg(self) -> tuple[float, float]:
        """ICRS position of the meridian point at the group's mid-time, degrees."""
        times = self.first.times_jd
        middle = times[0] + 0.5 * (times[-1] - times[0])
        ra, dec = geometry.meridian_icrs(self.first.dec_app_rad, np.array([middle]))
        return float(ra[0]), float(dec[0])


def read_group(paths: Sequence[Path], *, partition: str) -> SubbandGroup:
    """Read the headers of one group and check that they belong together.

    Raises
    ------
    CorruptInputError
        A member is damaged, two hold the same subband, or members disagree in time, array, pointing or channels.
    ForeignDataError
        A member is another telescope's.
    """
    if not paths:
        raise CorruptInputError("no subband file was given", partition=partition, cure="see the ledger's subband_files")
    headers: dict[int, SubbandHeader] = {}
    for path in paths:
        header = read_header(path)
        if header.subband in headers:
            raise CorruptInputError(
                f"holds subband {header.subband}, which {headers[header.subband].path.name} holds too",
                partition=partition,
                path=path,
                cure="keep one of the two",
            )
        headers[header.subband] = header
    first = headers[min(headers)]
    baselines = read_baselines(first)
    for header in headers.values():
        _require_same(header, first, partition)
    comparisons = [compare_recorded_uvw(h, _same_baselines(h, first, baselines, partition)) for h in headers.values()]
    worst = max(comparisons, key=lambda comparison: comparison.max_discrepancy_m)
    return SubbandGroup(dict(sorted(headers.items())), baselines, worst)


def field_name(group: SubbandGroup) -> str:
    """Name of the group's one field."""
    return f"drift_{path_form(group_id_of(group.first.time_start_jd))}"


def compare_recorded_uvw(header: SubbandHeader, baselines: Baselines) -> UvwComparison:
    """A header's uvw against what its positions and declination give at hour angle 0."""
    positions = header.antenna_positions_m
    vectors = positions[baselines.antenna2] - positions[baselines.antenna1]
    return compare_uvw(baselines.uvw_m, geometry.header_uvw(vectors, header.dec_app_rad))


def _require_same(header: SubbandHeader, first: SubbandHeader, partition: str) -> None:
    wrong = []
    if header.n_times != first.n_times:
        wrong.append(f"{header.n_times} integrations against {first.n_times}")
    elif np.max(np.abs(header.times_jd - first.times_jd)) * 86400.0 > SAME_TIME_S:
        wrong.append("another time")
    if header.n_channels != first.n_channels or header.polarizations != first.polarizations:
        wrong.append("other channels or polarisations")
    if abs(header.dec_app_rad - first.dec_app_rad) > 1e-8:
        wrong.append("another declination")
    if header.antenna_names != first.antenna_names or not np.array_equal(
        header.antenna_positions_m, first.antenna_positions_m
    ):
        wrong.append("other antennas")
    if wrong:
        raise CorruptInputError(
            f"does not belong with {first.path.name}: {', '.join(wrong)}",
            partition=partition,
            path=header.path,
            cure="group files by header time, not by name",
        )


def _same_baselines(header: SubbandHeader, first: SubbandHeader, baselines: Baselines, partition: str) -> Baselines:
    if header is first:
        return baselines
    own = read_baselines(header)
    if not (np.array_equal(own.antenna1, baselines.antenna1) and np.array_equal(own.antenna2, baselines.antenna2)):
        raise CorruptInputError("has other baselines than its group", partition=partition, path=header.path)
    return own
