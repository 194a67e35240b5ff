"""Errors of the pure functions: all are ``ValueError``, since only their arguments can be wrong."""


class ScienceError(ValueError):
    """An argument that the computation cannot be made with."""


class ShapeError(ScienceError):
    """Arrays whose shapes do not fit together."""


class SolveError(ScienceError):
    """A solve without enough data or without a solution."""


class UnknownSourceError(ScienceError):
    """A name that no catalogue here knows."""
