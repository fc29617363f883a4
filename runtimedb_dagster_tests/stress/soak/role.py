"""What every role of a soak is."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster_tests.support.servers import Server

__all__ = ["Role", "Setting"]


@dataclass(frozen=True)
class Setting:
    """What roles work with."""

    db: RuntimeDB
    source: Server
    lots: random.Random
    stop: threading.Event


class Role(Protocol):
    """Does a step again and again."""

    @property
    def pause(self) -> float:
        """Seconds between two steps."""

    def step(self) -> Iterator[str | Exception]:
        """Yields words to count, and errors."""
