"""The catalog: its migrations, and every transition on a real SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from runtimedb_dagster import Connection, Table, failpoints
from runtimedb_dagster.catalog import Catalog, database, migrations, new_id, schema
from runtimedb_dagster.errors import (
    CatalogError,
    ConfigurationError,
    ConnectionNotFoundError,
    DiscoveryRefusedError,
    RefreshError,
    ReservationLostError,
    SupersededError,
    TableNotFoundError,
)
from runtimedb_dagster.model import Column, DiscoveredTable, DiscoveryChanges, PendingDeletion, TableRef
from runtimedb_dagster_tests.core.places import a_database
from runtimedb_dagster_tests.core.support import (
    LEASE,
    discovered,
    python,
    reserve,
    version_of,
)
from runtimedb_dagster_tests.servers import Server

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
GRACE = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
CLAIM = timedelta(minutes=5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, file: Path) -> Iterator[str]:
    """Where a catalog is kept, one after the other."""
    if request.param == "sqlite":
        yield f"sqlite:///{file}"
        return
    server: Server = request.getfixturevalue("postgres_server")
    with a_database(server) as database:
        yield server.catalog_url(database)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog(url)
    yield opened
    opened.close()


@pytest.fixture
def shop(catalog: Catalog) -> Connection:
    return catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, NOW)


@pytest.fixture
def orders(catalog: Catalog, shop: Connection) -> Table:
    discover(catalog, shop, discovered("orders", "customers"))
    return catalog.tables.get(shop, "main", "orders")


def discover(
    catalog: Catalog, connection: Connection, found: list[DiscoveredTable], *, confirm: bool = False
) -> DiscoveryChanges:
    """Record a discovery that starts now."""
    generation = catalog.connections.begin_discovery()
    return catalog.tables.record_discovery(connection, generation, found, NOW, NOW + GRACE, confirm=confirm)


def publish(catalog: Catalog, table: Table) -> str:
    """Swap in a new version; its path."""
    reservation = reserve(catalog, table, NOW)
    catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    return reservation.path


def claim(catalog: Catalog, now: datetime, by: str = "sweep", limit: int = 100) -> list[PendingDeletion]:
    return list(catalog.deletions.claim(by, now, now + CLAIM, limit))


def version_path_of(catalog: Catalog, table: Table) -> str | None:
    """The path that a table points at now."""
    found = next(each for each in catalog.tables.list() if each.id == table.id)
    return found.version.path if found.version else None


# Migrations


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


def test_the_head_is_the_newest_revision() -> None:
    assert script().get_heads() == [migrations.HEAD]


def ask(url: str, *statements: str) -> list[Any]:
    """Run statements on a catalog's database beside the catalog; the rows of the last."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def revision(url: str) -> str:
    ((number,),) = ask(url, "select version_num from alembic_version")
    return str(number)


@pytest.mark.usefixtures("catalog")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_what_the_schema_says(url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, schema.metadata)
        assert context.get_current_revision() == migrations.HEAD
    engine.dispose()
    # An index on an expression is no matter of the schema's columns.
    allowed = {"uq_connections_name_folded"}
    assert [each for each in differences if each[0] != "remove_index" or each[1].name not in allowed] == []


def test_opening_again_changes_nothing(url: str) -> None:
    first = Catalog(url)
    connection = first.connections.add("shop", "duckdb", "duckdb:///shop", {"a": "b"}, "VAR", NOW)
    first.close()
    second = Catalog(url)
    assert second.connections.list() == [connection]
    second.close()


def test_the_catalog_is_private(file: Path) -> None:
    Catalog(f"sqlite:///{file}").close()
    assert file.stat().st_mode & 0o777 == 0o600


OPEN = """if True:
    import sys
    from runtimedb_dagster.catalog import Catalog
    print("ready", flush=True)
    sys.stdin.readline()
    catalog = Catalog(sys.argv[1])
    print(len(catalog.connections.list()))
    catalog.close()
"""


