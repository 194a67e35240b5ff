"""Subband groups: which files belong together, what a group is called and when it may be processed.

A group is known by the header's ``time_array[0]`` (mid-time of the first integration, UTC), which is bit-identical in
its 16 files. File names are a hint only: each node stamps its own clock when it opens its file (real names of one
group differ by 0-2 s in 91 %, by up to 82 s in 0.5 %).
"""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.instrument import BAND_BOTTOM_HZ, BAND_TOP_HZ, CORRELATOR_SAMPLE_S, N_SUBBANDS

SAME_GROUP_S = 0.5 * CORRELATOR_SAMPLE_S
"""Header start times of one group agree within half a correlator sample, 0.0671 s."""
WINDOW_S = 300
"""Length of a tile partition: shorter than the 309.24 s between group starts, so a window holds at most one start."""

_DAY_S = 86400.0
_UNIX_EPOCH_JD = 2440587.5
_MJD_ZERO_JD = 2400000.5
_JD_RESOLUTION_S = 5e-5
_BAND_TOLERANCE_HZ = 1e3
_GROUP_FORMAT = "%Y-%m-%dT%H:%M:%S"


class GroupingOptions(BaseModel, frozen=True):
    """When a group of subbands is ready."""

    expected_subbands: int = Field(default=N_SUBBANDS, ge=1, le=N_SUBBANDS)
    """Subbands of a complete group."""
    min_subbands: int = Field(default=14, ge=1, le=N_SUBBANDS)
    """Fewest subbands of a partial group that is processed."""
    wait_s: float = Field(default=600.0, ge=0)
    """How long after its last arrival an incomplete group is waited for, s."""

    @model_validator(mode="after")
    def _consistent(self) -> "GroupingOptions":
        if self.min_subbands > self.expected_subbands:
            raise ValueError(f"min_subbands {self.min_subbands} exceeds expected_subbands {self.expected_subbands}")
        return self


class Completeness(StrEnum):
    """What is to be done with a group."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    WAIT = "wait"
    INCOMPLETE = "incomplete"


def group_id_of(time_jd: float) -> str:
    """Group id of a header start time: truncated to the second, ``YYYY-MM-DDTHH:MM:SS`` (UTC).

    Parameters
    ----------
    time_jd
        ``time_array[0]``, Julian date (UTC). Its float64 resolution is 40 microseconds: a time less than 50
        microseconds before a full second counts as that second.
    """
    seconds = math.floor(unix_time_of(time_jd) + _JD_RESOLUTION_S)
    return (datetime.fromtimestamp(0, tz=UTC) + timedelta(seconds=seconds)).strftime(_GROUP_FORMAT)


def group_start_of(group_id: str) -> datetime:
    """Start of a group as its id says it (to the second, UTC).

    Raises
    ------
    ValueError
        If the text is not a group id.
    """
    return datetime.strptime(group_id, _GROUP_FORMAT).replace(tzinfo=UTC)


def partition_key_of(group_id: str) -> str:
    """Tile partition of a group: the 5-minute floor of its id, ``YYYY-MM-DDTHH:MM``."""
    start = group_start_of(group_id)
    return start.replace(minute=start.minute - start.minute % (WINDOW_S // 60)).strftime("%Y-%m-%dT%H:%M")


def hour_key_of(group_id: str) -> str:
    """Hour partition of a group, ``YYYY-MM-DDTHH``."""
    return group_start_of(group_id).strftime("%Y-%m-%dT%H")


def day_key_of(group_id: str) -> str:
    """Day partition of a group, ``YYYY-MM-DD``."""
    return group_start_of(group_id).strftime("%Y-%m-%d")


def mjd_of(time_jd: float) -> float:
    """Modified Julian date (UTC) of a Julian date."""
    return time_jd - _MJD_ZERO_JD


def unix_time_of(time_jd: float) -> float:
    """Seconds since 1970-01-01T00:00 (UTC, without leap seconds) of a Julian date."""
    return (time_jd - _UNIX_EPOCH_JD) * _DAY_S


def jd_of(moment: datetime) -> float:
    """Julian date (UTC) of an aware datetime."""
    return moment.timestamp() / _DAY_S + _UNIX_EPOCH_JD


def is_same_group(first_jd: float, second_jd: float) -> bool:
    """Whether two header start times (Julian dates, UTC) are of one group."""
    return abs(first_jd - second_jd) * _DAY_S <= SAME_GROUP_S


def group_of_files(times_jd: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Group number of each file, by header start time.

    Parameters
    ----------
    times_jd : (n,) float
        ``time_array[0]`` of each file in the order of arrival, Julian dates (UTC).

    Returns
    -------
    (n,) int
        Groups are numbered by first sight. A file belongs to the group whose first-seen start differs from its own
        by at most :data:`SAME_GROUP_S`.
    """
    anchors: list[float] = []
    numbers: list[int] = []
    for time_jd in np.asarray(times_jd, dtype=np.float64):
        newest_first = range(len(anchors) - 1, -1, -1)
        number = next((i for i in newest_first if is_same_group(anchors[i], time_jd)), len(anchors))
        if number == len(anchors):
            anchors.append(float(time_jd))
        numbers.append(number)
    return np.array(numbers, dtype=np.int64)


