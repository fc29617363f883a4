"""A version handed out as files: which they are, and as one plain Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import StorageError, TableNotCachedError
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.query.live import live_rows
from runtimedb_dagster.sources.base import COMPRESSION_LEVEL, ROW_GROUP_SIZE

__all__ = ["export", "files"]


def files(engine: Engine, connection: str, schema_name: str, table_name: str) -> tuple[Version, Mapping[str, str]]:
    """See `RuntimeDB.files`."""
    version = _version(_table(engine, connection, schema_name, table_name))
    return version, {path: engine.storage.location(path) for path in version.paths}


def export(engine: Engine, connection: str, schema_name: str, table_name: str, file: Path) -> int:
    """See `RuntimeDB.export`."""
    with engine.catalog.leases.held(engine.settings.reader_lease):
        # As it is under the lease.
        version = _version(_table(engine, connection, schema_name, table_name))
        return _write(engine, version, file.expanduser().absolute())


def _table(engine: Engine, connection: str, schema_name: str, table_name: str) -> Table:
    return engine.catalog.tables.get(engine.catalog.connections.get(connection), schema_name, table_name)


def _version(table: Table) -> Version:
    if table.version is None:
        raise TableNotCachedError(f"{table.ref} has no version yet; refresh it first")
    return table.version


def _write(engine: Engine, version: Version, file: Path) -> int:
    if file.exists():
        raise StorageError(f"{file} is there already, and nothing is overwritten")
    part = file.with_name(file.name + ".partial")
    rows = " UNION ALL ".join(live_rows(version.files, engine.storage.location))
    try:
        with engine.reader.stored() as duck:
            duck.execute(
                f"COPY ({rows}) TO {literal(str(part))} (FORMAT parquet, COMPRESSION zstd, "
                f"COMPRESSION_LEVEL {COMPRESSION_LEVEL}, PARQUET_VERSION V1, ROW_GROUP_SIZE {ROW_GROUP_SIZE}, "
                "USE_TMP_FILE false)"
            )
        part.rename(file)
    except (duckdb.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{file} can't be written: {first_line(str(error))}") from error
    return version.rows
