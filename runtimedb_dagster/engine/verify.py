"""Verify: check on a live system that nothing is lost, torn or left over."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.domain.model import PendingDeletion, Table
from runtimedb_dagster.engine.soundness import difference, problem, reader
from runtimedb_dagster.storage import Storage

__all__ = ["Finding", "altered", "unreadable", "verify"]

logger = logging.getLogger(__name__)

PARALLEL = 8


@dataclass(frozen=True)
class Finding:
    """Something that breaks an invariant of the design.

    Attributes:
        invariant: `I1` a version can't be read or holds something else than recorded; `I2` an orphan;
            `I3` a current version's deletion is due.
        subject: the table or the path.
        message: what is wrong and what to do.
    """

    invariant: Literal["I1", "I2", "I3"]
    subject: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def verify(catalog: Catalog, storage: Storage, now: datetime) -> list[Finding]:
    """All findings, none when all is well. Changes nothing. The caller holds a lease."""
    # The storage is listed first: a file's pending deletion is always written before the file.
    paths = sorted(set(storage.list()))
    pending = {deletion.path: deletion for deletion in catalog.deletions.list()}
    tables = [table for table in catalog.tables.list() if table.version]
    return [
        *unreadable(tables, storage),
        *_orphans(paths, _current(tables) | set(pending), catalog, storage),
        *_condemned(tables, pending, now),
    ]


def unreadable(tables: Sequence[Table], storage: Storage) -> list[Finding]:
    """Those of `tables` whose version can't be opened, or holds other rows than recorded (I1)."""
    cached = [(table, table.version) for table in tables if table.version]
    # Side by side, because each waits for its storage.
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="runtimedb-verify") as pool:
        problems = pool.map(lambda each: problem(storage, each[1]), cached)
        return [_damaged(table, what) for (table, _), what in zip(cached, problems, strict=True) if what]


def altered(tables: Sequence[Table], storage: Storage, config: Mapping[str, Any]) -> list[Finding]:
    """Those of `tables` whose version, read whole, holds other rows or values than were written (I1)."""
    with reader(storage, config) as duck:
        return [
            _damaged(table, what)
            for table in tables
            if table.version and (what := difference(duck, storage.location(table.version.path), table.version))
        ]


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
    return {table.version.path for table in tables if table.version}


def _condemned(tables: list[Table], pending: dict[str, PendingDeletion], now: datetime) -> list[Finding]:
    return [
        Finding("I3", str(table.ref), f"its version {deletion.path} is due for deletion; refresh the table")
        for table in tables
        if table.version and (deletion := pending.get(table.version.path)) and deletion.delete_after <= now
    ]