def test_four_processes_open_an_empty_catalog_at_once(url: str) -> None:
    processes = [python(OPEN, url) for _ in range(4)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) for process in processes] == [("0\n", "")] * 4
    assert revision(url) == migrations.HEAD


def test_a_new_catalog_is_opened_while_another_process_has_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("ROLLBACK")

        monkeypatch.setattr(database, "sleep", wait)
        monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)
        Catalog(f"sqlite:///{tmp_path}/catalog.db").close()
    assert waits == [database.LOCKED_SECONDS]


def test_threads_open_different_new_catalogs_at_once(tmp_path: Path) -> None:
    """Alembic itself can't: one got the other's tables."""
    together = threading.Barrier(8)

    def tables(number: int) -> list[str]:
        together.wait()
        url = f"sqlite:///{tmp_path}/{number}.db"
        with closing(Catalog(url)):
            pass
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as opened:
            return [name for (name,) in opened.execute("SELECT name FROM sqlite_master ORDER BY name")]

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(tables, range(8))
    assert "versions" in first
    assert others == [first] * 7


DIE_AFTER_THE_FIRST_REVISION = """if True:
    import os, sys
    from sqlalchemy import Engine, event
    from runtimedb_dagster.catalog import Catalog

    @event.listens_for(Engine, "before_cursor_execute")
    def die(connection, cursor, statement, parameters, context, executemany):
        if "CREATE TABLE pending_deletions" in statement:
            os._exit(9)

    Catalog(sys.argv[1])
"""


def test_a_migration_killed_in_the_middle_leaves_the_catalog_whole(url: str) -> None:
    process = python(DIE_AFTER_THE_FIRST_REVISION, url)
    process.communicate(timeout=60)
    assert process.returncode == 9
    listed = "information_schema.tables where table_schema = 'public'" if "postgresql" in url else "sqlite_master"
    assert ask(url, f"select * from {listed}") == []

    catalog = Catalog(url)

    assert catalog.connections.list() == []
    catalog.close()
    assert revision(url) == migrations.HEAD


def test_a_catalog_of_a_newer_release_is_refused(url: str) -> None:
    Catalog(url).close()
    ask(url, "update alembic_version set version_num = '9999'")
    with pytest.raises(CatalogError, match=rf"reads up to {migrations.HEAD}.*Upgrade RuntimeDB"):
        Catalog(url)
    assert revision(url) == "9999"


def test_what_is_no_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_text("no database at all" * 100)
    with pytest.raises(CatalogError, match=r"The catalog at sqlite:////.*junk\.db failed"):
        Catalog(f"sqlite:///{tmp_path}/junk.db")
    with pytest.raises(CatalogError, match=r"can't be made at .*junk\.db/catalog\.db"):
        Catalog(f"sqlite:///{tmp_path}/junk.db/catalog.db")


@pytest.mark.parametrize("wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:hidden@host/db"])
def test_a_url_of_no_file_is_refused_without_its_secret(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="atalog") as caught:
        Catalog(wrong)
    assert "hidden" not in str(caught.value)


# Times


def test_a_time_without_a_zone_is_refused(catalog: Catalog) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(Exception, match="aware times only"):
        catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, naive)
    assert catalog.connections.list() == []


def test_a_time_comes_back_as_the_same_instant_in_utc(catalog: Catalog) -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, NOW.astimezone(zone))
    created = catalog.connections.get("shop").created_at
    assert created == NOW
    assert created.utcoffset() == timedelta(0)


# Connections


def test_a_connection_is_found_by_name_and_id(catalog: Catalog, shop: Connection) -> None:
    assert catalog.connections.get("shop") == catalog.connections.get(shop.id) == shop
    with pytest.raises(ConnectionNotFoundError, match=r"^Connection 'x' not found$"):
        catalog.connections.get("x")


