"""How typed errors become Dagster outcomes: the one place (DECISIONS 30).

Transient errors retry inside the run with backoff; permanent ones fail the step at once, and run retries leave them
alone; a crashed worker is retried by the run monitor.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.exc import OperationalError

from dsa110_resources.errors import DiskFullError, PlatformError, TransientError

MAX_RETRIES = 3
FIRST_WAIT_S = 10.0
NO_RUN_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}
"""Run tags of every job: a run is retried only when its worker died."""


@contextmanager
def typed_failures(context: dg.AssetExecutionContext, partition: str | None = None) -> Iterator[None]:
    """Turn the platform's errors into a retry or a failure whose first line names partition, file and cure.

    Parameters
    ----------
    context
        Of the step that runs.
    partition
        Named in errors that do not name one themselves.
    """
    try:
        yield
    except PlatformError as error:
        if error.partition is None and partition is not None:
            error = type(error)(error.message, partition=partition, path=error.path, cure=error.cure)
        _raise(context, error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = DiskFullError(
            "no space left on the device",
            partition=partition,
            path=error.filename,
            cure="free space (`dsa110 prune`) or move DSA110_DATA_ROOT; the step is retried",
        )
        _raise(context, full, cause=error)
    except OperationalError as error:
        busy = TransientError(f"the operations database did not answer: {error.orig}", partition=partition)
        _raise(context, busy, cause=error)


def _raise(context: dg.AssetExecutionContext, error: PlatformError, cause: BaseException | None = None) -> None:
    if isinstance(error, TransientError):
        wait_s = FIRST_WAIT_S * 2.0**context.retry_number
        context.log.warning("transient: %s (attempt %d; next in %.0f s)", error, context.retry_number + 1, wait_s)
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait_s) from (cause or error)
    raise dg.Failure(description=str(error), allow_retries=False) from (cause or error)
