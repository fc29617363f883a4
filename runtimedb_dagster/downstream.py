"""What a project's own assets need to read a connection's tables."""

from __future__ import annotations

from runtimedb_dagster.defs.deps import table_deps, table_input, tables_changed
from runtimedb_dagster.defs.io_manager import RuntimeDBIOManager
from runtimedb_dagster.defs.resource import RuntimeDBResource

__all__ = ["RuntimeDBIOManager", "RuntimeDBResource", "table_deps", "table_input", "tables_changed"]
