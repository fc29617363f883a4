"""A claim that is renewed while its owner works, and so expires when the owner dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

__all__ = ["renewed", "utc_now"]

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(timezone.utc)


@contextmanager
def renewed(lifetime: timedelta, renew: Callable[[], object]) -> Iterator[None]:
    """Call `renew` three times per `lifetime`, from a thread, for as long as the block runs.

    A renewal that fails is logged and retried at the next turn: whoever relies on the claim checks
    it in the transaction that matters, never here.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(max(lifetime.total_seconds() / 3, 0.05)):
            try:
                renew()
            except Exception:
                logger.warning("a claim could not be renewed; trying again", exc_info=True)

    thread = threading.Thread(target=beat, name="runtimedb-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
