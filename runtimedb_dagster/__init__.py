"""RuntimeDB for Dagster: query remote databases from a Dagster deployment as if they were local."""

from __future__ import annotations

from runtimedb_dagster.config import Settings
from runtimedb_dagster.model import Connection, Table, TableRef, Version
from runtimedb_dagster.request import RefreshRequest
from runtimedb_dagster.runtimedb import RuntimeDB

__all__ = ["Connection", "RefreshRequest", "RuntimeDB", "Settings", "Table", "TableRef", "Version"]
__version__ = "0.1.0"
