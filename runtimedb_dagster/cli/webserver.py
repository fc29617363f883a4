"""What the command line asks a running dagster-webserver, over its GraphQL API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import requests

from runtimedb_dagster.common.redaction import redactor
from runtimedb_dagster.common.redaction import shown as shown_url
from runtimedb_dagster.domain.errors import ConfigurationError, RequestError
from runtimedb_dagster.domain.names import DELETION_SWEEP, RESULT, ROW_COUNT, job_name, sensor_name

__all__ = ["RunState", "failure", "follow", "launch", "show_connection"]

TIMEOUT_SECONDS = 120
POLL_SECONDS = 1

LOCATIONS = """
query {
  workspaceOrError {
    ... on Workspace {
      locationEntries {
        name
        locationOrLoadError {
          ... on RepositoryLocation { repositories { name pipelines { name } sensors { name } } }
          ... on PythonError { message }
        }
      }
    }
    ... on PythonError { message }
  }
}
"""

RUN = """
query ($id: ID!) {
  runOrError(runId: $id) {
    ... on Run {
      status
      stepStats {
        status
        expectationResults { label metadataEntries { ... on JsonMetadataEntry { jsonString } } }
      }
      assetMaterializations { metadataEntries { label ... on IntMetadataEntry { intValue } } }
    }
    ... on PythonError { message }
    ... on RunNotFoundError { message }
  }
}
"""

FAILURES = """
query ($id: ID!, $cursor: String) {
  logsForRun(runId: $id, afterCursor: $cursor) {
    ... on EventConnection {
      cursor hasMore
      events { ... on ExecutionStepFailureEvent { error { message } } ... on RunFailureEvent { message } }
    }
    ... on PythonError { message }
    ... on RunNotFoundError { message }
  }
}
"""


def show_connection(url: str, asset_prefix: str, connection: str) -> list[str]:
    """Reload the code locations that hold RuntimeDB's definitions, so that a new connection shows.

    Args:
        url: of the webserver, such as `http://localhost:3000`.
        asset_prefix: the setting, by which the definitions are recognized.
        connection: the new connection's name.

    Returns:
        The names of the code locations that show it now.

    Raises:
        RequestError: the webserver can't be reached, has no such location, or can't reload it.
    """
    entries = _locations(url)
    names = [entry["name"] for entry in entries if _names(entry, "pipelines", job_name(asset_prefix, DELETION_SWEEP))]
    if not names:
        broken = [entry["name"] for entry in entries if "message" in (entry["locationOrLoadError"] or {})]
        hint = f"; these failed to load: {', '.join(broken)}" if broken else ""
        raise RequestError(f"The webserver at {shown_url(url)} has no code location with RuntimeDB's definitions{hint}")
    client = _client(url)
    for name in names:
        _reload(client, url, name)
    sensor = sensor_name(asset_prefix, connection)
    shown = [entry["name"] for entry in _locations(url) if _names(entry, "sensors", sensor)]
    if not shown:
        # `dagster api grpc` says that it reloads, and serves what it loaded at its start.
        raise RequestError(
            f"The webserver at {shown_url(url)} has reloaded {', '.join(names)}, but the connection does not show: its "
            "server was started with `dagster api grpc`, which must be restarted (`dagster code-server start` reloads"
            "), or it reads another catalog"
        )
    return shown


@dataclass(frozen=True)
class RunState:
    """How far a run is; `result` is the contract's once there is one."""

    status: str
    tables: int
    rows: int
    result: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


def launch(url: str, asset_prefix: str, job: str, config: dict[str, Any]) -> str:
    """Launch one of RuntimeDB's jobs.

    Args:
        url: of the webserver.
        asset_prefix: the setting, with which the job's name begins.
        job: `refresh`, `connect`, `purge`, `remove` or `deletion_sweep`.
        config: of its one op.

    Returns:
        The run's id.

    Raises:
        RequestError: the webserver can't be reached, or refuses.
    """
    name = job_name(asset_prefix, job)
    for entry in _locations(url):
        for repository in (entry["locationOrLoadError"] or {}).get("repositories", []):
            if name in {each["name"] for each in repository["pipelines"]}:
                return _launch(url, entry["name"], repository["name"], name, config)
    raise RequestError(f"The webserver at {shown_url(url)} has no code location with RuntimeDB's definitions")


def _launch(url: str, location: str, repository: str, job: str, config: dict[str, Any]) -> str:
    run_config = {"ops": {job: {"config": config}}}
    client = _client(url)
    with _named_errors(url, "refuses the run"):
        return str(
            client.submit_job_execution(
                job, repository_location_name=location, repository_name=repository, run_config=run_config
            )
        )


