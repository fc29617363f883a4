"""Audit: whether what changes make of a version is what the whole source holds, in one snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.engine.matching import NotMergedError
from runtimedb_dagster.engine.strategy import Changes, Full, Keep, base_of, decide, why_full
from runtimedb_dagster.sources.base import Source
from runtimedb_dagster.sources.registry import open_source

__all__ = ["Audited", "audit"]


@dataclass(frozen=True)
class Audited:
    """What an audit found of one table.

    Attributes:
        table: its full name.
        result: `same` if the source holds what changes make of its version, `different` if it does not; `not compared`
            if they make nothing of it, so that its next refresh reads it whole; `failed` if it could not be read.
        message: what is different, or why it was not compared; empty if it is the same.
    """

    table: str
    result: Literal["same", "different", "not compared", "failed"]
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.result in ("same", "not compared")

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def audit(engine: Engine, connection: Connection, tables: Sequence[Table]) -> Iterator[Audited]:
    """Audit some of a connection's tables, one after the other; see `RuntimeDB.audit`."""
    with open_source(connection, engine.settings.duckdb_config) as source:
        for table in tables:
            yield _audited(engine, source, table)


def _audited(engine: Engine, source: Source, table: Table) -> Audited:
    name, version = str(table.ref), table.version
    if version is None or (reason := why_full(table, full=False)):
        return Audited(name, "not compared", f"its next refresh reads it whole: {why_full(table, full=False)}")
    try:
        drift = _drift(engine, source, table, version)
    except NotMergedError as error:
        return Audited(name, "not compared", f"its next refresh reads it whole: {error}")
    except RuntimeDBError as error:
        return Audited(name, "failed", str(error))
    if drift:
        reason = f"an audit found that its source holds something else: {drift}"
        engine.catalog.publications.distrust(table, version, reason)
        return Audited(name, "different", f"{reason}; its next refresh reads it whole")
    engine.catalog.publications.record_audit(table, version, utc_now())
    return Audited(name, "same")


def _drift(engine: Engine, source: Source, table: Table, version: Version) -> str:
    by_changes = engine.refresher.by_changes
    with source.snapshot() as snapshot, snapshot.read(table.ref, base_of(version)) as reading:
        match decide(version, reading):
            case Keep(base):
                return by_changes.audit_same(table, base, reading)
            case Changes(base, changed):
                return by_changes.audit(table, base, changed, reading)
            case Full(reason):
                raise NotMergedError(reason)
