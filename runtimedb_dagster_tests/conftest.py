"""Servers that live as long as the test session, and which tests share a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimedb_dagster_tests.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Webserver and daemon, with a grace period of zero."""
    directory: Path = tmp_path_factory.mktemp("deployment")
    with deployed(directory, RUNTIMEDB_GRACE_PERIOD="0") as started:
        yield started


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep each file on one worker, and all tests of the deployment."""
    item.add_marker(pytest.mark.xdist_group("deployment" if _needs_deployment(item) else str(item.path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the deployment, which mostly waits for its daemon: one worker has it, the other all else."""
    items.sort(key=lambda item: not _needs_deployment(item))


def _needs_deployment(item: pytest.Item) -> bool:
    return "deployment" in getattr(item, "fixturenames", ())
