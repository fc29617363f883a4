"""The sandbox of the reader: a DuckDB that can read the files of some tables, and do nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, lock_down
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.query.statements import tables_named

__all__ = ["Parameters", "Sandbox", "tables_named"]

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Sandbox:
    """A DuckDB that can read some files, by their tables' names, and do nothing else.

    `allowed_paths` can't be widened once the configuration is locked, so each set of tables has its own. It is closed
    by whoever made it, or when nobody holds it any more.
    """

    def __init__(
        self,
        tables: Mapping[TableRef, tuple[Sequence[str], Version]],
        config: Mapping[str, Any],
        make_readable: Callable[[duckdb.DuckDBPyConnection], None],
        spill: Path,
    ) -> None:
        """Make tables views, given where the files of their versions are; what exceeds memory goes to `spill`.

        `make_readable` lets DuckDB read the locations, before everything else is put out of reach.
        """
        self.refs = set(tables)
        self._duck = connect(config, spill)
        self._closing = threading.Lock()
        self.closed = False
        # DuckDB copies HTTP_PROXY into it, password and all, for any query to read. httpfs uses the variable itself.
        self._duck.execute("SET GLOBAL http_proxy = ''")
        for connection in sorted({ref.connection for ref in tables}):
            self._duck.execute(f"ATTACH ':memory:' AS {identifier(connection)}")
        if tables:
            make_readable(self._duck)
        for ref, (locations, version) in tables.items():
            self._create_view(ref, locations, version)
        lock_down(self._duck, [location for locations, _ in tables.values() for location in locations])

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own: what another one reads leaves it alone."""
        return self._duck.cursor()

    def close(self) -> None:
        """End it, with whatever is still being read from it."""
        with self._closing:
            if not self.closed:
                self.closed = True
                # Without it, a query that Ctrl-C has stopped may not let go.
                self._duck.interrupt()
                self._duck.close()

    def _create_view(self, ref: TableRef, locations: Sequence[str], version: Version) -> None:
        listed = ", ".join(map(literal, locations))
        scan = f"SELECT * FROM read_parquet([{listed}], hive_partitioning = false)"
        self._duck.execute(f"CREATE SCHEMA IF NOT EXISTS {qualified(ref.connection, ref.schema_name)}")
        self._duck.execute(
            f"CREATE VIEW {qualified(ref.connection, ref.schema_name, ref.table_name)} AS "
            f"{self._with_geometries(scan, version)}"
        )

    def _with_geometries(self, scan: str, version: Version) -> str:
        """A scan whose geometries are called so: a file without any, for it has no rows, calls them bytes."""
        geometries = {column.name for column in version.columns if column.type.startswith("GEOMETRY")}
        if not geometries:
            return scan
        held = self._duck.sql(scan)
        named = [
            f"ST_GeomFromWKB({identifier(name)}) AS {identifier(name)}"
            for name, type_ in zip(held.columns, held.types, strict=True)
            if name in geometries and type_.id == "blob"
        ]
        return scan.replace("SELECT *", f"SELECT * REPLACE ({', '.join(named)})", 1) if named else scan
