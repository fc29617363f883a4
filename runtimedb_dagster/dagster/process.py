"""The one RuntimeDB of a Dagster process, and the connections that a project's files declare."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from runtimedb_dagster.domain.declarations import Declaration
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = ["File", "opened", "remember", "runtimedb"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file of a project that declares connections.

    Attributes:
        name: as users know it.
        remove_undeclared: whether what it declared before is forgotten.
    """

    name: str
    declarations: Sequence[Declaration]
    remove_undeclared: bool = False


# By catalog and file; those that the catalog has not been brought in step with by this process.
_waiting: dict[tuple[Settings, str], File] = {}
_lock = threading.Lock()


def runtimedb(settings: Settings) -> RuntimeDB:
    """The RuntimeDB of what Dagster executes; its catalog has what the project's files declare.

    Raises:
        CatalogError: the catalog can't be reached; the next call tries again.
        ConfigurationError: what is declared is not in keeping with what the catalog has.
    """
    db = opened(settings)
    with _lock:
        for (of, name), file in list(_waiting.items()):
            if of == settings:
                done = db.declare(file.declarations, name, remove_undeclared=file.remove_undeclared)
                del _waiting[of, name]
                if done:
                    logger.info("%s: connections %s", name, done)
    return db


@cache
def opened(settings: Settings) -> RuntimeDB:
    """The RuntimeDB of what Dagster loads: nothing is changed by it. It lives as long as the process.

    Raises:
        CatalogError: the catalog can't be reached; the next call tries again.
    """
    return RuntimeDB(settings)


def remember(settings: Settings, file: File) -> None:
    """Have the catalog brought in step with a file before this process first executes anything."""
    with _lock:
        _waiting[settings, file.name] = file
