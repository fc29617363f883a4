"""RuntimeDB's errors as Dagster's: one readable line, and a retry where trying again may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg

from runtimedb_dagster.domain.errors import RuntimeDBError, SourceUnavailableError, StorageUnavailableError

__all__ = ["as_failures", "is_transient", "retry"]

RETRIES = 3


@contextmanager
def as_failures(retry_delay: timedelta | None = None) -> Iterator[None]:
    """Turn errors of RuntimeDB into failures of the step.

    Args:
        retry_delay: after which to retry if a source is unavailable or locked at the moment, or the storage
            unavailable; nothing else is worth it.
    """
    try:
        yield
    except RuntimeDBError as error:
        if retry_delay is not None and is_transient(error):
            raise dg.RetryRequested(RETRIES, retry_delay.total_seconds()) from error
        raise dg.Failure(str(error), allow_retries=False) from error


def is_transient(error: Exception | None) -> bool:
    """Whether an error may be gone in a moment."""
    return isinstance(error, SourceUnavailableError | StorageUnavailableError)


def retry(context: dg.OpExecutionContext, error: Exception, delay: timedelta) -> None:
    """Have Dagster retry the step, unless the error will stay or it was retried often enough."""
    if is_transient(error) and context.retry_number < RETRIES:
        raise dg.RetryRequested(RETRIES, delay.total_seconds()) from error
