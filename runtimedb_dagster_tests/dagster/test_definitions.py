"""The definitions as Dagster loads them, and what must not take a code location down."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster_tests.support.servers import Server

ASSET = dg.AssetKey(["runtimedb", "shop"])


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def catalog_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the catalog is; None for the default."""
    if request.param == "SQLite":
        yield None
        return
    server: Server = request.getfixturevalue("postgres_server")
    database = f"definitions_{os.urandom(4).hex()}"
    server.run(None, f"CREATE DATABASE {database}")
    yield server.catalog_url(database)
    server.run(None, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
def settings(tmp_path: Path, catalog_url: str | None) -> Settings:
    """A RuntimeDB with one connection of three tables."""
    where = {"catalog_url": catalog_url} if catalog_url else {}
    settings = Settings(home=tmp_path / "home", grace_period=0, **where)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as duck:
        duck.execute(
            "CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 2 AS x; CREATE TABLE c AS SELECT 3 AS x"
        )
    with RuntimeDB(settings) as db:
        db.connect("shop", f"duckdb://{tmp_path}/shop.duckdb", options={"discovery_interval": 7})
    return settings


@pytest.fixture
def instance() -> dg.DagsterInstance:
    """An instance in memory."""
    return dg.DagsterInstance.ephemeral()


def tick(settings: Settings, instance: dg.DagsterInstance) -> str:
    """One tick of the connection's sensor; what it says."""
    sensor = build_definitions(settings).get_sensor_def("runtimedb_shop_discovery")
    result = sensor(dg.build_sensor_context(instance))
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def test_each_connection_has_an_asset_and_a_sensor_that_runs(settings: Settings) -> None:
    definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    asset = definitions.get_assets_def(ASSET)
    sensor = definitions.get_sensor_def("runtimedb_shop_discovery")
    schedule = definitions.get_schedule_def("runtimedb_deletion_sweep")
    assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
    assert sensor.minimum_interval_seconds == 7
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "* * * * *"


def test_they_merge_into_a_project_with_names_like_ours(settings: Settings) -> None:
    """Its jobs, schedules and sensors are called as what they do, too."""

    @dg.asset(key="shop")
    def shop() -> None: ...

    names = ("refresh", "connect", "purge", "remove", "audit", "verify", "deletion_sweep")
    jobs = [dg.define_asset_job(name, selection=[shop]) for name in names]
    schedules = [dg.ScheduleDefinition(name=name, job=jobs[0], cron_schedule="0 0 * * *") for name in names]
    own = dg.Definitions(assets=[shop], jobs=jobs, schedules=schedules)
    merged = dg.Definitions.merge(build_definitions(settings), own)
    dg.Definitions.validate_loadable(merged)
    keys = {key for asset in merged.assets or [] if isinstance(asset, dg.AssetsDefinition) for key in asset.keys}
    assert {dg.AssetKey("shop"), ASSET} <= keys


def test_two_of_them_merge_if_their_prefixes_differ(settings: Settings) -> None:
    other = settings.model_copy(update={"asset_prefix": "lake"})
    merged = dg.Definitions.merge(build_definitions(settings), build_definitions(other))
    dg.Definitions.validate_loadable(merged)
    named = {each.name for each in (*(merged.jobs or []), *(merged.sensors or []), *(merged.schedules or []))}
    assert {name.replace("runtimedb_", "lake_") for name in named if name.startswith("runtimedb_")} == {
        name for name in named if name.startswith("lake_")
    }
    assert all(name.startswith(("runtimedb_", "lake_")) for name in named)


@pytest.mark.parametrize(
    ("url", "says"),
    [("sqlite:///{0}/file/catalog.db", "can't be made"), ("postgresql://owner@127.0.0.1:1/x", "Connection refused")],
)
def test_an_unreachable_catalog_does_not_take_the_location_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, says: str
) -> None:
    (tmp_path / "file").touch()
    settings = Settings(home=tmp_path / "home", catalog_url=url.format(tmp_path))
    with caplog.at_level(logging.ERROR):
        definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    assert says in str((definitions.metadata or {})["runtimedb/error"])
    assert "without connections" in caplog.text