@pytest.mark.parametrize("name", ["shop", "SHOP"])
@pytest.mark.usefixtures("shop")
def test_a_name_is_taken_in_any_case(catalog: Catalog, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' can't be added: 'shop' exists"):
        catalog.connections.add(name, "duckdb", "duckdb:///x", {}, None, NOW)
    assert len(catalog.connections.list()) == 1


def test_one_of_many_that_add_a_name_at_once_wins(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(name: str) -> bool:
        try:
            catalog.connections.add(name, "duckdb", "duckdb:///x", {}, None, NOW)
        except ConfigurationError:
            return False
        return True

    monkeypatch.setenv(failpoints.VARIABLE, "before_commit=delay@0.3:1")  # the others come before the first is done
    failpoints.arm()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, ["shop", "SHOP"] * 4)) == 1
    monkeypatch.undo()
    failpoints.arm()
    assert len(catalog.connections.list()) == 1


def test_removing_a_connection_schedules_its_files(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    assert catalog.connections.remove(shop, NOW + GRACE) == 2
    assert catalog.connections.list() == []
    assert catalog.tables.list() == []
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "connection removed", NOW + GRACE)
    with pytest.raises(ConnectionNotFoundError):
        catalog.connections.remove(shop, NOW)


# Reserve, swap, keep, abandon, purge


def test_a_reserved_file_is_scheduled_for_deletion(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.delete_after) == (reservation.path, NOW + LEASE)
    assert (pending.reason, pending.table, pending.attempts) == ("not published", "shop.main.orders", 0)
    assert version_path_of(catalog, orders) is None


def test_later_reservations_have_greater_generations(catalog: Catalog, orders: Table) -> None:
    generations = [reserve(catalog, orders, NOW).generation for _ in range(3)]
    assert generations == sorted(set(generations))


def test_a_renewed_reservation_is_due_later(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.versions.renew(reservation, NOW + 2 * LEASE)
    assert claim(catalog, NOW + LEASE + SECOND) == []
    assert len(claim(catalog, NOW + 2 * LEASE)) == 1


def test_a_swap_rescues_the_new_file_and_schedules_the_old(catalog: Catalog, orders: Table) -> None:
    old = publish(catalog, orders)
    assert catalog.deletions.list() == []
    new = publish(catalog, orders)
    assert version_path_of(catalog, orders) == new
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.delete_after, pending.reason) == (old, NOW + GRACE, "replaced")


def test_a_refresh_that_started_earlier_cannot_overwrite_a_later_one(catalog: Catalog, orders: Table) -> None:
    slow, fast = reserve(catalog, orders, NOW), reserve(catalog, orders, NOW)
    catalog.versions.swap(fast, version_of(fast), NOW + GRACE)
    with pytest.raises(SupersededError, match=r"shop\.main\.orders"):
        catalog.versions.swap(slow, version_of(slow), NOW + GRACE)
    assert version_path_of(catalog, orders) == fast.path
    assert [pending.path for pending in catalog.deletions.list()] == [slow.path]


def test_a_refresh_that_started_before_a_later_one_kept_its_version_is_superseded(
    catalog: Catalog, orders: Table
) -> None:
    first = reserve(catalog, orders, NOW)
    catalog.versions.swap(first, version_of(first), NOW + GRACE)
    slow, fast = reserve(catalog, orders, NOW), reserve(catalog, orders, NOW)
    assert catalog.versions.keep(fast, version_of(first), NOW)
    with pytest.raises(SupersededError):
        catalog.versions.swap(slow, version_of(slow), NOW + GRACE)
    assert version_path_of(catalog, orders) == first.path


