"""Verify: check on a live system that nothing is lost, torn, left over, or shown that is to be hidden."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import PendingDeletion, Version
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.soundness import difference, problem
from runtimedb_dagster.storage import Storage

__all__ = ["Finding", "altered", "exposed", "unreadable", "verify"]

logger = logging.getLogger(__name__)

PARALLEL = 8


@dataclass(frozen=True)
class Finding:
    """Something that breaks an invariant of the design.

    Attributes:
        invariant: `I1` a version can't be read or holds something else than recorded; `I2` an orphan;
            `I3` a current version's deletion is due; `R6` a version shows what today's options hide.
        subject: the table or the path.
        message: what is wrong and what to do.
    """

    invariant: Literal["I1", "I2", "I3", "R6"]
    subject: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def verify(catalog: Catalog, storage: Storage, reader: FileReader, now: datetime) -> list[Finding]:
    """All findings, none when all is well. Changes nothing. The caller holds a lease."""
    # The storage is listed first: a file's pending deletion is always written before the file.
    paths = sorted(set(storage.list()))
    pending = {deletion.path: deletion for deletion in catalog.deletions.list()}
    tables = [table for table in catalog.tables.list() if table.version]
    connections = {connection.id: connection for connection in catalog.connections.list()}
    return [
        *unreadable(tables, storage, reader),
        *_orphans(paths, _current(tables) | set(pending), catalog, storage),
        *_condemned(tables, pending, now),
        *exposed(connections, tables),
    ]


def unreadable(tables: Sequence[Table], storage: Storage, reader: FileReader) -> list[Finding]:
    """Those of `tables` whose version can't be opened, or holds other rows than recorded (I1)."""
    cached = [(table, table.version) for table in tables if table.version]
    # Side by side, because each waits for its storage.
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="runtimedb-verify") as pool:
        problems = pool.map(lambda each: problem(storage, reader, each[1]), cached)
        return [_damaged(table, what) for (table, _), what in zip(cached, problems, strict=True) if what]


def altered(tables: Sequence[Table], storage: Storage, reader: FileReader) -> list[Finding]:
    """Those of `tables` whose version, read whole, holds other rows or values than were written (I1)."""
    return [
        _damaged(table, what)
        for table in tables
        if table.version and (what := difference(storage, reader, table.version))
    ]


def exposed(connections: Mapping[str, Connection], tables: Sequence[Table]) -> list[Finding]:
    """Those of `tables` whose version shows what the options of today, by connections' ids, hide (R6)."""
    return [
        _exposing(table, columns)
        for table in tables
        if table.version and (columns := _exposed_columns(connections.get(table.connection_id), table, table.version))
    ]


def _exposed_columns(connection: Connection | None, table: Table, version: Version) -> list[str]:
    if connection is None:
        return []
    return connection.options.selection.of(table.schema_name, table.table_name).exposed(version.columns)


def _exposing(table: Table, columns: Sequence[str]) -> Finding:
    which = f"column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"
    return Finding(
        "R6",
        str(table.ref),
        f"its version shows {which}, which the options mask and exclude_columns hide since it was made; refresh the "
        "table, because readers see the values until then",
    )


def _damaged(table: Table, what: str) -> Finding:
    return Finding(
        "I1",
        str(table.ref),
        f"{what}; refresh the table to get a new version (`--full` reads this one whole before it is kept)",
    )


def _orphans(paths: list[str], named: set[str], catalog: Catalog, storage: Storage) -> list[Finding]:
    suspects = [path for path in paths if path not in named]
    # Published or swept while this ran: then it is named now, or gone.
    named_now = _current(catalog.tables.list()) | {deletion.path for deletion in catalog.deletions.list()}
    return [
        Finding("I2", path, "no table points at this file and no deletion is pending; delete it by hand")
        for path in suspects
        if path not in named_now and storage.exists(path)
    ]


def _current(tables: list[Table]) -> set[str]:
    return {path for table in tables if table.version for path in table.version.paths}


def _condemned(tables: list[Table], pending: dict[str, PendingDeletion], now: datetime) -> list[Finding]:
    return [
        Finding("I3", str(table.ref), f"the file {path} of its version is due for deletion; refresh the table")
        for table in tables
        if table.version
        for path in table.version.paths
        if (deletion := pending.get(path)) and deletion.delete_after <= now
    ]
