"""What the command line asks a running dagster-webserver, over its GraphQL API."""

from __future__ import annotations

from typing import Any

import requests

from runtimedb_dagster.errors import RequestError

__all__ = ["reload_locations"]

TIMEOUT_SECONDS = 120
MARKER_JOB = "deletion_sweep"

LOCATIONS = """
query {
  workspaceOrError {
    ... on Workspace {
      locationEntries {
        name
        locationOrLoadError {
          ... on RepositoryLocation { isReloadSupported repositories { pipelines { name } } }
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


def reload_locations(url: str) -> list[str]:
    """Reload the code locations that hold RuntimeDB's definitions, so that a new connection shows.

    Args:
        url: of the webserver, such as `http://localhost:3000`.

    Returns:
        The names of the locations.

    Raises:
        RequestError: the webserver can't be reached, has no such location, or can't reload it.
    """
    names = [entry["name"] for entry in _locations(url) if _is_ours(entry)]
    if not names:
        raise RequestError(f"The webserver at {url} has no code location with RuntimeDB's definitions")
    for name in names:
        answer = _ask(url, RELOAD, {"name": name})["reloadRepositoryLocation"]
        problem = answer.get("message") or (answer.get("locationOrLoadError") or {}).get("message")
        if problem:
            raise RequestError(
                f"The webserver at {url} can't reload the code location '{name}': {problem.strip()}. A server started "
                "with `dagster api grpc` must be restarted; one started with `dagster code-server start` reloads"
            )
    return names


def _locations(url: str) -> list[dict[str, Any]]:
    answer = _ask(url, LOCATIONS, {})["workspaceOrError"]
    if "message" in answer:
        raise RequestError(f"The webserver at {url} can't show its code locations: {answer['message']}")
    entries: list[dict[str, Any]] = answer["locationEntries"]
    return entries


def _is_ours(entry: dict[str, Any]) -> bool:
    repositories = (entry["locationOrLoadError"] or {}).get("repositories", [])
    return any(job["name"] == MARKER_JOB for repository in repositories for job in repository["pipelines"])


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
