"""What the command line asks a running dagster-webserver, over its GraphQL API."""

from __future__ import annotations

from typing import Any

import requests

from runtimedb_dagster.errors import RequestError

__all__ = ["show_connection"]

TIMEOUT_SECONDS = 120
MARKER_JOB = "deletion_sweep"

LOCATIONS = """
query {
  workspaceOrError {
    ... on Workspace {
      locationEntries {
        name
        locationOrLoadError {
          ... on RepositoryLocation { repositories { pipelines { name } sensors { name } } }
          ... on PythonError { message }
        }
      }
    }
    ... on PythonError { message }
  }
}
"""

RELOAD = """
mutation ($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { ... on PythonError { message } } }
    ... on PythonError { message }
    ... on RepositoryLocationNotFound { message }
    ... on ReloadNotSupported { message }
    ... on UnauthorizedError { message }
  }
}
"""


def show_connection(url: str, sensor: str) -> list[str]:
    """Reload the code locations that hold RuntimeDB's definitions, so that a new connection shows.

    Args:
        url: of the webserver, such as `http://localhost:3000`.
        sensor: the name of the new connection's sensor, by which it is recognized.

    Returns:
        The names of the code locations that show it now.

    Raises:
        RequestError: the webserver can't be reached, has no such location, or can't reload it.
    """
    entries = _locations(url)
    names = [entry["name"] for entry in entries if _names(entry, "pipelines", MARKER_JOB)]
    if not names:
        broken = [entry["name"] for entry in entries if "message" in (entry["locationOrLoadError"] or {})]
        hint = f"; these failed to load: {', '.join(broken)}" if broken else ""
        raise RequestError(f"The webserver at {url} has no code location with RuntimeDB's definitions{hint}")
    for name in names:
        _reload(url, name)
    shown = [entry["name"] for entry in _locations(url) if _names(entry, "sensors", sensor)]
    if not shown:
        # `dagster api grpc` says that it reloads, and serves what it loaded at its start.
        raise RequestError(
            f"The webserver at {url} has reloaded {', '.join(names)}, but the connection does not show: its server "
            "was started with `dagster api grpc`, which must be restarted (`dagster code-server start` reloads), or "
            "it reads another catalog"
        )
    return shown


def _reload(url: str, name: str) -> None:
    answer = _ask(url, RELOAD, {"name": name})["reloadRepositoryLocation"]
    problem = answer.get("message") or (answer.get("locationOrLoadError") or {}).get("message")
    if problem:
        raise RequestError(f"The webserver at {url} can't reload the code location '{name}': {problem.strip()}")


def _locations(url: str) -> list[dict[str, Any]]:
    answer = _ask(url, LOCATIONS, {})["workspaceOrError"]
    if "message" in answer:
        raise RequestError(f"The webserver at {url} can't show its code locations: {answer['message']}")
    entries: list[dict[str, Any]] = answer["locationEntries"]
    return entries


def _names(entry: dict[str, Any], kind: str, wanted: str) -> bool:
    repositories = (entry["locationOrLoadError"] or {}).get("repositories", [])
    return any(each["name"] == wanted for repository in repositories for each in repository[kind])


def _ask(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    endpoint = f"{url.rstrip('/')}/graphql"
    try:
        response = requests.post(endpoint, json={"query": query, "variables": variables}, timeout=TIMEOUT_SECONDS)
        answer = response.json()
    except requests.JSONDecodeError:
        raise RequestError(f"{endpoint} answers, but not as a dagster-webserver does") from None
    except requests.RequestException as error:
        raise RequestError(f"The webserver at {url} can't be reached: {type(error).__name__}") from error
    if "data" not in answer or answer.get("errors"):
        raise RequestError(f"The webserver at {url} refused the query: {answer.get('errors')}")
    data: dict[str, Any] = answer["data"]
    return data
