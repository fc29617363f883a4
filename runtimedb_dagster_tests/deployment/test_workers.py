"""A refresh spread over workers: the services of deploy/docker-compose.yaml, started as processes."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_graphql import DagsterGraphQLClient

from runtimedb_dagster_tests.support.deployment import (
    BIN,
    ROOT,
    Deployment,
    answers,
    environment,
    eventually,
    free_port,
    process,
)
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket
from runtimedb_dagster_tests.support.servers import PASSWORD, Server

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text(encoding="utf-8"))
TABLES, LIMIT, SLOW_SECONDS = 16, 3, 3.0
SLOW = f"SELECT i FROM generate_series(1, 10) i, (SELECT pg_sleep({SLOW_SECONDS})) s"


@dataclass
class Workers:
    """A whole deployment without its workers, which tests start, and kill."""

    deployment: Deployment
    source: Server
    bucket: Bucket
    ports: dict[str, str]

    @property
    def client(self) -> DagsterGraphQLClient:
        return DagsterGraphQLClient("127.0.0.1", port_number=self.deployment.port)

    def service(self, name: str, *more: str) -> AbstractContextManager[Any]:
        """A service by the very command that the compose file has."""
        words = shlex.split(COMPOSE["services"][name]["command"])
        command, *arguments = [self.ports.get(word, word) for word in words]
        split = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[split:split] = more
        return process(self.deployment.directory, self.deployment.environment, str(BIN / command), *arguments)

    def worker(self, name: str) -> AbstractContextManager[Any]:
        return self.service("worker", "-n", name)

    def launch(self, **tags: str) -> str:
        """Launch a refresh of all tables; the run's id."""
        config = {"ops": {"runtimedb_refresh": {"config": {"connection": "shop", "data": True}}}}
        return str(self.client.submit_job_execution("runtimedb_refresh", run_config=config, tags=tags))

    def reading(self) -> int:
        """How many tables the source's server is giving at the moment, by its own account."""
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND wait_event = 'PgSleep'"
        return int(self.source.run(None, asleep)[0][0])

    def events(self, run_id: str, kind: dg.DagsterEventType) -> list[dg.EventLogEntry]:
        with dg.DagsterInstance.from_config(str(self.deployment.directory)) as instance:
            return list(instance.all_logs(run_id, of_type=kind))

    def taken(self, run_id: str) -> list[tuple[str, str]]:
        """The steps that workers have taken, with the name of the worker, each time that one did."""
        entries = self.events(run_id, dg.DagsterEventType.ENGINE_EVENT)
        details: list[dict[str, Any]] = [
            entry.get_dagster_event().event_specific_data.metadata  # type: ignore[union-attr, misc]
            for entry in entries
            if "in celery worker" in entry.message
        ]
        return [(str(each["step_keys"].value), str(each["Celery worker"].value).partition("@")[0]) for each in details]

    def result(self, run_id: str) -> dict[str, Any]:
        """What a run was told as its result."""
        (entry,) = self.events(run_id, dg.DagsterEventType.STEP_EXPECTATION_RESULT)
        data: Any = entry.get_dagster_event().event_specific_data
        return dict(data.expectation_result.metadata["result"].value)

    def versions(self) -> dict[str, str]:
        """The version of each table that has one."""
        rows = self.source.run("catalog", "SELECT table_name, version_id FROM tables WHERE version_id IS NOT NULL")
        return dict(rows)

    def is_well(self) -> bool:
        """Whether nothing is lost or left over, once what is due was swept."""
        swept = self.deployment.runtimedb("sweep")
        verified = self.deployment.runtimedb("verify")
        assert (swept.returncode, verified.returncode) == (0, 0), swept.stderr + verified.stdout + verified.stderr
        return True


