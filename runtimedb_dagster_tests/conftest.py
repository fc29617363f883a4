"""Servers that live as long as the test session."""

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
