"""A crowd: many processes refresh the same tables, query them and sweep, over one catalog in PostgreSQL.

At the end nothing may be lost, torn or left over, and nobody may have met an error but that of being overtaken:
`make crowd SECONDS=60`.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic
from typing import Any

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.domain.errors import QueryError, StorageError, SupersededError
from runtimedb_dagster_tests.support.parts import Inside, SourceFile, long_after
from runtimedb_dagster_tests.support.places import TEMPLATE, a_database, make_template
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, object_store_running
from runtimedb_dagster_tests.support.servers import postgres

__all__ = ["Done", "crowd"]

TABLES, ROWS = 8, 1000
# A content of its own at each reading, and one mark in all its rows: a version that is torn, or mixed of two, shows.
VIEW = f"CREATE VIEW t{{}} AS SELECT range AS id, mark FROM range({ROWS}), (SELECT uuid()::VARCHAR AS mark)"
LOOK = "SELECT count(*), count(DISTINCT id), count(DISTINCT mark), min(mark) FROM crowd.main."
START_SECONDS = 60


@dataclass
class Done:
    """What the crowd did.

    Attributes:
        counts: how often what was done.
        wrong: errors other than that of being overtaken, and what was wrong at the end.
    """

    counts: Counter[str]
    wrong: list[str]


def crowd(settings: Mapping[str, Any], directory: Path, seconds: float, processes: int) -> Done:
    """Let a crowd loose on the place that `settings` name, and judge what it leaves."""
    source = SourceFile(directory / "crowd.duckdb")
    source.run(*(VIEW.format(number) for number in range(TABLES)))
    with RuntimeDB(Settings(**settings)) as db:
        db.connect("crowd", source.url, options={"parallel_refresh": min(processes, 64)})
        done = _all_of_them(settings, seconds, processes)
        done.wrong += _left_over(db)
        return done


def _all_of_them(settings: Mapping[str, Any], seconds: float, processes: int) -> Done:
    # Not a fork of this process, whose threads and connections it would take along.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, initializer=_await_all, initargs=(together,)) as pool:
        working = [pool.submit(_work, settings, number, seconds) for number in range(processes)]
        each = [future.result() for future in working]
    return Done(sum((counts for counts, _ in each), Counter()), [error for _, wrong in each for error in wrong])


def _await_all(together: Barrier) -> None:
    together.wait(START_SECONDS)


def _work(settings: Mapping[str, Any], number: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """One process of the crowd, until the time is over and it has done everything once."""
    chance, counts, wrong = random.Random(number), Counter[str](), list[str]()  # noqa: S311 - no secret
    with RuntimeDB(Settings(**settings)) as db:
        until = monotonic() + seconds
        while monotonic() < until or not ACTIONS.keys() <= counts.keys():
            (action,) = chance.choices(list(ACTIONS), [3, 2, 1])
            counts[action] += 1
            try:
                ACTIONS[action](db, f"t{chance.randrange(TABLES)}")
            except SupersededError:
                counts["superseded"] += 1
            except Exception as error:  # noqa: BLE001 - any other is what this looks for
                wrong.append(f"process {number}: {type(error).__name__}: {error}")
    return counts, wrong


def _refresh(db: RuntimeDB, table: str) -> None:
    db.refresh(RefreshRequest("crowd", "main", table, data=True))


def _look(db: RuntimeDB, table: str) -> None:
    """Read a table's version twice; it must be whole, and the same, whatever others do."""
    with db.query(fetch_missing=True) as query:
        seen = [query.sql(LOOK + table).fetchall() for _ in range(2)]
    if seen[0] != seen[1] or seen[0][0][:3] != (ROWS, ROWS, 1):
        raise QueryError(f"{table} was seen torn: {seen}")


def _sweep(db: RuntimeDB, _: str) -> None:
    if errors := db.sweep().errors:
        raise StorageError(f"the sweep failed: {errors}")


ACTIONS: dict[str, Callable[[RuntimeDB, str], None]] = {"refreshes": _refresh, "queries": _look, "sweeps": _sweep}


def _left_over(db: RuntimeDB) -> list[str]:
    """What is wrong with the state that was left, before and after a sweep past every lease."""
    inside = Inside.of(db)
    wrong = [f"left: {finding}" for finding in db.verify()]
    if inside.files() != (before := inside.live() | inside.pending()):
        wrong.append(f"files that are neither current nor pending, or the other way: {inside.files() ^ before}")
    wrong += [f"sweep: {error}" for error in db.sweep(long_after(db.settings)).errors]
    if (inside.files(), inside.pending()) != (inside.live(), set()) or len(inside.live()) != TABLES:
        wrong.append(f"after the sweep: {inside.files() ^ inside.live()}, pending {inside.pending()}")
    return wrong + [f"after the sweep: {finding}" for finding in db.verify()]


def main() -> int:
    """The command; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--storage", choices=["files", "s3"], default="files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        server = stack.enter_context(postgres())
        make_template(server)
        settings = {"home": Path(name) / "home", "threads": 1, "grace_period": 0}
        settings["catalog_url"] = server.catalog_url(stack.enter_context(a_database(server, TEMPLATE)))
        if given.storage == "s3":
            os.environ.update(ENVIRONMENT)
            settings["storage_url"] = Bucket(stack.enter_context(object_store_running()), "crowd").url()
        done = crowd(settings, Path(name), given.seconds, given.processes)
    print(f"{given.processes} processes, {given.seconds:g} s, {given.storage}: {dict(done.counts)}")
    print(*done.wrong[:20], f"{len(done.wrong)} things went wrong", sep="\n")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    # As a module of its name, in which the crowd's processes find what they are to do.
    sys.exit(importlib.import_module("runtimedb_dagster_tests.stress.torture.crowd").main())
