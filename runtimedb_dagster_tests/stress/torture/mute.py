"""Sources behind a proxy that goes mute after as many bytes as were drawn by lot: `make campaign OF=mute MINUTES=15`.

It keeps its connections open and passes nothing on, for all of them or for new ones not, for good or for a while.
Whatever is done then ends in time, with an error that names the connection or rightly; the old versions serve; no
thread, connection or slot is left; and when the proxy speaks again, everything goes on.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import func, select

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import new_id, schema
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.sources.attached import watch
from runtimedb_dagster_tests.stress.torture.report import Row
from runtimedb_dagster_tests.stress.torture.system import Verdict
from runtimedb_dagster_tests.support.parts import await_that, refresh_all
from runtimedb_dagster_tests.support.proxy import MuteProxy, mute_proxy
from runtimedb_dagster_tests.support.seaweed import KEY_SECRET, Seaweed, seaweed
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, mariadb, postgres

__all__ = ["lanes"]

PASSWORD_ENV = "MUTE_PASSWORD"
ROWS = 30_000
# What all of the limits below add up to, for each of a handful of connections one after the other, and slack.
IN_TIME_SECONDS = 60
LIMITS = {"read_timeout": 2, "discovery_timeout": 2}
# What a source that speaks may take, on a machine with its hands full.
PATIENT = {"read_timeout": 60, "discovery_timeout": 60}


@dataclass
class Source:
    """A database whose tables `a` and `b` hold one round each, behind proxies.

    Attributes:
        fill: gives both tables the rows of a round.
        url: through the proxies.
    """

    name: str
    proxies: list[MuteProxy]
    url: str
    schema_name: str
    fill: Callable[[int], object]


@dataclass
class Lane:
    """A source, a home over it, and what came of what they suffered."""

    source: Source
    directory: Path
    lots: random.Random
    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    longest: float = 0.0
    round: int = 0
    served: dict[str, int] = field(default_factory=dict)
    bytes: int = 1000

    @property
    def name(self) -> str:
        """Of its source."""
        return self.source.name

    def __post_init__(self) -> None:
        """Have a first version of both tables."""
        self._change()
        with self._open() as db:
            db.connect("far", self.source.url, options=PATIENT, password_env=PASSWORD_ENV)
            before = sum(proxy.passed for proxy in self.source.proxies)
            refresh_all(db, "far")
            self.bytes = max(1000, sum(proxy.passed for proxy in self.source.proxies) - before)
            self._look(db, Verdict())

    def repetition(self) -> None:
        """Go mute once."""
        self._change()
        name, operation = self.lots.choice(list(OPERATIONS.items()))
        greets, thaw, verdict = self.lots.random() < 0.4, self.lots.random() < 0.2, Verdict()
        with self._open() as db:
            db.configure("far", options=LIMITS)
            self._mute(name, greets=greets)
            timer = threading.Timer(self.lots.uniform(0, 4), self._speak)
            if thaw:
                timer.start()
            try:
                self._carry_out(db, name, operation, verdict)
                self._look(db, verdict)
            finally:
                timer.cancel()
                self._speak()
            self._check_after(db, verdict)
        what = (
            f"{self.name}, {name}: mute for {'old connections' if greets else 'all'}{', for a while' if thaw else ''}"
        )
        row = self.rows[what]
        row.injected += 1
        row.checked += verdict.checked
        if verdict.broken:
            row.failures.append(f"{what}: {'; '.join(verdict.broken)}")

    def _mute(self, name: str, *, greets: bool) -> None:
        most = self.bytes if name == "refresh" else min(self.bytes, 20_000)
        after = 0 if self.lots.random() < 0.2 else self.lots.uniform(0, most)
        for proxy in self.source.proxies:
            proxy.mute(after, greets=greets)

    def _speak(self) -> None:
        for proxy in self.source.proxies:
            proxy.speak()

    def _carry_out(self, db: RuntimeDB, name: str, operation: Callable[[RuntimeDB], object], verdict: Verdict) -> None:
        started = time.monotonic()
        try:
            operation(db)
        except RuntimeDBError as error:
            verdict.require(f"the error of {name} names the connection", "far" in str(error) or str(error), True)
            verdict.require(f"the error of {name} shows the password", PASSWORD[:10] in str(error), False)
        except Exception as error:  # noqa: BLE001 - any other is what this looks for
            verdict.require(f"the error of {name}", f"{type(error).__name__}: {error}", "one of ours")
        seconds = time.monotonic() - started
        self.longest = max(self.longest, seconds)
        verdict.require(f"{name} ended in time", seconds < IN_TIME_SECONDS or seconds, True)

    def _check_after(self, db: RuntimeDB, verdict: Verdict) -> None:
        """What is left, and that everything goes on."""
        verdict.require("I1, I2, I3", [str(each) for each in db.verify()], [])
        with db.engine.catalog._database.read() as tx:
            for table in (schema.refresh_slots, schema.leases):
                verdict.require(
                    f"{table.name} that are left", tx.execute(select(func.count()).select_from(table)).scalar_one(), 0
                )
        with suppress(AssertionError):
            await_that(lambda: not self._threads(), "the threads to end", 30)
        verdict.require("threads that are left", self._threads(), [])
        db.configure("far", options=PATIENT)
        db.discover("far")
        verdict.require("the next refresh", [str(error) for error in refresh_all(db, "far").errors], [])
        self._look(db, verdict)
        verdict.require("what is served", self.served, dict.fromkeys(("a", "b"), self.round))

    def _threads(self) -> list[str]:
        """Of ours, which watch and cancel; other lanes have theirs, which end as soon."""
        return [each.name for each in threading.enumerate() if each.name == "runtimedb-cancel"]

    def _look(self, db: RuntimeDB, verdict: Verdict) -> None:
        with db.query() as query:
            for name in ("a", "b"):
                ((count, first, last),) = query.sql(
                    f"SELECT count(*), min(round), max(round) FROM far.{self.source.schema_name}.{name}"
                ).fetchall()
                verdict.require(f"{name} is whole", (count, first), (ROWS, last))
                before = self.served.get(name, self.round)
                verdict.require(f"{name} serves {before} or {self.round}", last in (before, self.round) or last, True)
                self.served[name] = last

    def _change(self) -> None:
        self.round += 1
        self.source.fill(self.round)

    def _open(self) -> RuntimeDB:
        return RuntimeDB(Settings(home=self.directory / "home", grace_period=0, threads=2))


def _connect(db: RuntimeDB) -> None:
    url = db.connection("far").url
    try:
        db.connect("far_too", url, options=LIMITS, password_env=PASSWORD_ENV)
    finally:
        if any(each.name == "far_too" for each in db.connections()):
            db.remove("far_too")


def _check(db: RuntimeDB) -> None:
    result = db.check("far")
    if result.error is not None and "far" not in result.error:
        raise AssertionError(result.error)


def _refresh(db: RuntimeDB) -> None:
    for error in db.refresh_connection("far").errors:
        if "far" not in error["error"]:
            raise AssertionError(error["error"])


OPERATIONS: dict[str, Callable[[RuntimeDB], Any]] = {
    "connect": _connect,
    "check": _check,
    "discover": lambda db: db.discover("far"),
    "refresh": _refresh,
    "refresh again": _refresh,
}


@contextmanager
def lanes(directory: Path, seed: int) -> Iterator[list[Lane]]:
    """Two lanes for each kind of source that is reached over a network."""
    os.environ.update({PASSWORD_ENV: PASSWORD, "AWS_SECRET_ACCESS_KEY": KEY_SECRET})
    watch.PROBE_EVERY_SECONDS, watch.PROBE_TIMEOUT_SECONDS, watch.PATIENCE_SECONDS = 1.0, 1.0, 1.0
    with ExitStack() as stack:
        pg, maria = (stack.enter_context(server) for server in (postgres(), mariadb()))
        weed = stack.enter_context(seaweed())
        made = []
        for number in range(2):
            sources = [
                stack.enter_context(_postgresql(pg, f"mute_{number}")),
                stack.enter_context(_mysql(maria, f"mute_{number}")),
                stack.enter_context(_ducklake(pg, f"lake_{number}", directory)),
                stack.enter_context(_iceberg(weed, f"mute_{number}")),
            ]
            for source in sources:
                lots = random.Random(f"{seed}-{source.name}")  # noqa: S311 - instants, no secrets
                made.append(Lane(source, directory / new_id(), lots))
        yield made


@contextmanager
def _postgresql(server: Server, database: str) -> Iterator[Source]:
    server.run(None, f"CREATE DATABASE {database}")

    def fill(number: int) -> None:
        for name in ("a", "b"):
            server.run(
                database,
                f"CREATE TABLE IF NOT EXISTS {name} (id int PRIMARY KEY, round int, filling text)",
                "BEGIN", f"TRUNCATE {name}",
                f"INSERT INTO {name} SELECT i, {number}, md5(i::text) FROM generate_series(1, {ROWS}) AS i", "COMMIT",
            )  # fmt: skip

    with mute_proxy(server.port) as proxy:
        yield Source(
            "postgresql",
            [proxy],
            f"postgresql://owner@127.0.0.1:{proxy.port}/{database}?connect_timeout=2",
            "public",
            fill,
        )


@contextmanager
def _mysql(server: Server, database: str) -> Iterator[Source]:
    server.run(None, f"CREATE DATABASE {database}")

    def fill(number: int) -> None:
        for name in ("a", "b"):
            server.run(
                database,
                f"CREATE TABLE IF NOT EXISTS {name} (id int PRIMARY KEY, round int, filling text)",
                "BEGIN", f"DELETE FROM {name}",
                f"INSERT INTO {name} SELECT seq, {number}, md5(seq) FROM seq_1_to_{ROWS}", "COMMIT",
            )  # fmt: skip

    with mute_proxy(server.port) as proxy:
        yield Source(
            "mysql", [proxy], f"mysql://owner@127.0.0.1:{proxy.port}/{database}?connect_timeout=2", database, fill
        )


@contextmanager
def _ducklake(server: Server, database: str, directory: Path) -> Iterator[Source]:
    """Its catalog is in PostgreSQL, behind the proxy; its files are on the disk."""
    server.run(None, f"CREATE DATABASE {database}")

    def fill(number: int) -> None:
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as duck:
            for extension in ("postgres_scanner", "ducklake"):
                load(duck, extension)
            login = f"HOST '127.0.0.1', PORT '{server.port}', USER '{server.user}', PASSWORD {literal(PASSWORD)}"
            duck.execute(f"CREATE SECRET pg (TYPE postgres, {login}, DATABASE '{database}')")
            duck.execute(
                "CREATE SECRET meta (TYPE ducklake, METADATA_PATH '', "
                "METADATA_PARAMETERS MAP {'TYPE': 'postgres', 'SECRET': 'pg'})"
            )
            duck.execute(f"ATTACH 'ducklake:meta' AS lake (DATA_PATH {literal(f'{directory}/{database}/')})")
            duck.execute("BEGIN")
            for name in ("a", "b"):
                duck.execute(
                    f"CREATE OR REPLACE TABLE lake.{name} AS SELECT range AS id, {number} AS round FROM range({ROWS})"
                )
            duck.execute("COMMIT")

    with mute_proxy(server.port) as proxy:
        url = f"ducklake+postgresql://owner@127.0.0.1:{proxy.port}/{database}?connect_timeout=2"
        yield Source("ducklake", [proxy], url, "main", fill)


@contextmanager
def _iceberg(server: Seaweed, namespace: str) -> Iterator[Source]:
    """Its catalog and its store are behind a proxy each."""
    server.catalog().create_namespace(namespace)

    def fill(number: int) -> None:
        for name in ("a", "b"):
            server.run(
                f"DROP TABLE IF EXISTS lake.{namespace}.{name}",
                f"CREATE TABLE lake.{namespace}.{name} AS SELECT range AS id, {number} AS round FROM range({ROWS})",
            )

    with mute_proxy(server.catalog_port) as catalog, mute_proxy(server.store_port) as store:
        url = Seaweed(catalog.port, store.port).url(include=f"{namespace}.*")
        yield Source("iceberg", [catalog, store], url, namespace, fill)
