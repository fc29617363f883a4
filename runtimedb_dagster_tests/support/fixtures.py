"""The fixtures of a RuntimeDB with real parts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.parts import Inside, SourceFile
from runtimedb_dagster_tests.support.places import TEMPLATE, a_database
from runtimedb_dagster_tests.support.remote import Remote
from runtimedb_dagster_tests.support.servers import Server

hypothesis.settings.register_profile("core", deadline=None, max_examples=200)
hypothesis.settings.load_profile("core")


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine reaches a test: neither a variable nor a file in the directory."""
    for name in os.environ:
        if name.startswith("RUNTIMEDB_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings of where this test keeps its catalog and its versions: at home, unless a mark of `places` says else."""
    catalog, storage = getattr(request, "param", ("sqlite", "files"))
    settings: dict[str, Any] = {}
    with ExitStack() as stack:
        if storage == "s3":
            settings["storage_url"] = request.getfixturevalue("bucket").url()
        if catalog == "postgresql":
            server: Server = request.getfixturevalue("catalog_server")
            settings["catalog_url"] = server.catalog_url(stack.enter_context(a_database(server, TEMPLATE)))
        yield settings


@pytest.fixture
def make_db(tmp_path: Path, place: dict[str, Any]) -> Iterator[Callable[..., RuntimeDB]]:
    """Open databases over the place of this test, closed in the end."""
    with ExitStack() as stack:

        def make(**settings: Any) -> RuntimeDB:
            given = {"home": tmp_path / "home", "threads": 2, **place, **settings}
            return stack.enter_context(RuntimeDB(Settings(**given)))

        yield make


@pytest.fixture
def db(make_db: Callable[..., RuntimeDB]) -> RuntimeDB:
    """A database without connections and without a grace period."""
    return make_db(grace_period=0)


@pytest.fixture
def inside(db: RuntimeDB) -> Inside:
    """The catalog and the storage of `db`."""
    return Inside.of(db)


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., SourceFile]:
    """Make DuckDB files that play remote databases."""

    def make(name: str, *statements: str) -> SourceFile:
        source = SourceFile(tmp_path / f"{name}.duckdb")
        source.run(*statements)
        return source

    return make


@pytest.fixture
def shop(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> SourceFile:
    """A source with two tables, connected to `db` as `shop`."""
    source = make_source(
        "shop",
        "CREATE TABLE orders AS SELECT range AS id, range * 1.5 AS amount FROM range(100)",
        "CREATE TABLE customers AS SELECT range AS id, 'customer ' || range AS name FROM range(10)",
    )
    db.connect("shop", source.url)
    return source


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "tiny"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


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
