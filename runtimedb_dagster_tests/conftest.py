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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each file on one worker, and all of the deployment, which mostly wait, on the one that begins with them."""
    items.sort(key=lambda item: "deployment" not in getattr(item, "fixturenames", ()))
    for item in items:
        deployed_there = "deployment" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("deployment" if deployed_there else str(item.path)))
