"""Signals at random instants over every operation, on every catalog and storage: `make campaign OF=signals MINUTES=15`.

In each wave the source changes, and a few command lines work at once on the same tables; most of them are killed,
interrupted, terminated or stopped (and go on later, or are killed then) at an instant drawn by lot. Whoever was left
alone must succeed or be refused with words, in time; after the wave I1 to I4 must hold, and now and then I5.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runtimedb_dagster.catalog import new_id
from runtimedb_dagster_tests.stress.torture.commands import READ_TWICE, Command, preload, start
from runtimedb_dagster_tests.stress.torture.shop import LOOK, SIZES, Shop
from runtimedb_dagster_tests.stress.torture.system import COMBINATIONS, Verdict
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, object_store_running
from runtimedb_dagster_tests.support.servers import Server, postgres

__all__ = ["lanes"]

AT_ONCE = 3
# A stop that outlasts the server's patience with a transaction, and one that does not.
LONG_STOP_SECONDS, STOP_SECONDS = 20.0, 1.0
# SQLite's writers wait for 30 s for one that is stopped, PostgreSQL's for 15 s, and a slot's holder for 60 s.
IN_TIME_SECONDS = 120
# What who was left alone may be told, for others are at work beside it.
EXPECTED = re.compile(
    r"later refresh|There is no connection|already|has no version|There is no table|not found|no longer|"
    r"was removed|is being removed|does not exist|exists\. Choose another name|was dropped while it was refreshed"
)
LOCKED = re.compile(r"database is locked")
# Each may also have ended before its signal came.
STATUSES = {
    "none": (0, 1),
    "kill": (0, 1, -signal.SIGKILL),
    "interrupt": (0, 1, 130),
    "terminate": (0, 1, -signal.SIGTERM),
    "stop": (0, 1),
    "stop and kill": (0, 1, -signal.SIGKILL),
}
WAYS = ("none", "none", "kill", "kill", "interrupt", "terminate", "stop", "stop and kill")


@dataclass
class Lane(Shop):
    """One catalog and storage, and the processes that work on them."""

    server: Server = field(kw_only=True)
    durations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def repetition(self) -> None:
        """A few waves, and a look at what is left."""
        for _ in range(6):
            self._wave(self.lots.sample(self._operations(), AT_ONCE), self.lots.choices(WAYS, k=AT_ONCE))
        self._move()
        self.rest()

    # What is done

    def _operations(self) -> list[Sequence[str]]:
        table = self.lots.choice(list(SIZES))
        looks = [LOOK + each for each in SIZES]
        return [
            ("refresh", "shop", "--data"),
            ("refresh", "shop", "--data", "--full"),
            ("refresh", "shop", "main", "t0", "--data"),
            ("refresh", "shop", "main", table, "--data"),
            ("refresh", "shop", "--data", "--only-cached"),
            ("refresh", "shop"),
            ("refresh",),
            ("refresh", "spare", "--data"),
            ("query", LOOK + table, "--json"),
            ("query", LOOK + table, "--fetch-missing"),
            (READ_TWICE, *looks),
            (READ_TWICE, *looks),
            ("sweep",),
            ("sweep",),
            ("verify",),
            ("verify", "--deep"),
            ("purge", "shop", "main", table, "--yes"),
            ("purge", "shop", "--yes"),
            ("connect", "spare", self.source.url),
            ("remove", "spare", "--yes"),
            ("configure", "shop", "--option", f"parallel_refresh={self.lots.choice((32, 64))}"),
            ("tables",),
            ("connections",),
            ("check", "shop"),
            ("migrate",),
            ("adopt", "--yes"),
        ]

    def _wave(self, operations: Sequence[Sequence[str]], ways: Sequence[str]) -> None:
        self.change()
        commands = [start(each, self._environment(), self.directory / new_id()) for each in operations]
        sending = [
            threading.Thread(target=self._send, args=(command, way, self._instant(command)))
            for command, way in zip(commands, ways, strict=True)
        ]
        for each in sending:
            each.start()
        for each in sending:
            each.join()
        verdict, sent = Verdict(), list(zip(commands, ways, strict=True))
        for command, way in sent:
            self._judge(command, way, any(each.startswith("stop") for each in ways), verdict)
        self.look(verdict)
        what = ", ".join(f"{' '.join(command.arguments[:2])}: {way}" for command, way in sent)
        self.note(what, [f"{command.arguments[0]}: {way}" for command, way in sent], verdict)
        for command in commands:
            command.close()

    def _instant(self, command: Command) -> float:
        known = self.durations[command.arguments[0]]
        return self.lots.uniform(0, 1.2 * (statistics.median(known) if known else 0.3))

    def _send(self, command: Command, way: str, instant: float) -> None:
        """Send a process its signals, and wait until it has ended."""
        command.await_beginning()
        first = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
        if way != "none" and not command.wait(instant):
            if way in first:
                command.signal(first[way])
            else:
                command.signal(signal.SIGSTOP)
                time.sleep(LONG_STOP_SECONDS if self.lots.random() < 0.02 else self.lots.uniform(0, STOP_SECONDS))
                command.signal(signal.SIGKILL if way == "stop and kill" else signal.SIGCONT)
        command.wait(IN_TIME_SECONDS)

    # What must hold

    def _judge(self, command: Command, way: str, stopped: bool, verdict: Verdict) -> None:
        name = " ".join(command.arguments[:4])
        verdict.require(f"{name} ({way}) ended", command.wait(0), True)
        if not command.wait(0):
            return
        err = command.err
        verdict.require(f"{name} ({way}) has no traceback", "Traceback" in err and err, False)
        verdict.require(f"{name} ({way}) read nothing torn", "Torn" in err and err, False)
        if way == "none":
            self.durations[command.arguments[0]] = [*self.durations[command.arguments[0]][-20:], command.seconds]
            self.longest = max(self.longest, command.seconds)
            told = EXPECTED.search(err + command.out) or (stopped and LOCKED.search(err + command.out))
            failed = f"status {command.status}: {(command.out + err)[-600:]}" if command.status and not told else ""
            verdict.require(f"{name} succeeds", failed, "")
        statuses = STATUSES[way]
        verdict.require(
            f"{name} ({way}) ends with one of {statuses}", command.status in statuses or command.status, True
        )

    def _move(self) -> None:
        """Move the catalog into another database; whatever happens meanwhile, one of the two is in charge."""
        old, self.settings["catalog_url"] = self.settings["catalog_url"], self._new_catalog()
        before, verdict = self._environment(), Verdict()
        way = self.lots.choice(("kill", "interrupt", "terminate", "stop and kill", "stop"))
        command = ("migrate", "--from", old, "--json")
        moving = start(command, before, self.directory / new_id())
        self._send(moving, way, self._instant(moving))
        again = start(command, before, self.directory / new_id())
        self._send(again, "none", 0)
        verdict.require("the second attempt ended", again.wait(0), True)
        # Where the first had done all that there is to do, the second is told so.
        done = again.status == 0 or "This catalog was moved to" in again.err
        verdict.require("the move can be called again", done or f"status {again.status}: {again.err}", True)
        if again.status == 0:
            self.durations["migrate"] = [*self.durations["migrate"][-20:], again.seconds]
        late = start(("sweep",), {**before, "RUNTIMEDB_CATALOG_URL": old}, self.directory / new_id())
        self._send(late, "none", 0)
        verdict.require("the old one is told", "This catalog was moved to" in late.err or late.err, True)
        self.look(verdict)
        self.note(f"migrate --from: {way}", [f"migrate --from: {way}"], verdict)
        for each in (moving, again, late):
            each.close()

    # Where

    def _environment(self) -> dict[str, str]:
        return {f"RUNTIMEDB_{name.upper()}": value for name, value in self.settings.items()} | ENVIRONMENT

    def _new_catalog(self) -> str:
        return a_catalog(self.lots.choice(("sqlite", "postgresql")), self.directory, self.server)


def a_catalog(kind: str, directory: Path, server: Server) -> str:
    """The URL of a catalog that is not there yet."""
    if kind == "sqlite":
        return f"sqlite:///{directory}/{new_id()}.db"
    database = f"signals_{new_id()[:8]}"
    server.run(None, f"CREATE DATABASE {database}")
    return server.catalog_url(database)


@contextmanager
def lanes(directory: Path, seed: int) -> Iterator[list[Lane]]:
    """A lane for each combination of catalog and storage."""
    os.environ.update(ENVIRONMENT)
    preload()
    with ExitStack() as stack:
        server, store = stack.enter_context(postgres()), stack.enter_context(object_store_running())
        made = []
        for catalog, storage in COMBINATIONS:
            name = f"{catalog}-{storage}"
            home = directory / name
            settings = {"home": str(home / "home"), "grace_period": "0", "threads": "2"}
            settings["catalog_url"] = a_catalog(catalog, home, server)
            if storage == "s3":
                settings["storage_url"] = Bucket(store, f"signals/{new_id()}").url()
            lots = random.Random(f"{seed}-{name}")  # noqa: S311 - instants, no secrets
            made.append(Lane(name, home, settings, lots, server=server))
        yield made
