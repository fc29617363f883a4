"""As ours.py, for what needs Dagster."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter

import dagster as dg

from benchmarks.changing import change
from benchmarks.ours import opened, print_seconds
from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.dagster.events import Record, announce
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.outcomes import Progress
from runtimedb_dagster_tests.support.parts import refreshed


def run(url: str) -> float:
    """A run of the job refresh over all tables, in process, on an instance of its own."""
    with opened() as db, _instance() as instance:
        _connect(db, url, instance)
        return _run(db, instance)


def again(url: str, changed: str) -> float:
    """Another such run, over tables of which so many have changed, less what a run of nothing takes."""
    with opened() as db, _instance() as instance:
        _connect(db, url, instance)
        if any(table.version is None for table in db.tables()):
            db.refresh_connection("source")
        change(url, int(changed))
        return _run(db, instance) - _run_of_nothing(instance)


def _run(db: RuntimeDB, instance: dg.DagsterInstance) -> float:
    job = build_definitions(db.settings).resolve_job_def("runtimedb_refresh")
    config = {"ops": {"runtimedb_refresh": {"config": {"connection": "source", "data": True}}}}
    started = perf_counter()
    result = job.execute_in_process(config, instance=instance)
    seconds = perf_counter() - started
    assert result.success, "it raises otherwise"  # noqa: S101
    return seconds


def _run_of_nothing(instance: dg.DagsterInstance) -> float:
    @dg.op
    def nothing() -> None: ...

    @dg.job(executor_def=dg.in_process_executor)
    def of_nothing() -> None:
        nothing()

    started = perf_counter()
    of_nothing.execute_in_process(instance=instance)
    return perf_counter() - started


def events(url: str) -> float:
    """A run that only logs what such a run logs: a planned event and a materialization per table, a line per batch."""
    with opened() as db, _instance() as instance:
        _connect(db, url, instance)
        tables, key = db.tables(), asset_key(db.settings, "source")
        outcomes = refreshed(db, tables, "source")

        @dg.op
        def log(context: dg.OpExecutionContext) -> None:
            announce(context, key, tables)
            events = (event for number, each in enumerate(outcomes, 1) for event in (each, Progress(number, None, 0)))
            for _ in Record(context, key, len(tables)).follow(events):
                pass

        @dg.job(executor_def=dg.in_process_executor)
        def logging() -> None:
            log()

        started = perf_counter()
        logging.execute_in_process(instance=instance)
        return perf_counter() - started


def tick(url: str) -> float:
    """The second tick of the sensor; the first adds the partitions."""
    with opened() as db, _instance() as instance:
        _connect(db, url, instance)
        sensor = build_definitions(db.settings).get_sensor_def("runtimedb_source_discovery")
        started = perf_counter()
        sensor(dg.build_sensor_context(instance))
        return perf_counter() - started


def _instance() -> AbstractContextManager[dg.DagsterInstance]:
    """One of its own; its storage is in SQLite, as by default, or in the database of BENCH_DAGSTER."""
    home = Path(tempfile.mkdtemp(prefix="dagster-"))
    overrides: dict[str, object] = {"telemetry": {"enabled": False}}
    if url := os.environ.get("BENCH_DAGSTER"):
        overrides["storage"] = {"postgres": {"postgres_url": url}}
    return dg.DagsterInstance.local_temp(str(home), overrides=overrides)


def _connect(db: RuntimeDB, url: str, instance: dg.DagsterInstance) -> None:
    """With its partitions, as its sensor's first tick leaves them."""
    url = url.replace(f":{os.environ['BENCH_PASSWORD']}@", "@")
    if not db.connections():
        db.connect("source", url, password_env="BENCH_PASSWORD")
    keys = [table.ref.partition_key for table in db.tables()]
    sync_partitions(instance, db.settings, "source", keys)


COMMANDS: dict[str, Callable[..., float]] = {"run": run, "again": again, "events": events, "tick": tick}

if __name__ == "__main__":
    tempfile.tempdir = os.environ["BENCH_DIRECTORY"]
    print_seconds(COMMANDS[sys.argv[1]](*sys.argv[2:]))
