"""A refresh in chunks: what is dealt out, handed over, reported once, and done again after a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.dagster.jobs.chunks import divide
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.errors import ConfigurationError, StorageUnavailableError
from runtimedb_dagster.domain.outcomes import Published, Unchanged
from runtimedb_dagster.storage.filesystem import FileStorage
from runtimedb_dagster_tests.support.parts import refreshed

SPREAD = "dagster:in_process_executor"  # chunks one after the other, but chunks


def job(_config: str) -> dg.JobDefinition:
    """The job of the environment's settings, by a name that it can be built anew by; Dagster caches it by `_config`."""
    return build_definitions(Settings()).resolve_job_def("runtimedb_refresh")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven tables, of which `bad` can't be read and `large` is; a connection `shop` to them in the environment."""
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as duck:
        for number in range(5):
            duck.execute(f"CREATE TABLE t{number} AS SELECT {number} AS x")
        duck.execute("CREATE TABLE bad AS SELECT TIME '24:00:00' AS x; CREATE TABLE large AS FROM range(5000)")
    for name, value in {"HOME": tmp_path / "home", "EXECUTOR": SPREAD, "CHUNK_TABLES": 2, "RETRY_DELAY": 0}.items():
        monkeypatch.setenv(f"RUNTIMEDB_{name}", str(value))
    RuntimeDB().connect("shop", f"duckdb://{path}")
    return path


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that other processes could open, which executing again asks for."""
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as made:
        yield made


def mend(source: Path) -> None:
    with duckdb.connect(str(source)) as duck:
        duck.execute("CREATE OR REPLACE TABLE bad AS SELECT 1 AS x")


def run(instance: dg.DagsterInstance, parent: str | None = None, **config: Any) -> dg.JobExecutionResult:
    options = dg.ReexecutionOptions.from_failure(parent, instance) if parent else None
    run_config = {"ops": {"runtimedb_refresh": {"config": {"connection": "shop", "data": True, **config}}}}
    known_by = os.environ["RUNTIMEDB_HOME"] + os.environ.get("RUNTIMEDB_EXECUTOR_CONFIG", "")
    with dg.execute_job(
        dg.build_reconstructable_job(__name__, "job", (known_by,)),
        instance=instance,
        run_config=run_config,
        reexecution_options=options,
    ) as result:
        return result


def results_of(instance: dg.DagsterInstance, result: dg.JobExecutionResult) -> list[dict[str, Any]]:
    """What the run was told as its result, each time that it was."""
    logged = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_EXPECTATION_RESULT)
    events: list[Any] = [entry.get_dagster_event().event_specific_data for entry in logged]
    return [event.expectation_result.metadata["result"].value for event in events]


def steps_of(result: dg.JobExecutionResult) -> list[str]:
    return [event.step_key for event in result.all_events if event.is_step_start and event.step_key]


def materialized(result: dg.JobExecutionResult) -> list[str]:
    return sorted(str(event.partition) for event in result.all_events if event.is_step_materialization)


def test_large_tables_come_first_and_are_dealt_out(source: Path) -> None:
    tables = RuntimeDB().tables("shop")
    dealt = divide(Settings(), tables)
    assert dealt[0][0] == "main.large"
    assert sorted(map(len, dealt)) == [1, 2, 2, 2]
    assert sorted(key for keys in dealt for key in keys) == sorted(table.ref.partition_key for table in tables)


def test_in_process_all_tables_are_one_chunk(source: Path) -> None:
    assert [len(keys) for keys in divide(Settings(executor="in_process"), RuntimeDB().tables("shop"))] == [7]
    assert divide(Settings(), []) == []


def test_there_are_at_most_a_hundred_chunks(source: Path) -> None:
    assert len(divide(Settings(chunk_tables=1), RuntimeDB().tables("shop") * 30)) == 100


def test_chunks_are_reported_once_with_what_failed_in_them(source: Path, instance: dg.DagsterInstance) -> None:
    result = run(instance)
    assert not result.success
    assert steps_of(result) == [
        "runtimedb_refresh",
        *(f"runtimedb_refresh_chunk[{number}]" for number in range(1, 5)),
        "runtimedb_refresh_report",
    ]
    (told,) = results_of(instance, result)
    assert (told["tables_refreshed"], told["tables_failed"], told["total_rows"]) == (6, 1, 5005)
    (error,) = told["errors"]
    assert (error["schema_name"], error["table_name"]) == ("main", "bad")
    assert "24:00:00" in error["error"]
    assert "bad" not in str(materialized(result))
    assert len(materialized(result)) == 6


def test_a_single_table_and_a_request_for_no_table(source: Path, instance: dg.DagsterInstance) -> None:
    (none,) = results_of(instance, run(instance, include_uncached=False))
    assert (none["tables_refreshed"], none["tables_failed"]) == (0, 0)
    (one,) = results_of(instance, run(instance, schema_name="main", table_name="t3"))
    assert (one["schema_name"], one["table_name"], one["rows_synced"]) == ("main", "t3", 1)


def test_executing_again_from_failure_refreshes_what_failed_and_nothing_else(
    source: Path, instance: dg.DagsterInstance
) -> None:
    first = run(instance)
    assert not first.success
    again = run(instance, parent=first.run_id)
    assert not again.success, "it fails for the same reason, not by pretending"
    mend(source)
    third = run(instance, parent=again.run_id)
    assert third.success
    assert materialized(third) == ["main.bad"]
    (told,) = results_of(instance, third)
    assert (told["tables_refreshed"], told["tables_failed"], told["total_rows"]) == (7, 0, 5006)


def test_a_failed_table_that_is_gone_when_it_is_executed_again_is_told(
    source: Path, instance: dg.DagsterInstance
) -> None:
    first = run(instance)
    with duckdb.connect(str(source)) as duck:
        duck.execute("DROP TABLE bad")
    RuntimeDB().discover("shop")
    again = run(instance, parent=first.run_id)
    assert not again.success
    (told,) = results_of(instance, again)
    assert [error["error"] for error in told["errors"]] == ["shop.main.bad: the table is no longer in the catalog"]


def test_a_storage_that_is_away_for_a_moment_is_tried_again(
    source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend(source)
    prepare = FileStorage.prepare
    refused: list[str] = []

    def away_at_first(storage: FileStorage, path: str) -> Path:
        if len(refused) < 2:
            refused.append(path)
            raise StorageUnavailableError("away")
        return prepare(storage, path)

    monkeypatch.setattr(FileStorage, "prepare", away_at_first)
    result = run(instance)
    assert result.success
    assert len(materialized(result)) == 7
    assert [event.step_key for event in result.all_events if event.is_step_restarted] == ["runtimedb_refresh_chunk[1]"]
    (told,) = results_of(instance, result)
    assert (told["tables_refreshed"], told["tables_failed"]) == (7, 0)


def test_a_file_that_breaks_in_any_chunk_fails_the_check(
    source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalize = FileStorage.finalize

    def torn(storage: FileStorage, path: str) -> None:
        finalize(storage, path)
        if "/t1/" in path:
            os.truncate(storage.location(path), 100)

    monkeypatch.setattr(FileStorage, "finalize", torn)
    result = run(instance)
    logged = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations: list[Any] = [entry.get_dagster_event().event_specific_data for entry in logged]
    (check,) = [evaluation for evaluation in evaluations if evaluation.check_name == "versions_readable"]
    assert not check.passed
    assert "shop.main.t1" in str(check.description)


def test_monitoring_ends_the_job_at_its_deadline(source: Path) -> None:
    job = build_definitions(Settings(refresh_deadline=90)).resolve_job_def("runtimedb_refresh")
    assert job.tags["dagster/max_runtime"] == "90"


def test_what_was_read_after_a_mark_is_not_read_again(source: Path) -> None:
    mend(source)
    db = RuntimeDB()
    mark = db.engine.next_sequence()
    refreshed(db, db.tables("shop")[:3])
    first = db.tables("shop")[:3]
    outcomes = refreshed(db, db.tables("shop"), since=mark)
    assert len(outcomes) == 7
    # The number is what even a reading that finds nothing new would have changed.
    assert db.tables("shop")[:3] == first
    everything = refreshed(db, db.tables("shop"), since=db.engine.next_sequence())
    assert {type(outcome) for outcome in everything} == {Unchanged}, "read again: the source's content is the same"
    assert all((table.checked_sequence or 0) > mark for table in db.tables("shop"))


def test_who_was_overtaken_yields_the_version_of_who_was_later(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, finalize = RuntimeDB(), FileStorage.finalize
    later: list[Any] = []

    def overtaken(storage: FileStorage, path: str) -> None:
        monkeypatch.setattr(FileStorage, "finalize", finalize)
        later.extend(refreshed(RuntimeDB(), [table]))
        finalize(storage, path)

    table = next(table for table in db.tables("shop") if table.table_name == "t1")
    for since in (None, db.engine.next_sequence()):
        db.purge("shop", "main", "t1")
        monkeypatch.setattr(FileStorage, "finalize", overtaken)
        (outcome,) = refreshed(db, [table], since=since)
        assert isinstance(outcome, Published)
        assert outcome.version.id == later[-1].version.id
    assert len({each.version.id for each in later}) == 2, "the second is another version than the first"


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("no_such_module:executor", "can't be imported"),
        ("dagster:no_such_executor", "can't be imported"),
        ("dagster:asset", "is not an executor"),
        ("in-process", "write in_process, or module:name"),
    ],
)
def test_an_executor_that_does_not_exist_is_named(source: Path, executor: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_definitions(Settings(executor=executor))


@pytest.mark.parametrize("config", ["{hidden", '["hidden"]', '"hidden"'])
def test_an_executors_configuration_is_a_json_object(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEDB_EXECUTOR_CONFIG", config)
    with pytest.raises(ConfigurationError, match="Setting 'executor_config' is wrong: ") as caught:
        Settings()
    assert "hidden" not in f"{caught.value}{caught.value.__cause__}"


def test_an_executors_configuration_is_its_own(
    source: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIMEDB_EXECUTOR", "dagster:multiprocess_executor")
    monkeypatch.setenv("RUNTIMEDB_EXECUTOR_CONFIG", '{"max_concurent": 2}')
    with pytest.raises(dg.DagsterInvalidConfigError, match="max_concurent"):
        run(instance)
    monkeypatch.setenv("RUNTIMEDB_EXECUTOR_CONFIG", '{"max_concurrent": 2}')
    monkeypatch.setenv("RUNTIMEDB_CHUNK_TABLES", "4")
    mend(source)
    result = run(instance)
    assert result.success
    started = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    assert any("multiprocess" in entry.message for entry in started)
    (told,) = results_of(instance, result)
    assert told["tables_refreshed"] == 7


def test_a_discovery_has_nothing_to_report(source: Path, instance: dg.DagsterInstance) -> None:
    result = run(instance, data=False)
    assert result.success
    assert steps_of(result) == ["runtimedb_refresh"]
    (told,) = results_of(instance, result)
    assert told["tables_discovered"] == 7
