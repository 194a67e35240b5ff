"""What can go wrong, as types: permanent (this input can never work) against transient (try again)."""

from pathlib import Path


class PlatformError(Exception):
    """An error told once, in the operator's words.

    Parameters
    ----------
    message
        What was wrong.
    partition
        Partition key or group id concerned.
    path
        File concerned.
    cure
        What the operator should do.
    """

    def __init__(
        self, message: str, *, partition: str | None = None, path: Path | str | None = None, cure: str | None = None
    ) -> None:
        self.message = message
        self.partition = partition
        self.path = None if path is None else Path(path)
        self.cure = cure
        super().__init__(str(self))

    def __str__(self) -> str:
        """Partition, file, message and cure in one line."""
        where = " ".join(
            part
            for part in (
                f"[{self.partition}]" if self.partition else "",
                f"{self.path}:" if self.path else "",
            )
            if part
        )
        cure = f" Cure: {self.cure}" if self.cure else ""
        return f"{where} {self.message}{cure}".strip()


class PermanentError(PlatformError):
    """This input can never work: quarantine it, do not retry."""


class TransientError(PlatformError):
    """It may work later: retry with backoff."""


class CorruptInputError(PermanentError):
    """A file is truncated, empty or of the wrong shape."""


class ForeignDataError(PermanentError):
    """A readable file that is not of this telescope, or whose header time is impossible."""


class MissingCalibrationError(PermanentError):
    """No usable calibration table: the group waits, it does not fail."""


class ExternalToolMissingError(PermanentError):
    """A program that is not installed on this machine."""


class ExternalToolError(TransientError):
    """A program ran and failed, crashed or timed out."""


class DiskFullError(TransientError):
    """No space left where a product was to be written."""


class LockedError(TransientError):
    """Another process is writing this Measurement Set."""