def test_the_sensor_compares_the_catalog_with_dagster(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert tick(settings, instance) == "3 tables discovered, 0 modified; 3 partitions added, none deleted"
    # What an earlier crash, or a discovery from elsewhere, may have left behind.
    instance.add_dynamic_partitions("runtimedb/shop", ["main.left_over"])
    instance.delete_dynamic_partition("runtimedb/shop", "main.b")
    assert tick(settings, instance) == "3 tables discovered, 0 modified; 1 partitions added, 1 deleted"
    assert sorted(instance.get_dynamic_partitions("runtimedb/shop")) == ["main.a", "main.b", "main.c"]


def test_a_failed_discovery_is_a_failed_tick_and_removes_nothing(
    settings: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tick(settings, instance)
    (tmp_path / "shop.duckdb").unlink()
    with pytest.raises(Exception, match=r"Connection 'shop' .* no such file"):
        tick(settings, instance)
    assert len(instance.get_dynamic_partitions("runtimedb/shop")) == 3


def test_the_sensor_of_a_removed_connection_says_so(settings: Settings, instance: dg.DagsterInstance) -> None:
    sensor = build_definitions(settings).get_sensor_def("runtimedb_shop_discovery")
    with RuntimeDB(settings) as db:
        db.remove("shop")
    result = sensor(dg.build_sensor_context(instance))
    assert isinstance(result, dg.SkipReason)
    assert "was removed; reload this code location" in str(result.skip_message)


@pytest.mark.parametrize(
    ("tags", "waits"),
    [
        ({"dagster/partition": "main.gone"}, True),
        ({"dagster/partition": "main.a"}, False),
        ({"dagster/asset_partition_range_start": "main.a", "dagster/asset_partition_range_end": "main.b"}, True),
        ({}, False),
    ],
)
def test_a_key_is_not_deleted_under_a_run(
    settings: Settings, instance: dg.DagsterInstance, tags: dict[str, str], waits: bool
) -> None:
    tick(settings, instance)
    instance.add_dynamic_partitions("runtimedb/shop", ["main.gone"])
    run = instance.create_run_for_job(
        build_definitions(settings).resolve_implicit_global_asset_job_def(),
        tags=tags,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset([ASSET]),
    )
    keys = ["main.a", "main.b", "main.c"]
    reported = sync_partitions(instance, settings, "shop", keys)
    assert (f"waits for run {run.run_id}" in reported) is waits
    assert ("main.gone" in instance.get_dynamic_partitions("runtimedb/shop")) is waits


def test_a_run_over_no_table_fails(settings: Settings, instance: dg.DagsterInstance) -> None:
    tick(settings, instance)
    # Dagster counts a range in the order in which keys were added; this one is empty.
    tags = {"dagster/asset_partition_range_start": "main.c", "dagster/asset_partition_range_end": "main.a"}
    job = build_definitions(settings).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, tags=tags, asset_selection=[ASSET], raise_on_error=False)
    assert not result.success


def test_a_table_that_left_the_catalog_fails_alone(settings: Settings, instance: dg.DagsterInstance) -> None:
    tick(settings, instance)
    instance.add_dynamic_partitions("runtimedb/shop", ["main.gone"])
    tags = {"dagster/asset_partition_range_start": "main.a", "dagster/asset_partition_range_end": "main.gone"}
    job = build_definitions(settings).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, tags=tags, asset_selection=[ASSET], raise_on_error=False)
    assert not result.success
    assert instance.get_materialized_partitions(ASSET) == {"main.a", "main.b", "main.c"}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "1 of 4 tables" in str(failure.step_failure_data.error_display_string)


def test_the_schedule_asks_for_a_run_only_when_a_file_is_due(settings: Settings) -> None:
    schedule = build_definitions(settings).get_schedule_def("runtimedb_deletion_sweep")
    assert isinstance(schedule(), dg.SkipReason)
    with RuntimeDB(settings) as db:
        db.refresh_connection("shop")
        db.purge("shop")
    assert isinstance(schedule(), dg.RunRequest)
