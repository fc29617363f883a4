"""What a connection's options make Dagster do, and what its checks and observations say."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.errors import ConfigurationError

ASSET = dg.AssetKey(["runtimedb", "shop"])


class Shop:
    """A connection of three tables, in a RuntimeDB and a Dagster instance of its own."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "shop.duckdb"
        self.settings = Settings(home=directory / "home", grace_period=0, retry_delay=0)
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.change("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT i AS x FROM range(100) t(i)")
        self.change("CREATE TABLE bad AS SELECT TIME '24:00:00' AS x")
        self.db = RuntimeDB(self.settings)
        self.db.connect("shop", f"duckdb://{self.source}")

    def change(self, statement: str) -> None:
        """Change the source."""
        with duckdb.connect(str(self.source)) as duck:
            duck.execute(statement)

    def tick(self) -> dg.SensorResult:
        """One tick of the sensor, with the cursor of the one before."""
        sensor = build_definitions(self.settings).get_sensor_def("runtimedb_shop_discovery")
        result = sensor(dg.build_sensor_context(self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def requested(self) -> list[str]:
        """The tables that a tick requests a run for."""
        requests = self.tick().run_requests or []
        return [key for request in requests for key in config_of(request)["partition_keys"]]

    def run(self, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
        """A run of the refresh job."""
        return build_definitions(self.settings).resolve_job_def("runtimedb_refresh").execute_in_process(
            instance=self.instance, run_config={"ops": {"runtimedb_refresh": {"config": config}}}, raise_on_error=False
        )  # fmt: skip

    def check(self, name: str) -> dg.AssetCheckEvaluation:
        """The last result of one of the asset's checks."""
        key = dg.AssetCheckKey(ASSET, name)
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        assert record.event is not None
        evaluation = record.event.dagster_event.event_specific_data  # type: ignore[union-attr]
        assert isinstance(evaluation, dg.AssetCheckEvaluation)
        return evaluation


def config_of(request: dg.RunRequest) -> dict[str, Any]:
    """The config of the refresh job's op in a run request."""
    config: dict[str, Any] = request.run_config["ops"]["runtimedb_refresh"]["config"]
    return config


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """As it is after `connect`."""
    return Shop(tmp_path)


def test_nothing_is_requested_unless_an_option_says_so(shop: Shop) -> None:
    assert shop.requested() == []


def test_new_tables_are_requested_once(shop: Shop) -> None:
    shop.db.configure("shop", options={"materialize_new": "true"})
    assert shop.requested() == ["main.a", "main.b", "main.bad"]
    shop.run({"connection": "shop", "data": True})
    assert shop.requested() == [], "the table that keeps failing is not asked for again"
    shop.change("CREATE TABLE c AS SELECT 1 AS x")
    result = shop.tick()
    (request,) = result.run_requests or []
    assert config_of(request) == {"connection": "shop", "data": True, "partition_keys": ["main.c"]}
    assert request.run_key is None, "a run key that came again would drop the run"


def test_modified_tables_are_requested_once_per_modification(shop: Shop) -> None:
    shop.db.configure("shop", options={"refresh_modified": "true"})
    shop.run({"connection": "shop", "data": True})
    assert shop.requested() == []
    shop.change("ALTER TABLE a ADD COLUMN y INTEGER")
    assert shop.requested() == ["main.a"]
    assert shop.requested() == []
    shop.change("ALTER TABLE a ADD COLUMN z INTEGER")
    assert shop.requested() == ["main.a"]
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.a"]})
    assert shop.requested() == []


def events_of(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> list[str]:
    """The partitions that events of a run are about."""
    return sorted(str(event.partition) for event in result.all_events if event.event_type is kind)


def test_only_what_has_to_be_read_is_announced_and_recorded(shop: Shop) -> None:
    config = {"connection": "shop", "data": True, "partition_keys": ["main.a", "main.b"]}
    first = shop.run(config)
    assert events_of(first, dg.DagsterEventType.ASSET_MATERIALIZATION) == ["main.a", "main.b"]
    second = shop.run(config)
    assert second.success
    assert events_of(second, dg.DagsterEventType.ASSET_MATERIALIZATION) == []
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    logged = {run.run_id: shop.instance.all_logs(run.run_id, of_type=planned) for run in (first, second)}
    assert [len(logs) for logs in logged.values()] == [2, 0]
    found = result_of(second)
    assert (found["tables_refreshed"], found["tables_unchanged"], found["rows_read"]) == (2, 2, 0)
    assert found["total_rows"] == 101
    shop.change("UPDATE a SET x = 7")
    third = shop.run(config)
    assert events_of(third, dg.DagsterEventType.ASSET_MATERIALIZATION) == ["main.a", "main.b"]
    assert (result_of(third)["tables_unchanged"], result_of(third)["rows_read"]) == (1, 101)
    # Asked for in full, they are read, and recorded.
    assert result_of(shop.run(config | {"full": True}))["rows_read"] == 101


def test_an_asset_s_own_run_records_every_partition_and_how_it_was_read(shop: Shop) -> None:
    keys = ["main.a", "main.b"]
    shop.instance.add_dynamic_partitions("runtimedb/shop", keys)
    for mode in ("full", "unchanged"):
        definitions = build_definitions(shop.settings)
        job = definitions.get_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=shop.instance, partition_key="main.b", asset_selection=[ASSET])
        (event,) = result.asset_materializations_for_node("runtimedb__shop")
        metadata = {name: value.value for name, value in event.metadata.items()}
        assert (metadata["mode"], metadata["rows read"]) == (mode, 100 if mode == "full" else 0)
        assert metadata["exactness"] == "exact"
        assert isinstance(event.metadata["rows read"], dg.IntMetadataValue)


def test_what_changed_is_requested_once(shop: Shop) -> None:
    shop.db.configure("shop", options={"refresh_on_change": "true"})
    assert shop.requested() == [], "nothing is cached yet"
    shop.run({"connection": "shop", "data": True})
    assert shop.requested() == []
    shop.change("UPDATE a SET x = 7")
    assert shop.requested() == ["main.a", "main.b"], "the file tells of all of it at once"
    assert shop.requested() == []
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.a", "main.b"]})
    assert shop.requested() == []
    shop.change("UPDATE a SET x = 8")
    assert shop.requested() == ["main.a", "main.b"]


def audit(shop: Shop) -> dg.ExecuteInProcessResult:
    """A run of the audit job."""
    config = {"ops": {"runtimedb_audit": {"config": {"connection": "shop"}}}}
    job = build_definitions(shop.settings).resolve_job_def("runtimedb_audit")
    return job.execute_in_process(instance=shop.instance, run_config=config, raise_on_error=False)


def test_audits_are_a_job_and_a_check(shop: Shop) -> None:
    shop.run({"connection": "shop", "data": True})
    assert audit(shop).success
    assert shop.check("audits").passed
    table = next(table for table in shop.db.tables("shop") if table.table_name == "a")
    assert table.version is not None
    shop.db.engine.catalog.publications.distrust(table, table.version, "it is something else")
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.b"]})
    assert not shop.check("audits").passed
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.a"]})
    assert shop.check("audits").passed


def result_of(run: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The result that a run of the refresh job has reported."""
    (found,) = (event for event in run.all_events if event.event_type is dg.DagsterEventType.STEP_EXPECTATION_RESULT)
    data: Any = found.event_specific_data
    value: dict[str, Any] = data.expectation_result.metadata["result"].value
    return value


@pytest.mark.parametrize("options", [{"exclude_columns": "b.x2"}, {"mask": "b.x:null"}, {"where": "b: x > 5"}])
def test_tables_that_options_modify_are_requested_once(shop: Shop, options: dict[str, str]) -> None:
    shop.change("ALTER TABLE b ADD COLUMN x2 INTEGER")
    shop.db.discover("shop")
    shop.run({"connection": "shop", "data": True})
    shop.db.configure("shop", options={"refresh_modified": "true", **options})
    assert shop.requested() == ["main.b"]
    assert shop.requested() == []
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.b"]})
    assert shop.requested() == [], "the version lacks a column of the source, as it should"


def test_a_version_that_shows_what_is_to_be_hidden_fails_its_check_until_it_is_refreshed(shop: Shop) -> None:
    shop.run({"connection": "shop", "data": True})
    assert shop.check("shown_columns").passed
    shop.tick()
    shop.db.configure("shop", options={"mask": "b.x:null"})
    events = {type(event): event for event in shop.tick().asset_events}
    check, observation = events[dg.AssetCheckEvaluation], events[dg.AssetObservation]
    assert isinstance(check, dg.AssetCheckEvaluation)
    assert (check.check_name, check.passed, check.severity) == ("shown_columns", False, dg.AssetCheckSeverity.ERROR)
    assert "shop.main.b" in str(check.metadata["tables"].value)
    assert observation.metadata["modified"].value == 1
    assert list(shop.tick().asset_events) == [], "reported once, not at every tick"
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.b"]})
    assert shop.check("shown_columns").passed


def test_a_connection_of_the_same_name_starts_anew(shop: Shop) -> None:
    shop.db.configure("shop", options={"materialize_new": "true"})
    assert shop.requested() != []
    shop.db.remove("shop")
    shop.db.connect("shop", f"duckdb://{shop.source}", options={"materialize_new": "true"})
    assert shop.requested() == ["main.a", "main.b", "main.bad"]


def test_refresh_cron_is_a_schedule_of_one_run_for_all_cached_tables(shop: Shop) -> None:
    shop.db.configure("shop", options={"refresh_cron": "0 * * * *"})
    schedule = build_definitions(shop.settings).get_schedule_def("runtimedb_shop_refresh")
    assert schedule.cron_schedule == "0 * * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    evaluated = schedule.evaluate_tick(dg.build_schedule_context(shop.instance))
    (request,) = evaluated.run_requests or []
    assert config_of(request) == {"connection": "shop", "data": True, "include_uncached": False}
    assert request.run_key is None


def test_a_cron_line_that_means_nothing_does_not_take_the_location_down(shop: Shop) -> None:
    shop.db.configure("shop", options={"refresh_cron": "99 99 * * *"})
    definitions = build_definitions(shop.settings)
    dg.Definitions.validate_loadable(definitions)
    assert "runtimedb_shop_refresh" not in {schedule.name for schedule in definitions.schedules or []}


def test_owners_are_shown_on_the_asset(shop: Shop) -> None:
    shop.db.configure("shop", options={"owners": "team:data, ann@example.org"})
    asset = build_definitions(shop.settings).get_assets_def(ASSET)
    assert list(asset.specs_by_key[ASSET].owners) == ["team:data", "ann@example.org"]
    with pytest.raises(ConfigurationError, match="option owners is wrong"):
        shop.db.configure("shop", options={"owners": "somebody"})


def test_an_option_is_changed_and_taken_back(shop: Shop) -> None:
    shop.db.configure("shop", options={"discovery_interval": 60, "max_age": 3600})
    changed = shop.db.configure("shop", unset=["max_age"])
    assert changed.connection.given == {"discovery_interval": "60"}
    asset = build_definitions(shop.settings).get_assets_def(ASSET)
    assert asset.specs_by_key[ASSET].freshness_policy is None


def test_max_age_is_a_freshness_policy_and_lists_the_stale_tables(shop: Shop) -> None:
    shop.db.configure("shop", options={"max_age": "3600"})
    asset = build_definitions(shop.settings).get_assets_def(ASSET)
    assert asset.specs_by_key[ASSET].freshness_policy is not None
    shop.run({"connection": "shop", "data": True})
    assert shop.check("max_age").passed
    shop.tick()
    with sqlite3.connect(shop.settings.home / "catalog.db") as catalog:
        catalog.execute("UPDATE tables SET checked_at = checked_at - 7200 * 1000000")
    (event,) = shop.tick().asset_events
    assert isinstance(event, dg.AssetCheckEvaluation)
    assert not event.passed
    assert "shop.main.a" in str(event.metadata["tables"].value)
    assert list(shop.tick().asset_events) == [], "reported once, not at every tick"


def test_a_discovery_that_finds_a_difference_is_an_observation(shop: Shop) -> None:
    (first,) = shop.tick().asset_events
    assert isinstance(first, dg.AssetObservation), "a source that was never seen looks broken in the UI"
    shop.change("CREATE TABLE c AS SELECT 1 AS x; DROP TABLE a")
    (event,) = shop.tick().asset_events
    assert isinstance(event, dg.AssetObservation)
    assert event.asset_key == dg.AssetKey(["runtimedb", "_source", "shop"])
    assert {name: value.value for name, value in event.metadata.items()} == {
        "tables": 3, "added": 1, "removed": 1, "modified": 0,
    }  # fmt: skip
    assert list(shop.tick().asset_events) == []


def test_a_collapsed_table_is_reported_and_still_published(shop: Shop) -> None:
    assert not shop.run({"connection": "shop", "data": True}).success, "one of its tables is bad"
    assert shop.check("row_counts").passed
    shop.change("DELETE FROM b WHERE x > 2")
    assert shop.run({"connection": "shop", "data": True, "partition_keys": ["main.b"]}).success
    collapsed = shop.check("row_counts")
    assert not collapsed.passed
    assert collapsed.severity == dg.AssetCheckSeverity.WARN
    assert collapsed.description == "shop.main.b: 3 rows after 100"
    shop.db.configure("shop", options={"min_row_ratio": "0.01"})
    shop.run({"connection": "shop", "data": True, "partition_keys": ["main.a"]})
    assert shop.check("row_counts").passed


def test_a_scattered_request_is_one_run_in_which_each_table_is_planned_and_recorded(shop: Shop) -> None:
    result = shop.run({"connection": "shop", "data": True, "partition_keys": ["main.bad", "main.b"]})
    assert not result.success
    logs = [entry.dagster_event for entry in shop.instance.all_logs(result.run_id) if entry.dagster_event]
    planned = {event.partition for event in logs if event.event_type_value == "ASSET_MATERIALIZATION_PLANNED"}
    assert planned == {"main.b", "main.bad"}
    assert shop.instance.get_materialized_partitions(ASSET) == {"main.b"}
    asset = build_definitions(shop.settings).get_assets_def(ASSET)
    assert asset.partitions_def is not None
    status = get_and_update_asset_status_cache_value(
        shop.instance, ASSET, asset.partitions_def, dynamic_partitions_loader=shop.instance
    )
    assert status is not None
    assert set(status.deserialize_failed_partition_subsets(asset.partitions_def).get_partition_keys()) == {"main.bad"}


def test_the_assets_own_run_evaluates_the_checks_before_it_fails(shop: Shop) -> None:
    shop.tick()
    tags = {"dagster/asset_partition_range_start": "main.a", "dagster/asset_partition_range_end": "main.bad"}
    job = build_definitions(shop.settings).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=shop.instance, tags=tags, asset_selection=[ASSET], raise_on_error=False)
    assert not result.success
    assert shop.check("versions_readable").passed
    assert shop.check("deletions").passed


def test_the_nightly_check_finds_what_verify_finds(shop: Shop) -> None:
    shop.db.refresh(RefreshRequest("shop", "main", "a", data=True))
    definitions = build_definitions(shop.settings)
    job = definitions.resolve_job_def("runtimedb_verify")
    assert job.execute_in_process(instance=shop.instance).get_asset_check_evaluations()[0].passed
    orphan = shop.settings.home / "storage" / "orphan.parquet"
    orphan.touch()
    (evaluation,) = job.execute_in_process(instance=shop.instance).get_asset_check_evaluations()
    assert not evaluation.passed
    assert "I2 orphan.parquet" in str(evaluation.metadata["what"].value)


def test_a_locked_source_is_tried_again_a_wrong_request_is_not(shop: Shop) -> None:
    with duckdb.connect(str(shop.source)):
        locked = shop.run({"connection": "shop", "data": True})
    events = [event.event_type_value for event in locked.all_events]
    assert "STEP_UP_FOR_RETRY" in events or any("RetryRequested" in str(e) for e in locked.all_events)
    wrong = shop.run({"schema_name": "main"})
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in wrong.all_events]
