"""A RuntimeDB to be tortured, over any catalog and storage, and what must hold of it after each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import new_id, schema
from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.stress.torture.children import Child, Children
from runtimedb_dagster_tests.stress.torture.faults import Case
from runtimedb_dagster_tests.support.parts import SourceFile, current, long_after, path_of, refresh_one, rows
from runtimedb_dagster_tests.support.s3 import Bucket, ObjectStore
from runtimedb_dagster_tests.support.servers import Server

__all__ = ["COMBINATIONS", "System", "Verdict", "made"]

COMBINATIONS = [(catalog, storage) for catalog in ("sqlite", "postgresql") for storage in ("files", "s3")]
ROWS = 300_000  # of more than one row group
LOGGED = 20_000
LOG = {"changes": "cursor", "cursor": "c.round", "key": "c.id", "include": "main.c"}
LOOK = "SELECT count(*), sum(id), sum(round), sum(hash(id, round)::HUGEINT) FROM {table}"


@dataclass
class Verdict:
    """What was checked after a fault, and what did not hold."""

    checked: int = 0
    broken: list[str] = field(default_factory=list)

    def require(self, name: str, found: object, wanted: object) -> None:
        """Check one thing."""
        self.checked += 1
        if found != wanted:
            self.broken.append(f"{name}: {found!r}, not {wanted!r}")


@dataclass
class System:
    """One table `shop.main.t`, whose rows all hold the round in which the source got them.

    Attributes:
        logged: what `log.main.c` holds in each round: a table that is followed by a cursor.
        listing: what really lies in the storage.
        unfinished: uploads that were begun and not ended.
        round: what the source holds.
        whole: what `t` serves between two faults.
    """

    settings: Mapping[str, str]
    source: SourceFile
    processes: Children
    listing: Callable[[], set[str]]
    unfinished: Callable[[], set[str]]
    round: int = 0
    db: RuntimeDB = field(init=False)
    whole: int = 0
    logged: dict[int, tuple[object, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Have a first version."""
        self.db = RuntimeDB(Settings(**self.settings))
        self.change()
        # What is written to a DuckDB file says nothing of one table; this one is read whole.
        self.db.connect("shop", self.source.url, options={"changes": "full"})
        self.db.connect("log", self.source.url, options=LOG)
        refresh_one(self.db, "t")
        refresh_one(self.db, "c", "log")
        self.change()
        refresh_one(self.db, "t")
        refresh_one(self.db, "c", "log")
        self.whole = self.round

    def restart(self) -> None:
        """Open it anew, knowing nothing."""
        self.db.close()
        self.db = RuntimeDB(Settings(**self.settings))

    def change(self) -> None:
        """Give the source other rows."""
        self.round += 1
        self.source.run(
            f"CREATE OR REPLACE TABLE t AS SELECT range AS id, hash(range) AS h, {self.round} AS round "
            f"FROM range({ROWS})",
            f"CREATE TABLE IF NOT EXISTS c AS SELECT range AS id, 0 AS round FROM range({LOGGED})",
            f"UPDATE c SET round = {self.round} WHERE id % 97 = {self.round % 97}",
            f"DELETE FROM c WHERE id % 199 = {self.round % 199}",
            f"INSERT INTO c SELECT {LOGGED + 100 * self.round} + range, {self.round} FROM range(100)",
        )
        (self.logged[self.round],) = self.source.run(LOOK.format(table="c"))

    def serves(self) -> object:
        """The round that a reader sees, if it sees a whole one."""
        ((count, first, last),) = rows(self.db, "SELECT count(*), min(round), max(round) FROM shop.main.t")
        return first if (count, first) == (ROWS, last) else f"{count} rows of the rounds {first} to {last}"

    def logs(self) -> object:
        """The round of `log.main.c` that a reader sees, if it is exactly one."""
        (seen,) = rows(self.db, LOOK.format(table="log.main.c"))
        return next((number for number, held in self.logged.items() if held == seen), f"no round, but {seen}")

    def suffer(self, case: Case) -> Verdict:
        """Go through a fault, and check what must hold after it."""
        verdict = Verdict()
        now = long_after(self.db.settings)
        if case.job == "sweep":
            self.change()
            refresh_one(self.db, "t")
            self.whole = self.round
        if case.job == "changes" and self.logs() != self.round:
            refresh_one(self.db, "c", "log")
        before = self.round
        if case.job in ("refresh", "changes"):
            self.change()
        with self.db.query() as reader:
            child = self._have(case, now)
            seen = reader.execute("SELECT DISTINCT round FROM shop.main.t").fetchall()
            (logged,) = reader.execute(LOOK.format(table="log.main.c")).fetchall()
        verdict.require("I4, of a reader that began before", seen, [(self.whole,)])
        verdict.require("I4, of its other table", logged in self.logged.values(), True)
        if case.job == "changes":
            verdict.require("I4, of the table that changes", logged, self.logged[before])
        self._check_ending(case, child, verdict)
        self._check_after(case, {"old": {before}, "new": {self.round}, "either": {before, self.round}}, verdict, now)
        return verdict

    def _have(self, case: Case, now: datetime) -> Child:
        child = self.processes.start(case.job, self.settings, case.faults, now)
        if case.swept:
            child.await_fault()
            self.db.sweep(now)
        return child.wait()

    def _check_ending(self, case: Case, child: Child, verdict: Verdict) -> None:
        verdict.require("the fault was met", bool(child.fired) or child.error, True)
        if not case.timed:
            verdict.require("it was killed", child.killed, case.action == "kill")
            if not child.killed:
                verdict.require("it failed", child.error is not None, case.fails)

    def _check_after(self, case: Case, rounds: dict[str, set[int]], verdict: Verdict, now: datetime) -> None:
        self.restart()
        serves = self.logs() if case.job == "changes" else self.serves()
        verdict.require(f"it serves {case.serves}, not {serves}", serves in rounds[case.serves], True)
        verdict.require("I1, I2, I3", self.db.verify(deep=True), [])
        # By then a claim of a sweep that died has run out, and so has the turn of a refresh.
        self.db.sweep(now + timedelta(hours=1))
        with self.db.engine.catalog._database.write() as tx:
            tx.execute(delete(schema.refresh_slots))
        live = {path_of(current(self.db, "t")), *current(self.db, "c", "log").paths}
        verdict.require("I5, files", self.listing(), live)
        verdict.require("I5, uploads", self.unfinished(), set())
        verdict.require("I5, pending deletions", self.db.pending_deletions(), [])
        verdict.require("I5, staging", self._staged(), [])
        # Whether it serves what the source holds, the reader before the next fault tells.
        self.change()
        verdict.require("the next refresh", refresh_one(self.db, "t").rows_synced, ROWS)
        self.whole = self.round
        if case.job == "changes":
            followed = refresh_one(self.db, "c", "log")
            verdict.require("the next refresh by changes", (followed.mode, self.logs()), ("changes", self.round))
            kept = current(self.db, "c", "log")
            verdict.require("its files", (len(kept.files) > 1, len(kept.deletes) > 0), (True, True))

    def _staged(self) -> list[Path]:
        return [path for path in (Path(self.settings["home"]) / "staging").rglob("*") if path.is_file()]


@contextmanager
def made(directory: Path, catalog: Server | None, storage: ObjectStore | None, processes: Children) -> Iterator[System]:
    """A system over a catalog in SQLite or on a server, and a storage in files or in an object store."""
    directory.mkdir()
    settings = {"home": str(directory / "home"), "grace_period": "0", "threads": "2", "fold_below": "0"}
    database, root = f"torture_{new_id()[:8]}", directory / "home" / "storage"
    if catalog:
        catalog.run(None, f"CREATE DATABASE {database}")
        settings["catalog_url"] = catalog.catalog_url(database)
    bucket = Bucket(storage, f"torture/{new_id()}") if storage else None
    if bucket:
        settings["storage_url"] = bucket.url()

    def files() -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()} - {MARKER}

    source = SourceFile(directory / "shop.duckdb")
    listing, unfinished = (bucket.keys, bucket.uploads) if bucket else (files, set)
    system = System(settings, source, processes, listing, unfinished)
    yield system
    system.db.close()
    if catalog:
        catalog.run(None, f"DROP DATABASE {database} WITH (FORCE)")
