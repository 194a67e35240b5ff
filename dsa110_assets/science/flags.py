"""Flag bits of photometric measurements (the ``flags`` column of ``photometry`` and ``photometry_timeseries``).

A bit is set when something is known about a measurement; 0 means that nothing is known against it. Stored values
are never renumbered: new bits are added at the end.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import numpy.typing as npt


class PhotometryFlag(IntFlag):
    """What is known about one measured flux; combine with ``|``, store as int64."""

    NO_COVERAGE = 1 << 0
    """The position lies outside the image or on blank pixels; the flux is NaN."""
    EDGE = 1 << 1
    """The fitting cut-out is cut by the image border."""
    LOW_PRIMARY_BEAM = 1 << 2
    """The primary-beam response is below the limit for single tiles (0.25)."""
    BLENDED = 1 << 3
    """Another component lies within 0.5 BMAJ: solved as one, the flux is the sum."""
    FLAGGED_RMS = 1 << 4
    """The local rms is zero, not finite or far above the expectation; the flux may be NaN."""
    POSITION_FITTED = 1 << 5
    """Position terms were solved together with the flux (SCIENCE §3b)."""
    NEW_SOURCE = 1 << 6
    """Found in the residual, not in the reference catalogue."""
    NOT_CONVERGED = 1 << 7
    """The joint solve stopped before all changes were below 0.1 σ."""
    PARTIAL_GROUP = 1 << 8
    """The group had fewer than 16 subbands."""
    WARN_INPUT = 1 << 9
    """A non-blocking check of the image or of its calibration gave a warning."""
    PROVISIONAL_BASELINE = 1 << 10
    """Normalised against fewer than 10 good epochs: can never raise a candidate."""
    NOT_NORMALISED = 1 << 11
    """Fewer than 5 usable references: the normalised flux is null."""
    NEGATIVE_FLUX = 1 << 12
    """The measured flux is negative (a non-detection, kept as measured)."""
    IS_REFERENCE = 1 << 13
    """The source was a reference of the epoch's ensemble (its correction leaves it out)."""
    REJECTED_REFERENCE = 1 << 14
    """Would be a reference, but was rejected as variable or outlying."""
    COMMON_MODE = 1 << 15
    """The epoch departs in many sources at once."""
    COMBINED = 1 << 16
    """A daily value combined from several tiles of one transit."""
    POSITION_HELD = 1 << 17
    """The position learned over earlier epochs was used and held fixed."""
    EXTENDED = 1 << 18
    """The point-source fit is poor (χ² far above its degrees of freedom)."""
    SUN_NEAR = 1 << 19
    """The Sun was within the veto angle."""


BAD_FOR_LIGHT_CURVES = (
    PhotometryFlag.NO_COVERAGE | PhotometryFlag.FLAGGED_RMS | PhotometryFlag.LOW_PRIMARY_BEAM | PhotometryFlag.EDGE
)
"""Bits with which a measurement does not enter a daily light-curve point."""


def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the bits that are set, lowest bit first.

    Parameters
    ----------
    flags : int
        A stored ``flags`` value.

    Returns
    -------
    tuple of str
        Lower-case names; an unknown bit *n* is named ``bit_n``.
    """
    known = {bit.value: (bit.name or "").lower() for bit in PhotometryFlag}
    value = int(flags)
    return tuple(known.get(1 << n, f"bit_{n}") for n in range(value.bit_length()) if value & (1 << n))


def is_flagged(flags: npt.ArrayLike, bits: PhotometryFlag) -> npt.NDArray[np.bool_]:
    """Whether any of the given bits is set, elementwise.

    Parameters
    ----------
    flags : array_like of int, shape (n,)
        Stored ``flags`` values.
    bits : PhotometryFlag
        The bits asked for.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    hit: npt.NDArray[np.bool_] = (np.asarray(flags, dtype=np.int64) & int(bits)) != 0
    return hit