@pytest.fixture(scope="module")
def workers(
    postgres_server: Server, redis_server: str, object_store: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    directory: Path = tmp_path_factory.mktemp("workers")
    for name in ("dagster", "catalog", "shop"):
        postgres_server.run(None, f"CREATE DATABASE {name}")
    postgres_server.run("shop", *(f"CREATE VIEW t{number} AS {SLOW}" for number in range(TABLES)))
    bucket = Bucket(object_store, f"workers-{os.urandom(4).hex()}")
    variables = {
        **COMPOSE["x-image"]["environment"],
        "DAGSTER_POSTGRES_URL": postgres_server.catalog_url("dagster").replace("postgresql:", "postgresql+psycopg2:"),
        "RUNTIMEDB_CATALOG_URL": postgres_server.catalog_url("catalog"),
        "RUNTIMEDB_STORAGE_URL": bucket.url(),
        "CELERY_BROKER": f"{redis_server}/0",
        "CELERY_BACKEND": f"{redis_server}/1",
        **ENVIRONMENT,
        "RUNTIMEDB_CHUNK_TABLES": "2",
        "RUNTIMEDB_GRACE_PERIOD": "0",
        "SHOP_PASSWORD": PASSWORD,
    }
    ports = {"4000": str(free_port()), "3000": str(free_port()), "0.0.0.0": "127.0.0.1"}  # noqa: S104
    for file in ("dagster.yaml", "workspace.yaml", "celery.yaml"):
        text = (DEPLOY / file).read_text(encoding="utf-8")
        for there, here in {
            "host: code": "host: 127.0.0.1",
            "port: 4000": f"port: {ports['4000']}",
            "poll_interval_seconds: 30": "poll_interval_seconds: 2",
            "visibility_timeout: 3600": "visibility_timeout: 10",
        }.items():
            text = text.replace(there, here)
        (directory / file).write_text(text, encoding="utf-8")
    deployment = Deployment(directory, int(ports["3000"]), environment(directory, **variables))
    running = Workers(deployment, postgres_server, bucket, ports)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", variables["DAGSTER_POSTGRES_URL"])
        with running.service("instance") as migration:
            assert migration.wait(120) == 0
        connected = deployment.runtimedb(
            "connect", "shop", postgres_server.url("shop"), "--password-env", "SHOP_PASSWORD",
            "--option", f"parallel_refresh={LIMIT}",
        )  # fmt: skip
        assert connected.returncode == 0, connected.stderr
        for service in ("code", "webserver", "daemon"):
            stack.enter_context(running.service(service))
        eventually(lambda: answers(deployment))
        yield running


def await_run(workers: Workers, run_id: str, meanwhile: Callable[[], Any] = lambda: None) -> str:
    """Wait for a run's end; its status."""

    def status() -> str:
        meanwhile()
        return str(workers.client.get_run_status(run_id).value)

    ended = ("SUCCESS", "FAILURE", "CANCELED")
    return eventually(lambda: found if (found := status()) in ended else "")


def test_without_a_worker_a_run_ends_by_its_deadline_and_its_late_task_does_nothing(workers: Workers) -> None:
    run_id = workers.launch(**{"dagster/max_runtime": "5"})
    assert await_run(workers, run_id) == "FAILURE"
    messages = [entry.message for entry in workers.events(run_id, dg.DagsterEventType.RUN_FAILURE)]
    assert any("maximum runtime" in message for message in messages)
    with workers.worker("late"):
        (failed,) = eventually(lambda: workers.events(run_id, dg.DagsterEventType.STEP_FAILURE))
    assert "The run is over (FAILURE)" in str(failed)
    assert workers.versions() == {}


def test_two_workers_share_a_refresh_within_the_connections_limit(workers: Workers) -> None:
    seen: list[int] = []
    with workers.worker("one"), workers.worker("two"):
        run_id = workers.launch()
        status = await_run(workers, run_id, lambda: seen.append(workers.reading()))
    assert status == "SUCCESS"
    assert max(seen) <= LIMIT
    assert max(seen) == LIMIT, "they read at the same time"
    by_step = dict(workers.taken(run_id))
    materialized = workers.events(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    made_by = {by_step[str(entry.step_key)] for entry in materialized}
    assert made_by == {"one", "two"}
    assert workers.result(run_id)["tables_refreshed"] == len(workers.versions()) == TABLES
    assert workers.is_well()


def test_a_worker_that_is_killed_loses_nothing_and_another_does_its_tables(workers: Workers) -> None:
    before = workers.versions()
    workers.source.run("shop", *(f"CREATE OR REPLACE VIEW t{n} AS {SLOW} LIMIT 9" for n in range(TABLES)))

    def is_reading(name: str, run_id: str) -> bool:
        return any("chunk" in step for step, taker in workers.taken(run_id) if taker == name)

    with workers.worker("victim") as victim, workers.worker("survivor"):
        run_id = workers.launch()
        eventually(lambda: is_reading("victim", run_id) and workers.reading())
        os.killpg(victim.pid, signal.SIGKILL)
        assert await_run(workers, run_id) == "SUCCESS"
    taken = workers.taken(run_id)
    lost = {step for step, taker in taken if taker == "victim"}
    assert lost & {step for step, taker in taken if taker == "survivor"}, "it took over what was not done"
    assert workers.result(run_id) | {"duration_ms": 0} == {
        "connection_id": workers.result(run_id)["connection_id"],
        "tables_refreshed": TABLES, "tables_failed": 0, "total_rows": 9 * TABLES, "duration_ms": 0, "errors": [],
        "tables_unchanged": 0, "rows_read": 9 * TABLES,
    }  # fmt: skip
    after = workers.versions()
    assert len(after) == TABLES
    assert not set(before.values()) & set(after.values())
    assert workers.is_well()


def test_a_run_that_is_terminated_stops_on_its_workers(workers: Workers) -> None:
    with workers.worker("one"):
        run_id = workers.launch()
        eventually(workers.reading)
        workers.client.terminate_run(run_id)
        assert await_run(workers, run_id) == "CANCELED"
        failed = eventually(lambda: workers.events(run_id, dg.DagsterEventType.STEP_FAILURE))
        eventually(lambda: not workers.reading())
    assert "The run is over (CANCEL" in str(failed)
    refreshed = workers.events(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert len(refreshed) < TABLES
    assert workers.is_well()
