"""RuntimeDB's errors as Dagster's: one readable line, and a retry where trying again may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from runtimedb_dagster.errors import RuntimeDBError, SourceUnavailableError

__all__ = ["as_failures"]

RETRIES = 3
SECONDS_BETWEEN = 10


@contextmanager
def as_failures(*, retry: bool) -> Iterator[None]:
    """Turn errors of RuntimeDB into failures of the step.

    Args:
        retry: try again when a source is away or locked at the moment; nothing else is worth it.
    """
    try:
        yield
    except SourceUnavailableError as error:
        if retry:
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error
        raise dg.Failure(str(error), allow_retries=False) from error
    except RuntimeDBError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
