"""What a project's own assets need to read a connection's tables."""

from __future__ import annotations

from runtimedb_dagster.dagster.deps import table_deps, table_input, tables_changed
from runtimedb_dagster.dagster.io_manager import RuntimeDBIOManager
from runtimedb_dagster.dagster.resource import RuntimeDBResource

__all__ = ["RuntimeDBIOManager", "RuntimeDBResource", "table_deps", "table_input", "tables_changed"]
