"""An object store behind a proxy that misbehaves by lot, under every operation: `make campaign OF=store MINUTES=15`.

Whatever it answers, an operation succeeds or fails with one of our errors; nothing that is read is wrong; and when the
proxy behaves again, I1 to I5 hold.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from runtimedb_dagster import RefreshRequest, RuntimeDB
from runtimedb_dagster.catalog import new_id
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.storage.s3 import store as s3_store
from runtimedb_dagster_tests.stress.torture.shop import LOOK, SIZES, Shop
from runtimedb_dagster_tests.stress.torture.system import Verdict
from runtimedb_dagster_tests.support.faulty import ANSWERS, BODIES, BROKEN, Fault, Faulty, faulty
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, object_store_running
from runtimedb_dagster_tests.support.servers import Server, postgres

__all__ = ["lanes"]

# Four tries of a boto3 request that gets no answer for two seconds, for each of a handful of requests.
IN_TIME_SECONDS = 180


@dataclass
class Lane(Shop):
    """One catalog, over the store behind a proxy of its own."""

    proxy: Faulty = field(kw_only=True)

    def repetition(self) -> None:
        """A few waves, and a look at what is left."""
        for _ in range(6):
            self._wave()
        self.rest()

    def _wave(self) -> None:
        self.change()
        answers = self.lots.choices(list(ANSWERS), k=self.lots.choice((1, 1, 3)))
        methods = self.lots.choice(
            (("GET", "HEAD"), ("PUT", "POST"), ("DELETE",), ("GET", "HEAD", "PUT", "POST", "DELETE"))
        )
        share, verdict, names = self.lots.choice((0.1, 0.3, 1.0)), Verdict(), []
        with self.open() as db:
            self.proxy.draw = self._drawn(answers, methods, share)
            try:
                for name, operation in self.lots.sample(list(OPERATIONS.items()), 3):
                    names.append(f"{name}: {answers[0] if len(set(answers)) == 1 else 'several'}")
                    self._carry_out(db, name, operation, verdict)
            finally:
                self.proxy.draw = None
        self.look(verdict)
        self.note(f"{answers} to {share} of {methods}: {names}", names, verdict)

    def _drawn(
        self, answers: Sequence[int | str], methods: Sequence[str], share: float
    ) -> Callable[[str, str], Fault | None]:
        lots = random.Random(self.lots.random())  # noqa: S311 - of the proxy's threads

        def draw(method: str, _: str) -> Fault | None:
            if method not in methods or lots.random() >= share:
                return None
            # That an object is not there is an answer of S3's to who asks for it, and would be believed.
            fitting = [each for each in answers if not (each == 404 and method in ("GET", "HEAD"))]
            if not fitting:
                return None
            answer = lots.choice(fitting)
            return Fault(method, "", answer, body=BODIES.get(answer, BROKEN))

        return draw

    def _carry_out(self, db: RuntimeDB, name: str, operation: Operation, verdict: Verdict) -> None:
        started = time.monotonic()
        try:
            operation(self, db, verdict)
        except (RuntimeDBError, duckdb.Error) as error:
            verdict.require(f"the error of {name} is one of ours or DuckDB's in words", bool(str(error)), True)
        except Exception as error:  # noqa: BLE001 - any other is what this looks for
            verdict.require(f"the error of {name}", f"{type(error).__name__}: {error}", "one of ours")
        seconds = time.monotonic() - started
        self.longest = max(self.longest, seconds)
        verdict.require(f"{name} ended in time", seconds < IN_TIME_SECONDS or seconds, True)


Operation = Callable[[Lane, RuntimeDB, Verdict], object]


def _read(lane: Lane, db: RuntimeDB, verdict: Verdict) -> None:
    cached = [each.table_name for each in db.tables("shop") if each.version and each.table_name in SIZES]
    with db.query() as query:
        for name in cached:
            lane.judge(name, query.sql(LOOK + name).fetchall(), verdict)


def _verify(_: Lane, db: RuntimeDB, verdict: Verdict, *, deep: bool = False) -> None:
    """What can't be read may be said to be unreadable, but not to be lost."""
    for finding in db.verify(deep=deep):
        verdict.require("what verify finds", str(finding) if "is missing" in str(finding) else "", "")


def _spare(lane: Lane, db: RuntimeDB, _: Verdict) -> None:
    if any(each.name == "spare" for each in db.connections()):
        db.remove("spare")
    else:
        db.connect("spare", lane.source.url)
        db.refresh(RefreshRequest("spare", data=True))


OPERATIONS: dict[str, Operation] = {
    "refresh": lambda _lane, db, _verdict: db.refresh(RefreshRequest("shop", data=True)),
    "refresh --full": lambda _lane, db, _verdict: db.refresh(RefreshRequest("shop", data=True, full=True)),
    "refresh t0": lambda _lane, db, _verdict: db.refresh(RefreshRequest("shop", "main", "t0", data=True)),
    "query": _read,
    "sweep": lambda _lane, db, _verdict: db.sweep(),
    "verify": _verify,
    "verify --deep": lambda lane, db, verdict: _verify(lane, db, verdict, deep=True),
    "purge": lambda lane, db, _verdict: db.purge("shop", "main", lane.lots.choice(list(SIZES))),
    "connect, remove": _spare,
}


@contextmanager
def lanes(directory: Path, seed: int) -> Iterator[list[Lane]]:
    """A lane for each catalog, twice."""
    os.environ.update(ENVIRONMENT)
    s3_store.BOUNDS["read_timeout"] = 2
    with ExitStack() as stack:
        server, store = stack.enter_context(postgres()), stack.enter_context(object_store_running())
        made = []
        for number, catalog in enumerate(("sqlite", "postgresql") * 2):
            name = f"{catalog}-s3-{number}"
            proxy = stack.enter_context(faulty(store.endpoint))
            url = Bucket(store, f"store/{new_id()}").url(endpoint=proxy.endpoint)
            settings = {"home": str(directory / name), "grace_period": "0", "threads": "2", "storage_url": url}
            if catalog == "postgresql":
                settings["catalog_url"] = _database(server)
            lots = random.Random(f"{seed}-{name}")  # noqa: S311 - faults, no secrets
            made.append(Lane(name, directory / name, settings, lots, proxy=proxy))
        yield made


def _database(server: Server) -> str:
    database = f"store_{new_id()[:8]}"
    server.run(None, f"CREATE DATABASE {database}")
    return server.catalog_url(database)
