"""The one RuntimeDB of a Dagster process."""

from __future__ import annotations

from functools import cache

from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = ["runtimedb"]


@cache
def runtimedb(settings: Settings) -> RuntimeDB:
    """A RuntimeDB that lives as long as the process.

    Raises:
        CatalogError: the catalog can't be reached; the next call tries again.
    """
    return RuntimeDB(settings)
