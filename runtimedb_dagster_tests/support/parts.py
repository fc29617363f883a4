"""What the tests of the core share: a database with real parts, and ways to look behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import insert, update

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings, Table, TableRef, Version
from runtimedb_dagster.catalog import Catalog, new_id, schema
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Publication, Reservation
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.outcomes import Outcome
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, DiscoveryResult, TableRefreshResult
from runtimedb_dagster.domain.selection import Selection
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import DataFile
from runtimedb_dagster.sources.attached.reading import AttachedReading
from runtimedb_dagster.sources.base import Source
from runtimedb_dagster.storage import FileStorage, Storage, version_path
from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.support.s3 import Bucket

LEASE = timedelta(minutes=10)
PARTIAL = ".partial"
ENDLESS = "SELECT range AS i, hash(range) AS h FROM range(20000000000)"


@dataclass(frozen=True)
class SourceFile:
    """A DuckDB file that plays the remote database."""

    path: Path

    @property
    def url(self) -> str:
        return f"duckdb:///{self.path}"

    def run(self, *statements: str) -> list[Any]:
        """Run statements in it; the rows of the last one."""
        with duckdb.connect(str(self.path)) as duck:
            duck.execute("SET TimeZone = 'UTC'")
            rows: list[Any] = []
            for statement in statements:
                rows = duck.execute(statement).fetchall()
            return rows


@dataclass(frozen=True)
class Directory:
    """The directory of a storage, and ways around RuntimeDB; `Bucket` is the same for an object store."""

    root: Path

    def keys(self) -> set[str]:
        """What really lies in it, directories and the marker apart, as far as it is finished."""
        files = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()}
        return {path for path in files if not path.endswith(PARTIAL)} - {MARKER}

    def uploads(self) -> set[str]:
        """What is unfinished, by the name it would get."""
        files = [path for path in self.root.rglob(f"*{PARTIAL}") if not path.is_dir()]
        return {path.relative_to(self.root).as_posix().removesuffix(PARTIAL) for path in files}

    def get(self, path: str) -> bytes:
        """The content of a file."""
        return (self.root / path).read_bytes()

    def put(self, path: str, content: bytes) -> None:
        """A file that RuntimeDB has not written."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def begin(self, path: str) -> None:
        """A file that RuntimeDB has not written, unfinished."""
        self.put(path + PARTIAL, b"")

    def remove(self, path: str) -> None:
        """Take a file away."""
        (self.root / path).unlink()


@dataclass(frozen=True)
class Inside:
    """A RuntimeDB's catalog and storage."""

    catalog: Catalog
    storage: Storage
    place: Directory | Bucket

    @classmethod
    def of(cls, db: RuntimeDB) -> Inside:
        storage = db.engine.storage
        url = db.settings.storage_url
        return cls(
            db.engine.catalog, storage, Directory(storage.root) if isinstance(storage, FileStorage) else Bucket.at(url)
        )

    @property
    def root(self) -> Path:
        """Where the files are, in a test of files alone."""
        assert isinstance(self.place, Directory)
        return self.place.root

    def files(self) -> set[str]:
        """What really lies in the storage, finished or not."""
        return self.place.keys() | self.place.uploads()

    def live(self) -> set[str]:
        """The paths that tables point at."""
        return {path for table in self.catalog.tables.list() if table.version for path in table.version.paths}

    def pending(self) -> set[str]:
        """The paths that are scheduled for deletion."""
        return {deletion.path for deletion in self.catalog.deletions.list()}

    def schedule(self, path: str, due: datetime, *, retired: int | None = None) -> None:
        """Put a row into the pending deletions by hand."""
        with self.catalog._database.write() as tx:
            tx.execute(
                insert(schema.pending_deletions).values(
                    id=new_id(),
                    path=path,
                    delete_after=due,
                    reason="by hand",
                    table_full_name="a.b.c",
                    attempts=0,
                    retired_at_sequence=retired,
                )
            )

    def publish(self, table: Table, select: str, *, grace: timedelta = timedelta(0)) -> Version:
        """Give a table a new version with a real file, without a source."""
        reservation = reserve(self.catalog, table)
        local = self.storage.prepare(reservation.paths[0])
        with duckdb.connect() as duck:
            row = duck.execute(f"COPY ({select}) TO '{local}' (FORMAT parquet, USE_TMP_FILE false)").fetchone()
        self.storage.finalize(reservation.paths[0])
        version = replace(version_of(reservation), rows=row[0] if row else -1)
        self.catalog.publications.publish([Publication(reservation, version)], utc_now() + grace)
        return version


