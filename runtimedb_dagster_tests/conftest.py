"""Servers that live as long as the test session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from runtimedb_dagster_tests.support.deployment import Deployment, deployed
from runtimedb_dagster_tests.support.fixtures import (  # noqa: F401 - fixtures of all
    db,
    inside,
    make_database,
    make_db,
    make_source,
    maria,
    pg,
    place,
    shop,
    tiny_disk,
)
from runtimedb_dagster_tests.support.places import make_template
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, ObjectStore, object_store_running
from runtimedb_dagster_tests.support.servers import NotInstalledError, Server, mariadb, postgres, redis

T = TypeVar("T")

# What a shell runs in the background ignores interrupts, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
def catalog_server(postgres_server: Server) -> Server:
    """The PostgreSQL server, with an empty catalog to copy."""
    make_template(postgres_server)
    return postgres_server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    with installed(mariadb()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Redis' URL."""
    with installed(redis()) as url:
        yield url


@contextmanager
def installed(server: AbstractContextManager[T]) -> Iterator[T]:
    """A server; where it is not installed its tests are skipped with a word, and under CI they fail."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except NotInstalledError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield running


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A running S3 server, which lives as long as the test session."""
    with object_store_running() as running:
        yield running


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which the AWS clients find the server's key, and nothing of this machine."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(object_store: ObjectStore, aws: None, tmp_path: Path) -> Bucket:
    """A place in the store for this test alone."""
    return Bucket(object_store, f"{tmp_path.name[-40:].replace('_', '-')}/{os.urandom(4).hex()}")
