"""A real Dagster deployment for tests: webserver and daemon as processes, spoken to over HTTP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
T = TypeVar("T")


def eventually(what: Callable[[], T], timeout: float = 300) -> T:
    """The first true value of `what`, polled until there is one.

    The daemon looks for reloaded definitions once a minute and its schedules tick once a minute, so that a new
    schedule's first run may take more than two; a busy machine needs more.
    """
    deadline = time.monotonic() + timeout
    while not (value := what()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s"
        time.sleep(0.5)
    return value


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Deployment:
    """A Dagster instance with the project's own dagster.yaml and workspace.yaml, in a directory of its own."""

    directory: Path
    port: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Of the webserver."""
        return f"http://127.0.0.1:{self.port}"

    def runtimedb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this deployment."""
        return subprocess.run(
            [str(BIN / "runtimedb"), *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def ask(self, query: str, **variables: Any) -> Any:
        """A GraphQL query's data."""
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    def partitions(self, connection: str) -> list[str]:
        """The keys of a connection's asset, none while the asset is not there."""
        query = (
            "query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } } }"
        )
        keys = self.ask(query, key={"path": ["runtimedb", connection]})["assetNodeOrError"].get("partitionKeys", [])
        return list(keys)

    def partition_statuses(self, connection: str) -> dict[str, int]:
        """How many partitions are materialized and failed."""
        query = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
            partitionStats { numMaterialized numFailed numPartitions } } } }"""
        stats = self.ask(query, key={"path": ["runtimedb", connection]})["assetNodeOrError"]["partitionStats"]
        return dict(stats)

    def materialize(self, connection: str, tags: dict[str, str]) -> dict[str, Any]:
        """Launch a run of a connection's asset, as the UI does, and wait for its end."""
        return self.finished(self.launch(connection, tags))

    def launch(self, connection: str, tags: dict[str, str]) -> str:
        """Launch one; its id."""
        launched = self.ask(
            """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": {
                    "repositoryLocationName": "runtimedb",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": ["runtimedb", connection]}],
                },
                "mode": "default",
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            },
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Terminate a run, as the UI does."""
        query = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
        assert self.ask(query, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def backfill(self, connection: str, keys: list[str]) -> None:
        """Materialize partitions as the UI's dialog does, and wait for the backfill's end."""
        launched = self.ask(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={"assetSelection": [{"path": ["runtimedb", connection]}], "partitionNames": keys},
        )["launchPartitionBackfill"]
        query = (
            "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
        )
        eventually(
            lambda: (
                self.ask(query, id=launched["backfillId"])["partitionBackfillOrError"]["status"]
                in ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED")
            )
        )

    def finished(self, run_id: str) -> dict[str, Any]:
        """A run, once it has ended, with its materializations."""
        query = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { runId status tags { key value }
            assetMaterializations { partition assetKey { path } metadataEntries { label
                ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text }
                ... on TableSchemaMetadataEntry { schema { columns { name type constraints { nullable } } } }
                ... on FloatMetadataEntry { floatValue } ... on BoolMetadataEntry { boolValue } } } } } }"""

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.ask(query, id=run_id)["runOrError"]
            return run if run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

        run = eventually(ended)
        assert run is not None
        return run

    def ticks(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The latest ticks of a schedule or a sensor."""
        query = """query ($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector) {
            ... on InstigationState { ticks(limit: 20) { status skipReason runIds error { message } } } } }"""
        selector = {"repositoryLocationName": "runtimedb", "repositoryName": "__repository__", "name": name}
        state = self.ask(query, selector=selector)["instigationStateOrError"]
        assert kind in ("schedule", "sensor")
        return list(state.get("ticks", []))


def environment(directory: Path, **more: str) -> dict[str, str]:
    """The environment of a deployment's processes: nothing of the one that the tests run in."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RUNTIMEDB_", "DAGSTER_"))}
    return inherited | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DAGSTER_HOME": str(directory),
        "RUNTIMEDB_HOME": str(directory / ".runtimedb"),
        **more,
    }


def new_instance(directory: Path) -> None:
    """Lay out a Dagster home, and make its databases before several processes open them."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, directory)
    subprocess.run(
        [str(BIN / "dagster"), "instance", "migrate"],
        cwd=directory, env=environment(directory), check=True, capture_output=True, timeout=120,
    )  # fmt: skip


@contextmanager
def process(directory: Path, variables: dict[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end, with its children; its output goes to a log in the directory."""
    with (directory / f"{Path(command[0]).name}.log").open("ab") as log:
        started = subprocess.Popen(
            command, cwd=directory, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield started
        finally:
            stop(started)


def stop(started: subprocess.Popen[bytes]) -> None:
    """End a process and the session it leads."""
    started.terminate()
    try:
        started.wait(10)
    except subprocess.TimeoutExpired:
        started.kill()
    try:
        os.killpg(started.pid, 9)
    except ProcessLookupError:
        return
    finally:
        started.wait()


@contextmanager
def webserver(directory: Path, variables: dict[str, str], workspace: str = "workspace.yaml") -> Iterator[Deployment]:
    """A webserver over an instance."""
    deployment = Deployment(directory, free_port(), variables)
    command = (str(BIN / "dagster-webserver"), "-w", workspace, "-h", "127.0.0.1", "-p", str(deployment.port))
    with process(directory, variables, *command):
        eventually(lambda: answers(deployment))
        yield deployment


def answers(deployment: Deployment) -> bool:
    """Whether the webserver is up and has loaded its code location."""
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    try:
        entries = deployment.ask(query)["workspaceOrError"]["locationEntries"]
    except requests.RequestException:
        return False
    return all(entry["locationOrLoadError"]["__typename"] == "RepositoryLocation" for entry in entries)


@contextmanager
def deployed(directory: Path, **more: str) -> Iterator[Deployment]:
    """A whole deployment: webserver and daemon over a new instance."""
    new_instance(directory)
    variables = environment(directory, **more)
    with ExitStack() as stack:
        deployment = stack.enter_context(webserver(directory, variables))
        stack.enter_context(process(directory, variables, str(BIN / "dagster-daemon"), "run", "-w", "workspace.yaml"))
        yield deployment
