"""Fixtures over real database servers, which live as long as the test session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD, Server


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine reaches a test; the servers' password is in the environment."""
    for name in os.environ:
        if name.startswith("RUNTIMEDB_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[RuntimeDB]:
    """A database without connections and without a grace period."""
    with RuntimeDB(Settings(home=tmp_path / "home", grace_period=0, threads=2)) as opened:
        yield opened


@pytest.fixture
def make_database() -> Iterator[Callable[[Server], str]]:
    """Make databases on a server, dropped in the end."""
    made: list[tuple[Server, str]] = []

    def make(server: Server) -> str:
        name = f"test_{os.urandom(4).hex()}"
        server.run(None, f"CREATE DATABASE {name}")
        made.append((server, name))
        return name

    yield make
    for server, name in made:
        server.run(None, f"DROP DATABASE {name}" + (" WITH (FORCE)" if server.scheme == "postgresql" else ""))


@pytest.fixture
def pg(db: RuntimeDB, postgres_server: Server, make_database: Callable[[Server], str]) -> Remote:
    """An empty PostgreSQL database, connected as `pg` when `connect` is called."""
    return Remote(db, postgres_server, make_database(postgres_server), "pg")


@pytest.fixture
def maria(db: RuntimeDB, mariadb_server: Server, make_database: Callable[[Server], str]) -> Remote:
    """An empty MariaDB database, connected as `maria` when `connect` is called."""
    return Remote(db, mariadb_server, make_database(mariadb_server), "maria")
