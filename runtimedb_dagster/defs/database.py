"""The one RuntimeDB of a Dagster process."""

from __future__ import annotations

from functools import cache

from runtimedb_dagster.config import Settings
from runtimedb_dagster.runtimedb import RuntimeDB

__all__ = ["database"]


@cache
def database(settings: Settings) -> RuntimeDB:
    """A RuntimeDB that lives as long as the process.

    Raises:
        CatalogError: the catalog can't be reached; the next call tries again.
    """
    return RuntimeDB(settings)