def follow(url: str, run_id: str) -> Iterator[RunState]:
    """The states of a run, one a second, until it has ended.

    Raises:
        RequestError: the webserver can't be reached any more; the run goes on.
    """
    while True:
        state = _state(url, run_id)
        yield state
        if state.ended:
            return
        sleep(POLL_SECONDS)


def failure(url: str, run_id: str) -> str:
    """Why a run failed, as its first failed step says it."""
    cursor: str | None = None
    while True:
        page = _ask(url, FAILURES, {"id": run_id, "cursor": cursor})["logsForRun"]
        for event in page.get("events", []):
            if event.get("error"):
                return str(event["error"]["message"]).partition("Failure: ")[2].strip() or str(
                    event["error"]["message"]
                )
        if not page.get("hasMore"):
            return f"the run {run_id} failed; its page at {shown_url(url)}/runs/{run_id} says why"
        cursor = page["cursor"]


def _state(url: str, run_id: str) -> RunState:
    run = _ask(url, RUN, {"id": run_id})["runOrError"]
    if "message" in run:
        raise RequestError(f"The webserver at {shown_url(url)} can't show the run {run_id}: {run['message']}")
    results = [
        json.loads(metadata["jsonString"])
        for step in run["stepStats"]
        for expectation in step["expectationResults"]
        if expectation["label"] == RESULT
        for metadata in expectation["metadataEntries"]
    ]
    rows = [
        metadata["intValue"]
        for event in run["assetMaterializations"]
        for metadata in event["metadataEntries"]
        if metadata["label"] == ROW_COUNT
    ]
    return RunState(run["status"], len(rows), sum(rows), results[0] if results else None)


def _client(url: str) -> Any:
    """Dagster's own client; it comes with the webserver.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from dagster_graphql import DagsterGraphQLClient  # noqa: PLC0415 - of an extra
    except ImportError:
        raise ConfigurationError(
            "--webserver needs Dagster's client for GraphQL: pip install 'runtimedb-dagster[ui]'"
        ) from None
    parts = urlsplit(url)
    server = f"{parts.netloc}{parts.path.rstrip('/')}"
    return DagsterGraphQLClient(server, use_https=parts.scheme == "https", timeout=TIMEOUT_SECONDS)


@contextmanager
def _named_errors(url: str, what: str) -> Iterator[None]:
    """Have errors of Dagster's client name the webserver."""
    from dagster_graphql import DagsterGraphQLClientError  # noqa: PLC0415 - of an extra

    try:
        yield
    except DagsterGraphQLClientError as error:
        reason = redactor(url)("; ".join(str(part) for part in error.args[1:] or error.args))
        raise RequestError(f"The webserver at {shown_url(url)} {what}: {reason}") from None


def _reload(client: Any, url: str, name: str) -> None:
    with _named_errors(url, f"can't reload the code location '{name}'"):
        info = client.reload_repository_location(name)
    if info.status.name != "SUCCESS":
        reason = (info.message or info.failure_type or "").strip()
        raise RequestError(f"The webserver at {shown_url(url)} can't reload the code location '{name}': {reason}")


def _locations(url: str) -> list[dict[str, Any]]:
    answer = _ask(url, LOCATIONS, {})["workspaceOrError"]
    if "message" in answer:
        raise RequestError(f"The webserver at {shown_url(url)} can't show its code locations: {answer['message']}")
    entries: list[dict[str, Any]] = answer["locationEntries"]
    return entries


def _names(entry: dict[str, Any], kind: str, wanted: str) -> bool:
    repositories = (entry["locationOrLoadError"] or {}).get("repositories", [])
    return any(each["name"] == wanted for repository in repositories for each in repository[kind])


def _ask(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    endpoint = f"{url.rstrip('/')}/graphql"
    hide = redactor(url)
    try:
        response = requests.post(endpoint, json={"query": query, "variables": variables}, timeout=TIMEOUT_SECONDS)
        answer = response.json()
    except requests.JSONDecodeError:
        raise RequestError(f"The webserver at {shown_url(url)} answers, but not as a dagster-webserver does") from None
    except requests.RequestException as error:
        raise RequestError(f"The webserver at {shown_url(url)} can't be reached: {type(error).__name__}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict) or None in answer["data"].values():
        raise RequestError(f"The webserver at {shown_url(url)} answers, but not as a dagster-webserver does")
    if answer.get("errors"):
        raise RequestError(f"The webserver at {shown_url(url)} refused the query: {hide(str(answer.get('errors')))}")
    data: dict[str, Any] = answer["data"]
    return data
