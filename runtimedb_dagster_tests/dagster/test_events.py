"""What Dagster gets to know of tables: in batches, but soon, and whatever happens after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.errors import RefreshError
from runtimedb_dagster.domain.outcomes import Event, Outcome, Progress
from runtimedb_dagster.engine.engine import Engine

TABLES = 7
Execute = Callable[[Settings, dg.DagsterInstance], object]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a connection `shop` of seven tables."""
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as duck:
        for number in range(TABLES):
            duck.execute(f"CREATE TABLE t{number} AS SELECT {number} AS x")
    settings = Settings(home=tmp_path / "home", retry_delay=0)
    RuntimeDB(settings).connect("shop", f"duckdb://{path}")
    return settings


@pytest.fixture
def instance(tmp_path: Path, settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as made:
        keys = [table.ref.partition_key for table in RuntimeDB(settings).tables("shop")]
        sync_partitions(made, settings, "shop", keys)
        yield made


def by_the_job(settings: Settings, instance: dg.DagsterInstance) -> object:
    job = build_definitions(settings).resolve_job_def("runtimedb_refresh")
    config = {"ops": {"runtimedb_refresh": {"config": {"connection": "shop", "data": True}}}}
    return job.execute_in_process(config, instance=instance, raise_on_error=False)


def by_the_asset(settings: Settings, instance: dg.DagsterInstance) -> object:
    """All partitions in one run, as the UI and a backfill have it."""
    keys = sorted(table.ref.partition_key for table in RuntimeDB(settings).tables("shop"))
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    job = build_definitions(settings).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance, tags=tags, asset_selection=[asset_key(settings, "shop")], raise_on_error=False
    )


both = pytest.mark.parametrize("execute", [by_the_job, by_the_asset])


def reported(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """The tables whose materialization is in Dagster's storage."""
    records = instance.fetch_materializations(asset_key(settings, "shop"), limit=100).records
    return sorted(str(record.partition_key) for record in records)


@both
def test_materializations_are_stored_in_batches(
    settings: Settings, instance: dg.DagsterInstance, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time they take Dagster longer than the refresh of a small table takes, from PostgreSQL thrice."""
    stored: list[int] = []
    store = type(instance.event_log_storage).store_event_batch

    def count(storage: Any, events: Sequence[dg.EventLogEntry]) -> None:
        stored.extend(bool(event.dagster_event and event.dagster_event.is_step_materialization) for event in events)
        store(storage, events)

    monkeypatch.setattr(type(instance.event_log_storage), "store_event_batch", count)
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    execute(settings, instance)
    # A first one may have been reported alone.
    assert sum(stored) >= TABLES - 1
    assert len(reported(instance, settings)) == TABLES


@both
def test_a_table_is_told_while_the_next_is_still_being_read(
    settings: Settings, instance: dg.DagsterInstance, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = Engine.refresh
    seen: list[list[str]] = []

    def slow(engine: Engine, *args: Any, **options: Any) -> Iterator[Event]:
        for event in refresh(engine, *args, **options):
            yield event
            if isinstance(event, Outcome) and not seen:
                # As while the next table takes an hour.
                while not reported(instance, settings):
                    yield Progress(1, TABLES, 0)
                seen.append(reported(instance, settings))

    monkeypatch.setattr(Engine, "refresh", slow)
    execute(settings, instance)
    assert len(seen[0]) == 1
    assert len(reported(instance, settings)) == TABLES


@both
def test_what_was_refreshed_is_told_although_the_run_stops(
    settings: Settings, instance: dg.DagsterInstance, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = Engine.refresh
    done: list[str] = []

    def stopped(engine: Engine, *args: Any, **options: Any) -> Iterator[Event]:
        for event in refresh(engine, *args, **options):
            yield event
            if isinstance(event, Outcome):
                done.append(event.ref.partition_key)
            if len(done) == 3:
                raise RefreshError("no more")

    monkeypatch.setattr(Engine, "refresh", stopped)
    execute(settings, instance)
    assert reported(instance, settings) == sorted(done)
    assert len(done) == 3


def test_a_batch_size_that_was_set_is_kept(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero is how Dagster says that events are stored one at a time."""

    def refuse(_storage: Any, _events: Sequence[dg.EventLogEntry]) -> None:
        raise AssertionError("no batch was asked for")

    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    monkeypatch.setattr(type(instance.event_log_storage), "store_event_batch", refuse)
    by_the_job(settings, instance)
    assert len(reported(instance, settings)) == TABLES
