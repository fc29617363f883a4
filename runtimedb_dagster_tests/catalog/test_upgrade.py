"""A catalog of the release before is taken to the new form, serves, refreshes, sweeps and verifies clean."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text

from runtimedb_dagster import (
    CatalogError,
    Outcome,
    Published,
    RefreshRequest,
    RuntimeDB,
    Settings,
    Unchanged,
)
from runtimedb_dagster.catalog import migrations
from runtimedb_dagster_tests.support.parts import Inside, long_after, rows, the_table
from runtimedb_dagster_tests.support.places import a_database
from runtimedb_dagster_tests.support.servers import Server

KEPT = Path(__file__).parent / "release_0006"
SOURCE = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, amount NUMERIC, placed DATE, note TEXT);
INSERT INTO orders VALUES (1, 1.5, '2024-01-01', 'a'), (2, 2.25, '2024-01-02', NULL), (3, 3, '2024-01-03', 'c'),
    (4, 4, '2024-01-04', 'd');
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, ssn TEXT);
INSERT INTO customers VALUES (1, 'Ann', 'ann@example.org', '123'), (2, 'Bob', NULL, '456');
CREATE TABLE notes (id INTEGER, body TEXT);
INSERT INTO notes VALUES (1, 'x');
CREATE TABLE empty (id INTEGER);
"""
Ask = Callable[..., list[tuple[object, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a catalog as the release before left it; its storage is beside it."""
    shutil.copytree(KEPT / request.param, tmp_path / "storage")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as source:
        source.executescript(SOURCE)
    if request.param == "sqlite":
        shutil.copy(KEPT / "catalog.db", tmp_path)
        yield f"sqlite:///{tmp_path}/catalog.db"
        return
    server: Server = request.getfixturevalue("postgres_server")
    with a_database(server) as database:
        server.run(database, (KEPT / "catalog.sql").read_text(encoding="utf-8"))
        yield server.catalog_url(database)


@pytest.fixture
def ask(old: str, tmp_path: Path) -> Iterator[Ask]:
    """Run a statement on the catalog, beside RuntimeDB."""
    engine = create_engine(old.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)

    def run(statement: str, **values: str) -> list[tuple[object, ...]]:
        with engine.begin() as tx:
            done = tx.execute(text(statement), values)
            return [tuple(row) for row in done] if done.returns_rows else []

    run("UPDATE connections SET url = :url", url=f"sqlite:///{tmp_path}/shop.db")
    yield run
    engine.dispose()


@pytest.fixture
def upgraded(old: str, ask: Ask, tmp_path: Path) -> Iterator[RuntimeDB]:
    """A RuntimeDB of this release over it, to which the copied storage belongs."""
    settings = Settings(
        home=tmp_path / "home", catalog_url=old, storage_url=f"file://{tmp_path}/storage", grace_period=0, threads=1
    )
    with RuntimeDB(settings) as db:
        db.adopt_storage()
        yield db


def outcomes(db: RuntimeDB, connection: str) -> dict[str, type[Outcome]]:
    events = db.events(RefreshRequest(connection, data=True))
    return {event.ref.table_name: type(event) for event in events if isinstance(event, Outcome)}


def test_what_it_held_is_served(upgraded: RuntimeDB) -> None:
    assert upgraded.verify(deep=True) == []
    assert rows(upgraded, "SELECT id, amount FROM shop.main.orders ORDER BY id") == [
        (1, 1.5), (2, 2.25), (3, 3.0), (4, 4.0),
    ]  # fmt: skip
    hashed = hashlib.sha256(b"ann@example.org").hexdigest()
    assert rows(upgraded, "FROM shop.main.customers ORDER BY id") == [(1, "Ann", hashed), (2, "Bob", None)]
    assert rows(upgraded, "SELECT count(*) FROM plain.main.orders") == [(3,)]
    orders = the_table(upgraded, "orders")
    assert (orders.previous_rows, orders.modified) == (3, False)
    assert orders.version is not None
    assert orders.checked_at == orders.version.created_at
    assert [column.remark for column in the_table(upgraded, "customers").version.columns] == [  # type: ignore[union-attr]
        None, None, "masked: sha256",
    ]  # fmt: skip


def test_it_is_refreshed_and_swept_and_nothing_is_read_twice_for_nothing(upgraded: RuntimeDB) -> None:
    assert upgraded.discover("shop").tables_modified == 0
    assert [table.ref.table_name for table in upgraded.tables("shop") if table.modified] == []
    assert outcomes(upgraded, "shop") == {
        "orders": Unchanged, "customers": Unchanged, "empty": Unchanged, "notes": Published,
    }  # fmt: skip
    assert outcomes(upgraded, "plain") == {"orders": Published}
    assert {table.version.recipe == table.recipe for table in upgraded.tables("shop") if table.version} == {True}
    # What was dropped, purged and replaced before, what was under way, and what was replaced now.
    assert upgraded.sweep(long_after(upgraded.settings)).files_deleted == 5
    inside = Inside.of(upgraded)
    assert inside.files() == inside.live()
    assert upgraded.verify(deep=True) == []


def test_a_version_that_was_made_by_other_options_is_modified(upgraded: RuntimeDB, ask: Ask) -> None:
    """As where a mask was set, and the table was not refreshed since: the release before said nothing of it."""
    ask(
        "UPDATE connections SET options = :given WHERE name = 'plain'",
        given=json.dumps({"include": "orders", "mask": "note:redact"}),
    )
    assert upgraded.discover("plain").tables_modified == 1
    assert the_table(upgraded, "orders", "plain").modified
    assert [(finding.invariant, finding.subject) for finding in upgraded.verify()] == [("R6", "plain.main.orders")]
    assert outcomes(upgraded, "plain") == {"orders": Published}
    assert not the_table(upgraded, "orders", "plain").modified
    assert upgraded.verify() == []


def test_a_version_whose_options_change_before_the_first_discovery_is_modified(upgraded: RuntimeDB) -> None:
    changed = upgraded.configure("shop", options={"where": "orders: id > 1"})
    assert [str(ref) for ref in changed.tables_modified] == ["shop.main.orders"]
    assert upgraded.discover("shop").tables_modified == 1


@pytest.mark.usefixtures("upgraded")
def test_a_process_of_the_release_before_that_was_running_stops(ask: Ask) -> None:
    """It takes a number from the clock's row for each change, asks for the row for the rest, and says what it finds."""
    assert ask("UPDATE clock SET value = value + 1 RETURNING value") == []
    assert ask("SELECT value FROM clock") == []
    ((reason,),) = ask("SELECT moved_to FROM identity")
    assert "upgrade RuntimeDB for this process and restart it" in str(reason)


def test_the_way_back_is_refused_with_a_clear_line(upgraded: RuntimeDB, old: str, ask: Ask) -> None:
    engine = create_engine(old.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as tx:
        config = Config(attributes={"connection": tx})
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        with pytest.raises(CatalogError, match=r"can't be taken back .* restore the backup"):
            command.downgrade(config, "0006")
    assert ask("SELECT version_num FROM alembic_version") == [("0009",)]
    assert rows(upgraded, "SELECT count(*) FROM shop.main.orders") == [(4,)]
