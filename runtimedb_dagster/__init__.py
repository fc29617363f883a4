"""RuntimeDB for Dagster: query remote databases from a Dagster deployment as if they were local."""

from __future__ import annotations

from runtimedb_dagster.domain.model import Connection, Table, TableRef, Version
from runtimedb_dagster.domain.requests import RefreshRequest
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = ["Connection", "RefreshRequest", "RuntimeDB", "Settings", "Table", "TableRef", "Version"]
__version__ = "0.1.0"