def reserve(catalog: Catalog, table: Table, now: datetime | None = None) -> Reservation:
    """Reserve a new version's file."""
    version_id = new_id()
    path = version_path(table.connection_id, table.schema_name, table.table_name, version_id)
    return catalog.publications.reserve(table, version_id, [path], now or utc_now(), LEASE)


def version_of(reservation: Reservation) -> Version:
    """A version that a reservation could become."""
    return Version(
        id=reservation.version_id,
        files=(DataFile(reservation.paths[0], 1, 1),),
        rows=1,
        columns=(VersionColumn("i", "INTEGER"),),
        fingerprint=reservation.version_id,
        recipe="a recipe",
        created_at=utc_now(),
        duration_ms=1,
    )


def swap(catalog: Catalog, reservation: Reservation, version: Version, delete_after: datetime) -> None:
    """Publish one version."""
    catalog.publications.publish([Publication(reservation, version)], delete_after)


@contextmanager
def reading_of(source: Source, ref: TableRef) -> Iterator[AttachedReading]:
    """A reading in a snapshot of its own."""
    with source.snapshot() as snapshot, snapshot.read(ref) as reading:
        assert isinstance(reading, AttachedReading)
        yield reading


def path_of(version: Version) -> str:
    """The path of a version's one file."""
    (path,) = version.paths
    return path


def refreshed(db: RuntimeDB, tables: Sequence[Table], connection: str = "shop", **options: Any) -> list[Outcome]:
    """What becomes of tables that are refreshed."""
    events = db.engine.refresh(db.connection(connection), tables, **options)
    return [event for event in events if isinstance(event, Outcome)]


NO_RECIPES = Recipes(Selection(), lambda *_: None, {})
"""Of a connection without options."""


def discovered(
    *names: str, columns: tuple[SourceColumn, ...] = (SourceColumn("i", "INTEGER"),)
) -> list[DiscoveredTable]:
    """Tables of the schema `main` as a source shows them."""
    return [DiscoveredTable("main", name, columns=columns) for name in names]


def the_table(db: RuntimeDB, name: str, connection: str = "shop") -> Table:
    """One table of the schema `main`, as the catalog has it now."""
    return next(table for table in db.tables(connection) if table.ref == TableRef(connection, "main", name))


def current(db: RuntimeDB, name: str, connection: str = "shop") -> Version:
    """The version of a table that must have one."""
    version = the_table(db, name, connection).version
    assert version is not None
    return version


def said_to_have(db: RuntimeDB, name: str, size: int) -> None:
    """Have the catalog say that a version's file is of this size, as if it had been written so."""
    with db.engine.catalog._database.write() as tx:
        mine = schema.data_files.c.version_id == current(db, name).id
        tx.execute(update(schema.data_files).where(mine).values(bytes=size))


def refresh_all(db: RuntimeDB, connection: str = "shop") -> ConnectionRefreshResult:
    """Refresh the data of a connection."""
    result = db.refresh(RefreshRequest(connection, data=True))
    assert isinstance(result, ConnectionRefreshResult)
    return result


def refresh_one(db: RuntimeDB, name: str, connection: str = "shop") -> TableRefreshResult:
    """Refresh the data of one table of the schema `main`."""
    result = db.refresh(RefreshRequest(connection, "main", name, data=True))
    assert isinstance(result, TableRefreshResult)
    return result


def rediscover(db: RuntimeDB, connection: str | None = "shop", *, confirm: bool = False) -> DiscoveryResult:
    """Discover one connection or all."""
    result = db.refresh(RefreshRequest(connection), confirm=confirm)
    assert isinstance(result, DiscoveryResult)
    return result


def rows(db: RuntimeDB, query: str, **options: bool) -> list[tuple[Any, ...]]:
    """The rows of one query."""
    with db.query(**options) as reader:
        return reader.execute(query).fetchall()


def environment(db: RuntimeDB, **settings: object) -> dict[str, str]:
    """The environment in which another process opens the same catalog and storage with `Settings()`."""
    same = {
        "home": db.settings.home,
        "catalog_url": db.settings.catalog_url,
        "storage_url": db.settings.storage_url,
        "threads": 1,
    }
    return {**os.environ, **{f"RUNTIMEDB_{name.upper()}": str(value) for name, value in (same | settings).items()}}


def long_after(settings: Settings) -> datetime:
    """A time at which every lease and grace period of now is over."""
    return utc_now() + settings.write_lease + settings.grace_period + settings.reader_lease + timedelta(hours=2)


def await_that(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
    """Wait until a condition holds; fail when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.01)


def python(program: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start another Python process; its arguments are in `sys.argv[1:]`."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def output_of(program: str, *arguments: object, timeout: float = 60, env: Mapping[str, str] | None = None) -> str:
    """What another Python process prints; it must succeed in time."""
    process = python(program, *arguments, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out
