"""What only a catalog in PostgreSQL has to stand: restarts, deadlocks, lost commits, and many writers at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import select

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.catalog import Catalog, engines, patience, publications, schema
from runtimedb_dagster.catalog import database as catalog_database
from runtimedb_dagster.catalog.database import next_sequence, transition
from runtimedb_dagster.catalog.migrations import ADVISORY_LOCK
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Lease
from runtimedb_dagster.domain.errors import (
    CatalogError,
    CatalogMovedError,
    CatalogUnavailableError,
    SupersededError,
)
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.requests import ConnectionRefreshResult
from runtimedb_dagster.domain.selection import Selection
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster_tests.support.fixtures import shop  # noqa: F401 - a source, not a row
from runtimedb_dagster_tests.support.parts import (
    LEASE,
    NO_RECIPES,
    Inside,
    SourceFile,
    await_that,
    discovered,
    long_after,
    refresh_all,
    reserve,
    rows,
    swap,
    version_of,
)
from runtimedb_dagster_tests.support.places import TEMPLATE, a_database
from runtimedb_dagster_tests.support.proxy import dying, mute_proxy, proxy
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, postgres


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    with a_database(postgres_server) as name:
        yield name


@pytest.fixture
def catalog(postgres_server: Server, database: str) -> Iterator[Catalog]:
    opened = Catalog(postgres_server.catalog_url(database))
    yield opened
    opened.close()


@pytest.fixture
def make_pg_db(postgres_server: Server, database: str, tmp_path: Path) -> Iterator[Callable[[], RuntimeDB]]:
    """Open RuntimeDBs over one catalog in PostgreSQL."""
    opened: list[RuntimeDB] = []

    def make() -> RuntimeDB:
        url = postgres_server.catalog_url(database)
        opened.append(RuntimeDB(Settings(home=tmp_path / "home", catalog_url=url, grace_period=0, threads=2)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_many_refreshes_of_one_table_at_once_leave_one_version(
    make_pg_db: Callable[[], RuntimeDB], make_source: Callable[..., SourceFile]
) -> None:
    databases = [make_pg_db() for _ in range(6)]
    source = make_source("shop", "CREATE TABLE a AS SELECT range AS v FROM range(1000)")
    databases[0].connect("shop", source.url)

    def refresh(db: RuntimeDB) -> ConnectionRefreshResult:
        result = db.refresh(RefreshRequest("shop", data=True))
        assert isinstance(result, ConnectionRefreshResult)
        return result

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(refresh, databases * 3))
    wrong = [each["error"] for result in results for each in result.errors]
    assert all("already published" in error for error in wrong), wrong
    db = databases[0]
    db.sweep(long_after(db.settings))
    inside = Inside.of(db)
    assert inside.files() == inside.live()
    assert db.verify() == []


def test_writers_of_many_tables_lose_no_swap(catalog: Catalog) -> None:
    shop = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, utc_now())
    names = [f"t{number}" for number in range(8)]
    generation = catalog.connections.begin_discovery()
    catalog.tables.record_discovery(shop, generation, discovered(*names), lambda _: NO_RECIPES, utc_now(), utc_now())

    def publish(name: str) -> int:
        lost = 0
        for _ in range(20):
            reservation = reserve(catalog, catalog.tables.get(shop, "main", name))
            try:
                swap(catalog, reservation, version_of(reservation), utc_now())
            except SupersededError:
                lost += 1
        return lost

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(publish, names)) == 0
    retired = [each for each in catalog.deletions.list() if each.reason == "replaced"]
    assert len(retired) == 8 * 19


def test_a_lease_waits_for_no_swap_and_guards_what_it_replaces(catalog: Catalog) -> None:
    """A swap that has its number, but has not committed, is either before the lease or held back by it."""
    shop = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, utc_now())
    generation = catalog.connections.begin_discovery()
    catalog.tables.record_discovery(shop, generation, discovered("t"), lambda _: NO_RECIPES, utc_now(), utc_now())
    table = catalog.tables.get(shop, "main", "t")
    first = reserve(catalog, table)
    swap(catalog, first, version_of(first), utc_now())
    second = reserve(catalog, table)
    numbered, go_on = Event(), Event()

    def swap_slowly() -> None:
        with catalog._database.write() as tx:
            next_sequence(tx)
            numbered.set()
            go_on.wait(30)

    with ThreadPoolExecutor() as pool:
        swapping = pool.submit(swap_slowly)
        assert numbered.wait(30)
        lease = pool.submit(catalog.leases.open, utc_now(), LEASE).result(30)
        assert lease.sequence == second.sequence, "it waits for nobody, and is of before the swap"
        assert _seen(catalog, lease, shop) == first.version_id
        go_on.set()
        swapping.result(30)
    swap(catalog, second, version_of(second), utc_now())
    assert catalog.deletions.claim("sweep", utc_now(), utc_now(), 10) == [], "what is replaced later is held"
    assert _seen(catalog, lease, shop) == first.version_id
    catalog.leases.close(lease)
    assert len(catalog.deletions.claim("sweep", utc_now(), utc_now(), 10)) == 1


def _seen(catalog: Catalog, lease: Lease, connection: Connection) -> str | None:
    version = catalog.leases.visible(lease, connection.id, "main", "t")
    return version.id if version else None


def test_a_deadlock_is_tried_again(catalog: Catalog) -> None:
    one = catalog.connections.add("one", "duckdb", "duckdb:///1", {}, None, utc_now())
    two = catalog.connections.add("two", "duckdb", "duckdb:///2", {}, None, utc_now())
    both, tries = Barrier(2), []

    @transition
    def touch(first: str, second: str) -> None:
        tries.append(first)
        with catalog._database.write() as tx:
            for place, identity in enumerate((first, second)):
                tx.execute(select(schema.connections).where(schema.connections.c.id == identity).with_for_update())
                if place == 0 and len(tries) <= 2:
                    both.wait(30)

    with ThreadPoolExecutor() as pool:
        list(pool.map(touch, (one.id, two.id), (two.id, one.id)))
    assert len(tries) == 3, "one of the two was the victim, and began again"


def test_a_migration_waits_for_another(postgres_server: Server, database: str) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    url = postgres_server.catalog_url(database)
    with postgres_server.begin(database) as other, ThreadPoolExecutor() as pool:
        other.cursor().execute(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        opening = pool.submit(Catalog, url)
        await_that(lambda: opening.done() or postgres_server.run(database, waiting)[0][0], "the migration to wait")
        assert not opening.done()
        other.cursor().execute("COMMIT")
        opening.result(60).close()


def test_a_restart_of_the_server_is_survived() -> None:
    with postgres() as server:
        catalog = Catalog(server.catalog_url("postgres"))
        shop = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, utc_now())
        server.stop()
        with ThreadPoolExecutor() as pool:
            listing = pool.submit(catalog.connections.list)
            opening = pool.submit(Catalog, server.catalog_url("postgres"))
            server.start()
            assert listing.result(60) == [shop]
            opening.result(60).close()
        server.stop()
        server.start()
        assert catalog.connections.list() == [shop]
        catalog.close()


@pytest.mark.parametrize(("sslmode", "silent"), [("disable", False), ("disable", True), ("require", False)])
def test_a_server_that_ends_while_it_is_connected_to_is_away(
    postgres_server: Server, database: str, sslmode: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_database, "RETRY_SECONDS", ())
    url = postgres_server.catalog_url(database) + f"?sslmode={sslmode}&gssencmode=disable"
    with dying(silent=silent) as port, pytest.raises(CatalogUnavailableError):
        Catalog(url.replace(f":{postgres_server.port}/", f":{port}/"))


def test_a_commit_that_is_lost_is_not_made_again(catalog: Catalog, postgres_server: Server, database: str) -> None:
    calls = []

    @transition
    def add() -> None:
        calls.append(1)
        with catalog._database.write() as tx:
            next_sequence(tx)
            (pid,) = tx.execute(sqlalchemy.text("SELECT pg_backend_pid()")).one()
            postgres_server.run(database, f"SELECT pg_terminate_backend({pid}, 10000)")

    with pytest.raises(CatalogError, match="lost during a commit, whose outcome is unknown") as caught:
        add()
    assert not isinstance(caught.value, CatalogUnavailableError)
    assert len(calls) == 1


@pytest.mark.parametrize("answered", [False, True])
def test_a_swap_whose_answer_is_lost_on_the_way(
    postgres_server: Server,
    database: str,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    answered: bool,
) -> None:
    """The commit takes place, or does not: the version that serves has its file, and the other file is swept."""
    source = make_source("shop", "CREATE TABLE a AS SELECT 1 AS v")
    with proxy(postgres_server.port) as between:
        url = postgres_server.catalog_url(database).replace(f":{postgres_server.port}/", f":{between.port}/")
        db = make_db(catalog_url=url, grace_period=60)
        db.connect("shop", source.url)
        refresh_all(db)
        (before,) = Inside.of(db).live()
        source.run("INSERT INTO a VALUES (10)")
        between.lose = (b"UPDATE tables", b"COMMIT" if answered else b"INSERT INTO versions")
        result = refresh_all(db)
        assert between.lost == 1
        inside = Inside.of(db)
        if answered:
            assert "whose outcome is unknown" in result.errors[0]["error"]
            # Not the new file, and not published again.
            await_that(lambda: inside.live() != {before}, "the server to have committed")
            assert inside.pending() == {before}
        else:
            assert result.errors == [], "what certainly did not take place is tried again"
        assert rows(db, "SELECT sum(v) FROM shop.main.a") == [(11,)]
        assert db.verify() == []
        db.sweep(long_after(db.settings))
        assert (inside.files(), inside.pending()) == (inside.live(), set())


@pytest.mark.parametrize("point", ["after_reserve", "before_commit", "after_commit"])
def test_the_server_restarts_before_during_and_after_a_swap(
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    source = make_source("shop", "CREATE TABLE a AS SELECT 1 AS v")
    with postgres() as server:
        url = server.catalog_url("postgres")
        with RuntimeDB(Settings(home="calm", catalog_url=url)) as calm:
            calm.connect("shop", source.url)
        # The third commit of a refresh is its swap.
        turn = 1 if point == "after_reserve" else 3
        monkeypatch.setenv(failpoints.VARIABLE, f"{point}=delay@0:{turn}")
        db = make_db(catalog_url=url, grace_period=0)
        restarted = []

        class Restarting(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                server.stop(at_once=True)
                server.start()
                restarted.append(record)

        restarting = Restarting()
        logging.getLogger(failpoints.__name__).addHandler(restarting)
        try:
            result = refresh_all(db)
        finally:
            logging.getLogger(failpoints.__name__).removeHandler(restarting)
        assert len(restarted) == 1
        if point == "before_commit":
            assert "whose outcome is unknown" in result.errors[0]["error"]
            refresh_all(db)
        else:
            assert result.errors == []
        assert rows(db, "SELECT v FROM shop.main.a") == [(1,)]
        db.sweep(long_after(db.settings))
        inside = Inside.of(db)
        assert (inside.files(), inside.pending(), db.verify()) == (inside.live(), set(), [])
        db.close()


def test_what_goes_wrong_names_the_catalog_without_its_password(postgres_server: Server) -> None:
    url = postgres_server.catalog_url("no_such_database")
    with pytest.raises(
        CatalogError, match=r"The catalog at postgresql://127\.0\.0\.1:\d+/no_such_database failed: .*does not exist"
    ) as caught:
        Catalog(url)
    wrong = url.replace("owner:", "owner:x")
    with pytest.raises(CatalogError, match="password authentication failed") as denied:
        Catalog(wrong)
    for error in (caught.value, denied.value):
        assert PASSWORD not in str(error)
        assert "canary" not in repr(error)
    with pytest.raises(CatalogUnavailableError, match="Connection refused"):
        Catalog("postgresql://owner@127.0.0.1:1/x")


def test_options_that_modify_a_version_that_is_just_published_say_so(
    catalog: Catalog, postgres_server: Server, database: str
) -> None:
    """The change waits for the row of the table, and has to look at the version that the row points at then."""
    now, masked = utc_now(), Recipes(Selection(), lambda *_: None, {"values": "masked"})
    shop = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, now)
    found = discovered("orders")
    catalog.tables.record_discovery(shop, catalog.connections.begin_discovery(), found, lambda _: NO_RECIPES, now, now)
    (orders,) = catalog.tables.list()
    made = NO_RECIPES.of("main", "orders", found[0].columns)
    first, second = reserve(catalog, orders, now), reserve(catalog, orders, now)
    swap(catalog, first, replace(version_of(first), recipe=made), now)
    other = Catalog(postgres_server.catalog_url(database))
    waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patch:
        asked: list[Future[tuple[Connection, Sequence[TableRef]]]] = []
        real = publications.retire

        def retire_while_asked(*args: Any) -> Any:
            change = other.connections.change_options
            asked.append(
                pool.submit(change, shop, lambda _: {"x": "y"}, None, lambda each: masked if each.given else NO_RECIPES)
            )
            await_that(lambda: postgres_server.run(None, waiting), "the change waits")
            return real(*args)

        patch.setattr(publications, "retire", retire_while_asked)
        swap(catalog, second, replace(version_of(second), recipe=made), now)
        _, modified = asked[0].result(60)
    other.close()
    assert [str(ref) for ref in modified] == ["shop.main.orders"]


def test_moving_a_catalog_keeps_its_history(
    db: RuntimeDB, shop: SourceFile, make_pg_db: Callable[[], RuntimeDB]
) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_all(db)
    new = make_pg_db()
    assert db.settings.storage_url == new.settings.storage_url
    copied = new.copy_catalog(db.settings.catalog_url)
    assert (copied["connections"], copied["tables"], copied["versions"], copied["pending_deletions"]) == (1, 2, 3, 1)
    assert (new.connections(), new.tables(), new.pending_deletions()) == (
        db.connections(), db.tables(), db.pending_deletions(),
    )  # fmt: skip
    assert rows(new, "SELECT count(*) FROM shop.main.orders") == [(101,)]
    shop.run("INSERT INTO orders VALUES (1001, 1)")
    refresh_all(new)
    assert new.sweep(utc_now() + timedelta(hours=3)).files_deleted == 2
    assert new.verify() == []
    with pytest.raises(CatalogMovedError, match="was moved to postgresql://127"):
        new.copy_catalog(db.settings.catalog_url)


def test_a_server_that_goes_mute_is_given_up_and_taken_up_again(
    monkeypatch: pytest.MonkeyPatch, catalog_server: Server
) -> None:
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(catalog_database, "RETRY_SECONDS", ())
    monkeypatch.setitem(engines.NETWORK, "connect_timeout", 2)
    with a_database(catalog_server, TEMPLATE) as name, mute_proxy(catalog_server.port) as between:
        catalog = Catalog(catalog_server.catalog_url(name).replace(f":{catalog_server.port}/", f":{between.port}/"))
        assert catalog.tables.list() == []
        between.mute(0, greets=False)
        with pytest.raises(CatalogUnavailableError, match="failed: it did not answer for 1 s"):
            catalog.tables.list()
        with pytest.raises(CatalogUnavailableError, match="timeout"):
            catalog.tables.list()
        between.speak()
        assert catalog.tables.list() == []
        catalog.close()


def test_nobody_waits_for_a_process_that_is_suspended_in_a_transaction(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, postgres_server: Server, database: str
) -> None:
    """Its session is idle within its transaction, whose lock on the clock everybody needs."""
    monkeypatch.setitem(engines.SESSION, "idle_in_transaction_session_timeout", "1s")
    suspended = Catalog(postgres_server.catalog_url(database))
    numbered, wake_up = Event(), Event()

    def suspend() -> None:
        with suspended._database.write() as tx:
            next_sequence(tx)
            numbered.set()
            wake_up.wait(60)

    with ThreadPoolExecutor() as pool:
        held = pool.submit(suspend)
        assert numbered.wait(30)
        assert catalog.publications.next_sequence() > 0, "the server has ended its session"
        wake_up.set()
        with pytest.raises(CatalogError):
            held.result(30)
    suspended.close()


def test_readers_that_come_and_go_do_not_hold_up_who_needs_a_number(catalog: Catalog) -> None:
    over = Event()

    def read() -> None:
        while not over.is_set():
            catalog.leases.close(catalog.leases.open(utc_now(), LEASE))

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read) for _ in range(12)]
        numbers = [catalog.publications.next_sequence() for _ in range(50)]
        over.set()
        for reader in readers:
            reader.result(60)
    assert numbers == sorted(numbers)
