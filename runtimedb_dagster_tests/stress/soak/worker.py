"""A process of a soak: a thread for each of its roles, until its standard input ends; then it tells what came of it."""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster_tests.stress.soak.role import Role, Setting
from runtimedb_dagster_tests.stress.soak.roles import ROLES
from runtimedb_dagster_tests.support.servers import Server

logger = logging.getLogger(__name__)

STOP_SECONDS = 120


@dataclass
class Tally:
    """What the roles did, and the errors that they met, each with its moment."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[tuple[float, str, str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, role: str, what: str | Exception) -> None:
        with self.lock:
            if isinstance(what, str):
                self.counts[role, what] += 1
                return
            self.errors.append((time.time(), role, type(what).__name__, str(what)))
        logger.error("%s: %s", role, what, exc_info=what)


def work(name: str, role: Role, stop: threading.Event, tally: Tally) -> None:
    """Do a role's steps."""
    while not stop.is_set():
        try:
            for what in role.step():
                tally.add(name, what)
        except Exception as error:  # noqa: BLE001 - it is told
            tally.add(name, error)
        stop.wait(role.pause)


def main() -> None:
    """Work until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(levelname)s %(message)s")
    order = json.loads(sys.stdin.readline())
    stop, tally = threading.Event(), Tally()
    source = Server("postgresql", "owner", order["source_port"], Path(), Path(), (), None)
    with RuntimeDB() as db:
        threads = []
        for number, name in enumerate(order["roles"]):
            setting = Setting(db, source, random.Random(order["seed"] + number), stop)  # noqa: S311
            threads.append(threading.Thread(target=work, args=(name, ROLES[name](setting), stop, tally), daemon=True))
        print("open", flush=True)  # noqa: T201
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for name, thread in zip(order["roles"], threads, strict=True):
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                tally.add(name, TimeoutError(f"it did not stop in {STOP_SECONDS} s"))
    counts = [(role, what, count) for (role, what), count in tally.counts.items()]
    print(json.dumps({"counts": counts, "errors": tally.errors}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
