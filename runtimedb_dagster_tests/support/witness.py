"""A source that also reads each table whole, in the snapshot in which it is refreshed: what a refresh must come to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.engine.fingerprint import content, fingerprint, scan
from runtimedb_dagster.sources.attached.postgresql.dialect import PostgreSQL
from runtimedb_dagster.sources.base import Base, Reading, Source, SourceSnapshot, State

__all__ = ["Witness"]


@dataclass
class Witness:
    """A source whose tables are read twice: as it is asked, and whole.

    Attributes:
        source: the real one.
        directory: where what is read whole is written.
        seen: the fingerprint of each table as it was read whole last.
    """

    source: Source
    directory: Path
    seen: dict[TableRef, str] = field(default_factory=dict)

    def snapshot(self) -> AbstractContextManager[SourceSnapshot]:
        """As the source's, with a second look at whatever is read."""
        return self._snapshot()

    @contextmanager
    def _snapshot(self) -> Iterator[SourceSnapshot]:
        with self.source.snapshot() as inner:
            yield _Snapshot(self, inner)

    def check(self) -> None:
        self.source.check()

    def discover(self) -> Sequence[DiscoveredTable]:
        return self.source.discover()

    def cancel(self) -> None:
        self.source.cancel()

    def close(self) -> None:
        self.source.close()

    def look(self, reading: Reading) -> None:
        """Read a table whole, in the transaction of a reading."""
        file = self.directory / f"{uuid.uuid4().hex}.parquet"
        file.touch()
        try:
            reading.write(file, {})
            with duckdb.connect() as duck:
                held, columns = scan(duck, str(file)), tuple(reading.columns)
                rows, sums = content(held, columns)
                self.seen[reading.ref] = fingerprint(held, columns, rows, sums)
        finally:
            file.unlink()

    def agrees(self, version: Version, ref: TableRef) -> bool:
        """Whether a version is what the source held."""
        return self.seen[ref] == version.fingerprint


@dataclass
class _Snapshot:
    witness: Witness
    inner: SourceSnapshot

    def states(self, bases: Mapping[TableRef, Base], *, thorough: bool) -> Mapping[TableRef, State]:
        states = self.inner.states(bases, thorough=thorough)
        dialect = getattr(self.witness.source, "_dialect", None)
        if isinstance(dialect, PostgreSQL):
            # A materialized view can't be locked; to try would end the transaction, and with it the snapshot.
            dialect._lock = lambda *_: False  # type: ignore[method-assign]
        for ref in states:
            with self.inner.read(ref) as reading:
                self.witness.look(reading)
        if isinstance(dialect, PostgreSQL):
            del dialect._lock
        return states

    @contextmanager
    def read(self, ref: TableRef, base: Base | None = None) -> Iterator[Reading]:
        with self.inner.read(ref, base) as reading:
            yield reading
            self.witness.look(reading)