def subband_index_of(frequencies_hz: npt.ArrayLike) -> int:
    """Subband (0 is the highest) whose 11.71875 MHz hold these channels.

    Parameters
    ----------
    frequencies_hz : (n_channels,) float
        Channel centres, Hz, in any order.

    Raises
    ------
    ShapeError
        If the channels are not all inside one subband of the band.
    """
    frequencies = np.asarray(frequencies_hz, dtype=np.float64)
    if frequencies.ndim != 1 or frequencies.size == 0 or not np.all(np.isfinite(frequencies)):
        raise ShapeError(f"channel frequencies of shape {frequencies.shape} are not a list of finite numbers")
    pitch = (BAND_TOP_HZ - BAND_BOTTOM_HZ) / N_SUBBANDS
    index = math.floor((BAND_TOP_HZ - float(frequencies.mean())) / pitch)
    top = BAND_TOP_HZ - index * pitch
    inside = frequencies.max() <= top + _BAND_TOLERANCE_HZ and frequencies.min() >= top - pitch - _BAND_TOLERANCE_HZ
    if not 0 <= index < N_SUBBANDS or not inside:
        low, high = frequencies.min() / 1e6, frequencies.max() / 1e6
        raise ShapeError(f"channels {low:.4f}-{high:.4f} MHz are not one of the {N_SUBBANDS} subbands")
    return index


def check_completeness(n_subbands: int, waited_s: float, *, options: GroupingOptions) -> Completeness:
    """What to do with a group.

    Parameters
    ----------
    n_subbands
        Subbands at hand.
    waited_s
        Time since the last one arrived, s.
    options
        The policy.

    Returns
    -------
    Completeness
        ``complete`` at once; otherwise ``wait`` until ``options.wait_s`` have passed, then ``partial`` with at least
        ``options.min_subbands``, else ``incomplete``.
    """
    if n_subbands >= options.expected_subbands:
        return Completeness.COMPLETE
    if waited_s < options.wait_s:
        return Completeness.WAIT
    return Completeness.PARTIAL if n_subbands >= options.min_subbands else Completeness.INCOMPLETE


def find_odd_shapes(shapes: Sequence[str]) -> list[int]:
    """Members of a group whose shape differs from the majority's.

    Parameters
    ----------
    shapes
        A description of each member (integrations, baselines, channels, declination). Of two equally common ones
        the first seen counts as the group's.

    Returns
    -------
    list of int
        Indices of the odd ones.
    """
    if not shapes:
        return []
    common, _ = Counter(shapes).most_common(1)[0]
    return [index for index, shape in enumerate(shapes) if shape != common]
