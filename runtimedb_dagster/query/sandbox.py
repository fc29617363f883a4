"""The sandbox of the reader: a DuckDB that can read the files of some tables, and do nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, lock_down
from runtimedb_dagster.common.sql import identifier, qualified
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.query.live import live_rows
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
        tables: Mapping[TableRef, Version],
        locate: Callable[[str], str],
        config: Mapping[str, Any],
        make_readable: Callable[[duckdb.DuckDBPyConnection], None],
        spill: Path,
    ) -> None:
        """Make tables views of their versions; what exceeds memory goes to `spill`.

        `locate` says where DuckDB reads a file from, by its path in the storage.
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
        for ref, version in tables.items():
            self._create_view(ref, version, locate)
        lock_down(self._duck, [locate(path) for version in tables.values() for path in version.paths])

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

    def _create_view(self, ref: TableRef, version: Version, locate: Callable[[str], str]) -> None:
        geometries = {column.name for column in version.columns if column.type.startswith("GEOMETRY")}
        if geometries:
            # One by one: the files may differ in what they call them.
            scans = [scan for file in version.files for scan in live_rows([file], locate)]
            parts = [self._with_geometries(scan, geometries) for scan in scans]
        else:
            parts = live_rows(version.files, locate)
        self._duck.execute(f"CREATE SCHEMA IF NOT EXISTS {qualified(ref.connection, ref.schema_name)}")
        self._duck.execute(
            f"CREATE VIEW {qualified(ref.connection, ref.schema_name, ref.table_name)} AS {' UNION ALL '.join(parts)}"
        )

    def _with_geometries(self, scan: str, geometries: Collection[str]) -> str:
        """A scan whose geometries are called so: a file without any, for it has no rows, calls them bytes."""
        held = self._duck.sql(scan)
        named = [
            f"ST_GeomFromWKB({identifier(name)}) AS {identifier(name)}"
            for name, type_ in zip(held.columns, held.types, strict=True)
            if name in geometries and type_.id == "blob"
        ]
        return f"SELECT * REPLACE ({', '.join(named)}) FROM ({scan})" if named else scan