def test_a_file_that_a_sweep_has_claimed_is_not_published(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    assert len(claim(catalog, NOW + LEASE)) == 1
    with pytest.raises(ReservationLostError, match=r"write lease"):
        catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    assert version_path_of(catalog, orders) is None
    assert [pending.path for pending in catalog.deletions.list()] == [reservation.path]


@pytest.mark.parametrize("ending", ["finished", "put off", "expired"])
def test_nor_is_it_after_the_sweep_ended(catalog: Catalog, orders: Table, ending: str) -> None:
    reservation = reserve(catalog, orders, NOW)
    (deletion,) = claim(catalog, NOW + LEASE)
    if ending == "finished":
        catalog.deletions.finish([deletion], "sweep")
    elif ending == "put off":
        catalog.deletions.put_off(deletion, "sweep", "no", NOW + 2 * LEASE)
    with pytest.raises(ReservationLostError):
        catalog.versions.renew(reservation, NOW + 3 * LEASE)
    with pytest.raises(ReservationLostError):
        catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    assert version_path_of(catalog, orders) is None


def test_a_table_dropped_during_its_refresh_keeps_the_reservation(
    catalog: Catalog, shop: Connection, orders: Table
) -> None:
    reservation = reserve(catalog, orders, NOW)
    discover(catalog, shop, discovered("customers"))
    with pytest.raises(RefreshError, match=r"shop\.main\.orders was dropped while it was refreshed"):
        catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    assert [pending.path for pending in catalog.deletions.list()] == [reservation.path]


def test_a_table_dropped_and_made_again_during_its_refresh_is_another(
    catalog: Catalog, shop: Connection, orders: Table
) -> None:
    reservation = reserve(catalog, orders, NOW)
    discover(catalog, shop, discovered("customers"))
    discover(catalog, shop, discovered("orders", "customers"))
    with pytest.raises(RefreshError, match="dropped"):
        catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    assert not catalog.tables.get(shop, "main", "orders").cached


def test_keeping_leaves_the_version_and_gives_the_new_file_to_the_sweep(catalog: Catalog, orders: Table) -> None:
    first = reserve(catalog, orders, NOW)
    version = version_of(first)
    catalog.versions.swap(first, version, NOW + GRACE)
    again = reserve(catalog, orders, NOW)

    assert catalog.versions.keep(again, version, NOW + SECOND)

    kept = catalog.tables.list()[1].version
    assert kept == replace(version, checked_at=NOW + SECOND, generation=again.generation)
    assert [deletion.path for deletion in claim(catalog, NOW + SECOND)] == [again.path]


def test_a_version_that_was_replaced_meanwhile_is_not_kept(catalog: Catalog, orders: Table) -> None:
    first = reserve(catalog, orders, NOW)
    catalog.versions.swap(first, version_of(first), NOW + GRACE)
    second = reserve(catalog, orders, NOW)
    catalog.versions.swap(second, version_of(second), NOW + GRACE)
    third = reserve(catalog, orders, NOW)
    assert not catalog.versions.keep(third, version_of(first), NOW)
    assert {each.path: each.delete_after for each in catalog.deletions.list()}[third.path] == NOW + LEASE


def test_an_abandoned_file_is_due_at_once(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.versions.abandon(reservation, NOW)
    assert [deletion.path for deletion in claim(catalog, NOW)] == [reservation.path]


def test_a_file_abandoned_after_its_sweep_is_swept_again(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.deletions.finish(claim(catalog, NOW + LEASE), "sweep")
    catalog.versions.abandon(reservation, NOW)
    assert [(each.path, each.delete_after) for each in catalog.deletions.list()] == [(reservation.path, NOW)]


def test_a_file_abandoned_during_its_sweep_is_swept_again(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    claimed = claim(catalog, NOW + LEASE)
    catalog.versions.abandon(reservation, NOW)
    catalog.deletions.finish(claimed, "sweep")
    assert [each.path for each in catalog.deletions.list()] == [reservation.path]
    assert [each.path for each in catalog.deletions.claim("other", NOW, NOW + GRACE, 10)] == [reservation.path]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_published_file_is_not_abandoned(catalog: Catalog, orders: Table, replaced: bool) -> None:
    """As when the answer to its commit was lost: neither it nor its grace period goes."""
    reservation = reserve(catalog, orders, NOW)
    catalog.versions.swap(reservation, version_of(reservation), NOW + GRACE)
    if replaced:
        later = reserve(catalog, orders, NOW)
        catalog.versions.swap(later, version_of(later), NOW + GRACE)
    before = catalog.deletions.list()
    catalog.versions.abandon(reservation, NOW)
    assert catalog.deletions.list() == before


def test_a_file_that_repeats_the_current_version_is_swept_again_if_it_was_before(
    catalog: Catalog, orders: Table
) -> None:
    first = reserve(catalog, orders, NOW)
    catalog.versions.swap(first, version_of(first), NOW + GRACE)
    again = reserve(catalog, orders, NOW)
    catalog.deletions.finish(claim(catalog, NOW + LEASE), "sweep")
    assert catalog.versions.keep(again, version_of(first), NOW)
    assert [(each.path, each.delete_after) for each in catalog.deletions.list()] == [(again.path, NOW)]


def test_a_purge_forgets_the_data_and_keeps_the_rows(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    assert catalog.versions.purge(shop, catalog.tables.list(shop), NOW + GRACE) == 1
    assert [table.cached for table in catalog.tables.list(shop)] == [False, False]
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "purged", NOW + GRACE)
    assert catalog.versions.purge(shop, catalog.tables.list(shop), NOW) == 0


def test_a_write_that_fails_changes_nothing(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    other = reserve(catalog, orders, NOW)
    catalog.versions.swap(other, version_of(other), NOW)
    newer = reserve(catalog, orders, NOW)
    taken = replace(version_of(newer), path=other.path)
    with pytest.raises(CatalogError):
        catalog.versions.swap(newer, taken, NOW)
    assert version_path_of(catalog, orders) == other.path
    assert {pending.path for pending in catalog.deletions.list()} == {reservation.path, newer.path}


# Discovery


def test_a_discovery_adds_removes_and_modifies(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b", "c"))
    wider = discovered("b", columns=(Column("i", "BIGINT"),))

    changes = discover(catalog, shop, [*discovered("a", "d"), *wider])

    refs = {name: TableRef("shop", "main", name) for name in "abcd"}
    assert changes == DiscoveryChanges(3, added=(refs["d"],), removed=(refs["c"],), modified=(refs["b"],))
    assert [table.ref for table in catalog.tables.list(shop)] == [refs["a"], refs["b"], refs["d"]]
    assert catalog.tables.get(shop, "main", "b").columns == (Column("i", "BIGINT"),)
    with pytest.raises(TableNotFoundError, match=r"Table 'shop\.main\.c' not found"):
        catalog.tables.get(shop, "main", "c")


@pytest.mark.parametrize(
    ("columns", "modified"),
    [
        ((Column("i", "INTEGER"), Column("j", "DATE")), True),
        ((Column("k", "INTEGER"),), True),
        ((Column("i", "INTEGER", nullable=False),), True),
        ((Column("i", "INTEGER", comment="new"),), False),
    ],
)
def test_columns_are_compared_as_schemas(
    catalog: Catalog, shop: Connection, columns: tuple[Column, ...], modified: bool
) -> None:
    discover(catalog, shop, discovered("a"))
    assert bool(discover(catalog, shop, discovered("a", columns=columns)).modified) is modified
    assert catalog.tables.get(shop, "main", "a").columns == columns


def test_an_unchanged_discovery_changes_nothing(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b"))
    before = catalog.tables.list()
    assert discover(catalog, shop, discovered("a", "b")) == DiscoveryChanges(2)
    assert catalog.tables.list() == before


def test_a_table_that_changed_or_stayed_keeps_its_version(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    discover(catalog, shop, discovered("orders", "customers", columns=(Column("new", "DATE"),)))
    assert version_path_of(catalog, orders) == path
    assert catalog.deletions.list() == []


def test_the_file_of_a_table_that_is_gone_is_scheduled(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    discover(catalog, shop, discovered("customers"))
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "table dropped", NOW + GRACE)


@pytest.mark.parametrize(("left", "message"), [([], "no tables at all"), (["a"], "2 of 3 tables")])
def test_a_drastic_discovery_is_refused_until_confirmed(
    catalog: Catalog, shop: Connection, left: list[str], message: str
) -> None:
    discover(catalog, shop, discovered("a", "b", "c"))
    with pytest.raises(DiscoveryRefusedError, match=message):
        discover(catalog, shop, discovered(*left))
    assert len(catalog.tables.list()) == 3
    assert len(discover(catalog, shop, discovered(*left), confirm=True).removed) == 3 - len(left)
    assert [table.table_name for table in catalog.tables.list()] == left


def test_exactly_half_may_go(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b"))
    assert len(discover(catalog, shop, discovered("a")).removed) == 1


def test_a_first_discovery_that_finds_nothing_is_refused(catalog: Catalog, shop: Connection) -> None:
    with pytest.raises(DiscoveryRefusedError, match="no tables at all"):
        discover(catalog, shop, [])
    assert catalog.connections.get("shop").discovered_at is None


def test_a_slow_older_discovery_changes_nothing(catalog: Catalog, shop: Connection) -> None:
    slow = catalog.connections.begin_discovery()
    discover(catalog, shop, discovered("new"))
    changes = catalog.tables.record_discovery(shop, slow, discovered("old"), NOW, NOW)
    assert (changes.added, changes.removed, changes.modified) == ((), (), ())
    assert [table.table_name for table in catalog.tables.list()] == ["new"]


def test_the_error_of_a_discovery_stays_until_one_succeeds(catalog: Catalog, shop: Connection) -> None:
    catalog.connections.record_discovery_failure(shop, "unreachable")
    assert catalog.connections.get("shop").discovery_error == "unreachable"
    discover(catalog, shop, discovered("a"))
    found = catalog.connections.get("shop")
    assert (found.discovery_error, found.discovered_at) == (None, NOW)


def test_a_removed_connection_can_not_be_discovered(catalog: Catalog, shop: Connection) -> None:
    catalog.connections.remove(shop, NOW)
    with pytest.raises(ConnectionNotFoundError):
        discover(catalog, shop, discovered("a"))
    assert catalog.tables.list() == []


def test_addresses_are_to_the_letter(catalog: Catalog, shop: Connection) -> None:
    names = ["T", "t", "é", "e\u0301", "a b", "x.y", "'; drop table tables; --", "\U0001f600"]
    discover(catalog, shop, discovered(*names))
    assert {table.table_name for table in catalog.tables.list()} == set(names)
    assert [catalog.tables.get(shop, "main", name).table_name for name in names] == names


# Leases and deletions


def test_a_lease_sees_the_version_of_its_moment(catalog: Catalog, shop: Connection, orders: Table) -> None:
    before = catalog.leases.open(NOW, GRACE)
    old = publish(catalog, orders)
    between = catalog.leases.open(NOW, GRACE)
    new = publish(catalog, orders)
    after = catalog.leases.open(NOW, GRACE)

    seen = [catalog.leases.visible(lease, shop.id, "main", "orders") for lease in (before, between, after)]

    assert [version.path if version else None for version in seen] == [None, old, new]
    assert catalog.leases.visible_like(between, shop.id, "MAIN", "Orders") == [("main", "orders")]
    assert catalog.leases.visible(between, shop.id, "MAIN", "Orders") is None


@pytest.mark.parametrize("how", ["replaced", "purged", "dropped", "removed"])
def test_a_lease_holds_what_goes_until_it_is_closed(
    catalog: Catalog, shop: Connection, orders: Table, how: str
) -> None:
    path = publish(catalog, orders)
    lease = catalog.leases.open(NOW, timedelta(hours=1))
    if how == "replaced":
        publish(catalog, orders)
    elif how == "purged":
        catalog.versions.purge(shop, [orders], NOW + GRACE)
    elif how == "dropped":
        discover(catalog, shop, discovered("customers"))
    else:
        catalog.connections.remove(shop, NOW + GRACE)

    due = NOW + GRACE
    assert claim(catalog, due) == []
    assert catalog.deletions.count_due(due) == 0
    held = catalog.leases.visible(lease, shop.id, "main", "orders")
    assert held is not None
    assert held.path == path
    catalog.leases.close(lease)
    assert catalog.deletions.count_due(due) == 1
    assert [deletion.path for deletion in claim(catalog, due)] == [path]


def test_a_lease_that_is_over_holds_nothing_and_is_not_renewed(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    lease = catalog.leases.open(NOW, 2 * GRACE)
    publish(catalog, orders)
    assert claim(catalog, NOW + 2 * GRACE - SECOND) == []
    assert catalog.leases.renew(lease, NOW + GRACE, 2 * GRACE)
    assert claim(catalog, NOW + 3 * GRACE - SECOND) == []
    assert not catalog.leases.renew(lease, NOW + 3 * GRACE, 2 * GRACE)
    assert len(claim(catalog, NOW + 3 * GRACE)) == 1


def test_a_lease_does_not_hold_files_that_were_never_published(catalog: Catalog, orders: Table) -> None:
    catalog.leases.open(NOW, timedelta(hours=1))
    reservation = reserve(catalog, orders, NOW)
    catalog.versions.abandon(reservation, NOW)
    assert len(claim(catalog, NOW)) == 1


def test_two_sweeps_share_the_work(catalog: Catalog, orders: Table) -> None:
    expected = {publish(catalog, orders) for _ in range(40)}
    publish(catalog, orders)

    def sweep(token: str) -> list[str]:
        paths: list[str] = []
        while batch := claim(catalog, NOW + GRACE, token, limit=3):
            paths += [deletion.path for deletion in batch]
        return paths

    with ThreadPoolExecutor(4) as pool:
        claimed = [path for paths in pool.map(sweep, [new_id() for _ in range(4)]) for path in paths]

    assert len(claimed) == len(expected)
    assert set(claimed) == expected


def test_the_claim_of_a_sweep_that_died_runs_out(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    assert len(claim(catalog, due, "dead")) == 1
    assert claim(catalog, due + CLAIM, "next") == []
    assert len(claim(catalog, due + CLAIM + SECOND, "next")) == 1


def test_only_the_sweep_that_claimed_a_row_can_finish_it(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    (deletion,) = claim(catalog, NOW + GRACE, "mine")
    catalog.deletions.finish([deletion], "another")
    catalog.deletions.put_off(deletion, "another", "no", NOW)
    assert [(each.path, each.attempts) for each in catalog.deletions.list()] == [(deletion.path, 0)]
    catalog.deletions.finish([deletion], "mine")
    assert catalog.deletions.list() == []


def test_a_deletion_that_is_put_off_comes_back_later(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    (deletion,) = claim(catalog, due)
    catalog.deletions.put_off(deletion, "sweep", "busy", due + 30 * SECOND)
    assert claim(catalog, due + 29 * SECOND) == []
    (again,) = claim(catalog, due + 30 * SECOND)
    assert (again.path, again.attempts, again.last_error) == (deletion.path, 1, "busy")


def test_paths_that_tables_point_at_are_told(catalog: Catalog, orders: Table) -> None:
    old, new = publish(catalog, orders), publish(catalog, orders)
    assert catalog.deletions.pointed_at([old, new, "other"]) == {new}


def test_only_one_path_can_be_claimed_on_demand(catalog: Catalog, orders: Table) -> None:
    first, second = publish(catalog, orders), publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    assert [d.path for d in catalog.deletions.claim("sweep", due, due + CLAIM, 10, second)] == [second]
    assert [d.path for d in claim(catalog, due)] == [first]
