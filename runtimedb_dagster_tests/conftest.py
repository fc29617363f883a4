"""Servers that live as long as the test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtimedb_dagster_tests.deployment import Deployment, deployed
from runtimedb_dagster_tests.servers import NotInstalledError, Server, mariadb, postgres


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Webserver and daemon, with a grace period of zero."""
    directory: Path = tmp_path_factory.mktemp("deployment")
    with deployed(directory, RUNTIMEDB_GRACE_PERIOD="0") as started:
        yield started


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """MariaDB; where it is not installed its tests are skipped with a word, and under CI they fail."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(mariadb())
        except NotInstalledError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield server
