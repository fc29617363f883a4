"""Waiting for a connection's turn, so that a limit on its load holds over all runs and processes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.domain.errors import RefreshError
from runtimedb_dagster.domain.outcomes import Waiting
from runtimedb_dagster.domain.tables import Connection

__all__ = ["Turn", "turn"]

LIFETIME = timedelta(seconds=60)
# A slot is kept over small tables, and given up now and then to who waits.
HOLD_SECONDS = 2.0
POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 1.0


class Turn:
    """A slot that is held; `over` once it should be offered to others."""

    def __init__(self) -> None:
        """Start to hold it."""
        self._until = monotonic() + HOLD_SECONDS

    @property
    def over(self) -> bool:
        """Whether to leave after the table that is being read."""
        return monotonic() >= self._until


@contextmanager
def turn(
    catalog: Catalog, connection: Connection, limit: int, cancelled: threading.Event, waits: Callable[[Waiting], None]
) -> Iterator[Turn]:
    """Wait until fewer than `limit` refreshes read the connection, then hold a slot for the block.

    Args:
        catalog: where the queue is.
        connection: whose turn to wait for.
        limit: how many may read at a time.
        cancelled: ends the waiting.
        waits: is called once when it has to wait.

    Raises:
        RefreshError: `cancelled` was set while it waited.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}"
    slot = catalog.slots.enter(connection, owner, utc_now() + LIFETIME)
    try:
        with renewed(LIFETIME, lambda: catalog.slots.renew(slot, utc_now() + LIFETIME)):
            pause = POLL_SECONDS
            while not catalog.slots.is_free(slot, limit, utc_now()):
                if pause == POLL_SECONDS:
                    waits(Waiting(connection.name, limit))
                if cancelled.wait(pause):
                    raise RefreshError(f"Connection '{connection.name}': stopped while waiting for a slot")
                pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
            yield Turn()
    finally:
        catalog.slots.leave(slot, utc_now())
