"""Refresh: the request's five forms, isolation of failures, and what is left after the worst."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from runtimedb_dagster import RefreshRequest, RuntimeDB
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn, schema_changes
from runtimedb_dagster.domain.errors import (
    ConnectionNotFoundError,
    RefreshError,
    RequestError,
    ReservationLostError,
    SupersededError,
    TableNotFoundError,
)
from runtimedb_dagster.domain.outcomes import Progress, Published
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, DiscoveryResult
from runtimedb_dagster.engine import parquet
from runtimedb_dagster_tests.support.parts import (
    ENDLESS,
    Inside,
    SourceFile,
    await_that,
    current,
    environment,
    long_after,
    output_of,
    path_of,
    python,
    rediscover,
    refresh_all,
    refresh_one,
    refreshed,
    rows,
    the_table,
)
from runtimedb_dagster_tests.support.places import every_storage, everywhere

OVERSIZED = "INSERT INTO wide VALUES (170141183460469231731687303715884105727)"


# The request


def test_no_fields_discover_every_connection(
    db: RuntimeDB, shop: SourceFile, make_source: Callable[..., SourceFile]
) -> None:
    other = make_source("other", "CREATE TABLE t (i INTEGER)")
    db.connect("other", other.url)
    shop.run("CREATE TABLE new (i INTEGER)")
    other.run("ALTER TABLE t ADD COLUMN j INTEGER")

    result = rediscover(db, None)

    assert result == DiscoveryResult(
        connections_refreshed=2, tables_discovered=4, tables_added=1, tables_removed=0, tables_modified=1
    )
    assert not any(table.cached for table in db.tables())


def test_one_connection_that_fails_stops_no_other(
    db: RuntimeDB, shop: SourceFile, make_source: Callable[..., SourceFile]
) -> None:
    gone = make_source("gone", "CREATE TABLE t (i INTEGER)")
    connection = db.connect("gone", gone.url)
    gone.path.unlink()
    shop.run("CREATE TABLE new (i INTEGER)")

    result = rediscover(db, None)

    assert (result.connections_refreshed, result.connections_failed, result.tables_added) == (1, 1, 1)
    (error,) = result.errors
    assert error["connection_id"] == connection.id
    assert "gone" in error["error"]
    assert [table.table_name for table in db.tables("gone")] == ["t"]


def test_a_connection_alone_discovers_it(db: RuntimeDB, shop: SourceFile) -> None:
    shop.run("DROP TABLE customers", "CREATE TABLE a (i INTEGER)", "CREATE TABLE b (i INTEGER)")

    assert rediscover(db) == DiscoveryResult(
        connections_refreshed=1, tables_discovered=3, tables_added=2, tables_removed=1
    )
    assert [table.table_name for table in db.tables("shop")] == ["a", "b", "orders"]


@everywhere
def test_a_table_gets_a_version(db: RuntimeDB, shop: SourceFile) -> None:
    result = refresh_one(db, "orders")

    assert result.connection_id == db.connections()[0].id
    assert (result.schema_name, result.table_name, result.rows_synced) == ("main", "orders", 100)
    assert rows(db, "SELECT * FROM shop.main.orders ORDER BY id") == shop.run("SELECT * FROM orders ORDER BY id")
    assert not the_table(db, "customers").cached


@everywhere
def test_a_connection_with_data_refreshes_all_its_tables(db: RuntimeDB, shop: SourceFile) -> None:
    result = refresh_all(db)

    assert (result.tables_refreshed, result.tables_failed, result.total_rows) == (2, 0, 110)
    assert result.errors == []
    assert rows(db, "SELECT count(*) FROM shop.main.customers") == shop.run("SELECT count(*) FROM customers")


@everywhere
def test_only_cached_leaves_out_tables_without_a_version(db: RuntimeDB, shop: SourceFile) -> None:
    refresh_one(db, "orders")
    shop.run("INSERT INTO orders VALUES (1000, 1)")

    result = db.refresh(RefreshRequest("shop", data=True, include_uncached=False))

    assert isinstance(result, ConnectionRefreshResult)
    assert (result.tables_refreshed, result.total_rows) == (1, 101)
    assert not the_table(db, "customers").cached


def test_some_tables_by_their_partition_keys(db: RuntimeDB, shop: SourceFile) -> None:
    shop.run('CREATE TABLE "a.b" AS SELECT 7 AS i')
    rediscover(db)
    key = the_table(db, "a.b").ref.partition_key

    result = db.refresh(RefreshRequest("shop", data=True, partition_keys=[key, "main.orders", key]))

    assert isinstance(result, ConnectionRefreshResult)
    assert (result.tables_refreshed, result.total_rows) == (2, 101)
    assert not the_table(db, "customers").cached


def test_a_reading_that_takes_too_long_is_ended(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("slow", f"CREATE VIEW slow AS {ENDLESS}", "CREATE TABLE quick AS SELECT 1 AS i")
    db.connect("shop", source.url, options={"read_timeout": 0.5})
    result = refresh_all(db)
    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    assert "it took longer than 0.5 s; raise the option read_timeout" in result.errors[0]["error"]


@pytest.mark.usefixtures("shop")
def test_an_unknown_partition_key_is_refused_before_any_work(db: RuntimeDB, inside: Inside) -> None:
    for key in ("main.nothing", "nonsense"):
        with pytest.raises(TableNotFoundError, match=rf"^Table 'shop\.{key}' not found"):
            db.refresh(RefreshRequest("shop", data=True, partition_keys=["main.orders", key]))
    assert inside.files() == inside.pending() == set()


@pytest.mark.usefixtures("shop")
def test_a_connection_is_named_by_its_id_too(db: RuntimeDB) -> None:
    identity = db.connections()[0].id
    assert refresh_one(db, "orders", identity).rows_synced == 100


@pytest.mark.usefixtures("shop")
def test_what_is_unknown_is_refused_by_name(db: RuntimeDB) -> None:
    with pytest.raises(ConnectionNotFoundError, match=r"^Connection 'x' not found$"):
        db.refresh(RefreshRequest("x", data=True))
    with pytest.raises(TableNotFoundError, match=r"^Table 'shop\.main\.nothing' not found"):
        db.refresh(RefreshRequest("shop", "main", "nothing", data=True))


@pytest.mark.usefixtures("shop")
def test_a_meaningless_request_does_nothing(db: RuntimeDB, inside: Inside) -> None:
    with pytest.raises(RequestError, match="data refresh with schema_name requires table_name"):
        db.refresh(RefreshRequest("shop", "main", data=True))
    assert inside.files() == inside.pending() == set()


# Versions


@everywhere
@pytest.mark.usefixtures("shop")
def test_unchanged_content_keeps_the_version(db: RuntimeDB, inside: Inside) -> None:
    refresh_one(db, "orders")
    before, checked = current(db, "orders"), the_table(db, "orders").checked_at

    refresh_one(db, "orders")

    assert current(db, "orders") == before
    assert checked is not None
    assert (the_table(db, "orders").checked_at or checked) > checked
    assert inside.files() == {path_of(before)}
    assert inside.pending() == set()


def test_the_order_of_rows_changes_nothing(db: RuntimeDB, shop: SourceFile) -> None:
    refresh_one(db, "orders")
    before = current(db, "orders")
    shop.run("CREATE OR REPLACE TABLE orders AS SELECT * FROM orders ORDER BY id DESC")

    refresh_one(db, "orders")

    assert current(db, "orders").id == before.id


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE orders SET amount = 7 WHERE id = 5",
        "INSERT INTO orders SELECT * FROM orders WHERE id = 5",
        "UPDATE orders SET amount = NULL WHERE id = 5",
        "DELETE FROM orders",
        "ALTER TABLE orders RENAME amount TO price",
        "ALTER TABLE orders ALTER id TYPE INTEGER",
    ],
)
def test_changed_content_is_swapped_in_and_the_old_file_swept(
    db: RuntimeDB, shop: SourceFile, inside: Inside, change: str
) -> None:
    refresh_one(db, "orders")
    old = current(db, "orders")
    shop.run(change)

    refresh_one(db, "orders")

    new = current(db, "orders")
    assert rows(db, "FROM shop.main.orders ORDER BY 1") == shop.run("FROM orders ORDER BY 1")
    assert inside.files() == {path_of(old), path_of(new)}
    assert inside.pending() == {path_of(old)}
    assert db.sweep().files_deleted == 1
    assert inside.files() == inside.live() == {path_of(new)}


@everywhere
def test_a_replaced_file_stays_for_the_grace_period(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile]
) -> None:
    db = make_db(grace_period=60)
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    source.run("INSERT INTO orders VALUES (2)")
    refresh_one(db, "orders")

    assert db.sweep(utc_now() + timedelta(seconds=50)).files_deleted == 0
    assert db.sweep(utc_now() + timedelta(seconds=61)).files_deleted == 1


@everywhere
def test_an_empty_table_has_its_columns(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    db.connect("shop", make_source("shop", "CREATE TABLE empty (i INTEGER NOT NULL, t VARCHAR)").url)

    assert refresh_one(db, "empty").rows_synced == 0

    with db.query() as query:
        relation = query.sql("SELECT * FROM shop.main.empty")
        assert (relation.columns, relation.fetchall()) == (["i", "t"], [])
    assert [column.nullable for column in current(db, "empty").columns] == [False, True]


def test_columns_that_changed_are_named(db: RuntimeDB, shop: SourceFile) -> None:
    refresh_all(db)
    shop.run("ALTER TABLE orders ADD COLUMN day DATE", "ALTER TABLE orders ALTER id TYPE INTEGER")

    (outcome,) = refreshed(db, [the_table(db, "orders")])

    assert isinstance(outcome, Published)
    assert outcome.schema_changes == ("id: BIGINT is now INTEGER", "day: new (DATE)")


def test_schema_changes_in_words() -> None:
    before = [
        VersionColumn("a", "INTEGER"),
        VersionColumn("b", "VARCHAR", source_type="INTERVAL"),
        VersionColumn("c", "DATE"),
    ]
    after: list[VersionColumn | SourceColumn] = [
        VersionColumn("c", "DATE", nullable=False),
        VersionColumn("b", "VARCHAR", mask="sha256"),
        SourceColumn("d", "DATE"),
    ]
    assert schema_changes(before, after) == (
        "a: gone",
        "c: DATE is now DATE NOT NULL",
        "b: INTERVAL is now VARCHAR masked by sha256",
        "d: new (DATE)",
    )
    assert schema_changes(before, before) == ()
    assert schema_changes(before, before[::-1]) == ("the order of the columns",)


@pytest.mark.usefixtures("shop")
def test_progress_ends_with_every_table_done(db: RuntimeDB) -> None:
    seen = [event for event in db.events(RefreshRequest("shop", data=True)) if isinstance(event, Progress)]
    assert (seen[-1].tables_done, seen[-1].tables, seen[-1].rows, seen[-1].reading) == (2, 2, 110, ())


# Failures


@everywhere
def test_one_table_that_fails_stops_no_other_and_its_old_version_serves(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    shop.run("CREATE TABLE wide (n HUGEINT)", "INSERT INTO wide VALUES (1)")
    rediscover(db)
    refresh_all(db)
    kept = current(db, "wide")
    shop.run(OVERSIZED, "INSERT INTO orders VALUES (1000, 1)", "INSERT INTO customers VALUES (1000, 'x')")

    result = refresh_all(db)

    assert (result.tables_refreshed, result.tables_failed) == (2, 1)
    (error,) = result.errors
    assert (error["schema_name"], error["table_name"]) == ("main", "wide")
    assert "shop.main.wide" in error["error"]
    assert current(db, "wide") == kept
    assert rows(db, "SELECT n FROM shop.main.wide") == [(1,)]
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101,)]
    db.sweep()
    assert inside.files() == inside.live()
    assert inside.pending() == set()


@everywhere
def test_a_table_dropped_since_its_discovery_fails_with_what_to_do(db: RuntimeDB, shop: SourceFile) -> None:
    refresh_all(db)
    shop.run("DROP TABLE orders")

    with pytest.raises(RefreshError, match=r"shop\.main\.orders: the source no longer has it.*runtimedb refresh shop"):
        refresh_one(db, "orders")

    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]


def test_a_full_disk_leaves_the_old_version_and_nothing_else(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], tiny_disk: Path
) -> None:
    db = make_db(storage_url=f"file://{tiny_disk}/storage", grace_period=0)
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    source.run("INSERT INTO orders SELECT hash(range) % 1000000000 FROM range(2000000)")

    with pytest.raises(RefreshError, match=r"shop\.main\.orders: .*[Nn]o space left on device"):
        refresh_one(db, "orders")

    assert rows(db, "SELECT * FROM shop.main.orders") == [(1,)]
    inside = Inside.of(db)
    assert inside.files() == inside.live()
    assert inside.pending() == set()


def test_a_file_that_grows_too_large_leaves_the_old_version_and_nothing_else(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    refresh_one(db, "orders")
    kept = current(db, "orders")
    shop.run("INSERT INTO orders SELECT range, hash(range) % 1000000000 FROM range(2000000)")
    limited = """if True:
        import resource, signal, sys
        from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
        from runtimedb_dagster.domain.errors import RefreshError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with RuntimeDB(Settings(home=sys.argv[1])) as db:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
            try:
                db.refresh(RefreshRequest("shop", "main", "orders", data=True))
            except RefreshError as error:
                print(error)
    """

    assert "shop.main.orders" in output_of(limited, db.settings.home)

    assert current(db, "orders") == kept
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert inside.files() == inside.live() == {path_of(kept)}
    assert inside.pending() == set()


# Swept too early


@pytest.fixture
def swept_when_reserved(make_db: Callable[..., RuntimeDB], monkeypatch: pytest.MonkeyPatch) -> Iterator[RuntimeDB]:
    """A database whose second refresh sleeps, and is swept, before it makes its file."""
    monkeypatch.setenv(failpoints.VARIABLE, "after_reserve=delay@0.2:2")
    db = make_db(grace_period=0)

    class Sweeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - what the record holds does not matter
            db.sweep(long_after(db.settings))

    sweeping = Sweeping()
    logging.getLogger(failpoints.__name__).addHandler(sweeping)
    yield db
    logging.getLogger(failpoints.__name__).removeHandler(sweeping)
    monkeypatch.delenv(failpoints.VARIABLE)
    failpoints.arm()


@pytest.mark.parametrize("changed", [True, False])
def test_a_file_that_is_made_after_its_sweep_is_no_orphan(
    swept_when_reserved: RuntimeDB, make_source: Callable[..., SourceFile], changed: bool
) -> None:
    db = swept_when_reserved
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    if changed:
        source.run("INSERT INTO orders VALUES (2)")
        with pytest.raises(ReservationLostError, match="the sweep has claimed the file"):
            refresh_one(db, "orders")
    else:
        refresh_one(db, "orders")
    assert rows(db, "SELECT * FROM shop.main.orders") == [(1,)]
    inside = Inside.of(db)
    assert inside.files() == inside.live()
    assert db.verify() == []


def test_a_refresh_that_slept_for_long_asks_whether_it_was_swept_before_it_reads(
    swept_when_reserved: RuntimeDB, make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile]
) -> None:
    """So that not even a kill in the middle of the reading leaves the file without a pending deletion."""
    db = make_db(grace_period=0, write_lease=0.3)
    db.connect("shop", make_source("shop", f"CREATE VIEW endless AS {ENDLESS}", "CREATE TABLE a AS SELECT 1 AS i").url)
    refresh_one(db, "a")
    with pytest.raises(ReservationLostError, match="the sweep has claimed the file"):
        refresh_one(db, "endless")
    assert Inside.of(db).files() == Inside.of(db).live()


def test_a_file_that_is_swept_while_it_is_written_is_said_to_be(
    db: RuntimeDB, shop: SourceFile, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the sweep's clock is far ahead: not that there is no such file."""
    refresh_one(db, "orders")
    before = inside.live()
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    monkeypatch.setattr(parquet, "hit", lambda _: db.sweep(long_after(db.settings)))
    with pytest.raises(ReservationLostError, match="the sweep has claimed the file"):
        refresh_one(db, "orders")
    assert inside.files() == inside.live() == before


# At once


@everywhere
def test_eight_refreshes_of_one_table_at_once_leave_one_version(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    refresh_one(db, "orders")
    shop.run("INSERT INTO orders VALUES (1000, 1)")

    def refresh(_: int) -> int | None:
        try:
            return refresh_one(db, "orders").rows_synced
        except SupersededError:
            return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(refresh, range(8)))

    assert outcomes <= {101, None}
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101,)]
    assert len(inside.live()) == 1
    assert inside.files() == inside.live() | inside.pending()
    assert db.verify() == []
    db.sweep()
    assert inside.files() == inside.live()


@everywhere
def test_a_first_version_made_eight_times_at_once_is_one(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(refresh_one, db, "orders") for _ in range(8)]
    errors = [error for future in futures if (error := future.exception())]

    assert all(isinstance(error, SupersededError) for error in errors)
    assert len(errors) < 8
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == shop.run("SELECT count(*) FROM orders")
    db.sweep()
    assert len(inside.live()) == 1
    assert inside.files() == inside.live()
    assert db.verify() == []


def being_written(home: Path) -> list[Path]:
    """The files under a home that hold a part of a version: where they get their name, or before they are uploaded."""
    local = [*home.rglob("*.parquet.partial"), *(home / "staging").rglob("*.parquet")]
    return [path for path in local if path.stat().st_size > 0]


REFRESH_IN_ANOTHER_PROCESS = """if True:
    from runtimedb_dagster import RefreshRequest, RuntimeDB
    with RuntimeDB() as db:
        db.refresh(RefreshRequest("shop", "main", "endless", data=True))
"""


@everywhere
def test_a_killed_refresh_leaves_nothing_after_a_sweep_past_the_write_lease(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    shop.run(f"CREATE VIEW endless AS {ENDLESS}")
    rediscover(db)
    refresh_one(db, "orders")
    process = python(REFRESH_IN_ANOTHER_PROCESS, env=environment(db))
    try:
        await_that(lambda: being_written(db.settings.home), "the first bytes of a file")
    finally:
        process.kill()
        process.communicate()

    assert len(inside.files()) == 2
    assert db.verify() == []
    assert db.sweep().files_deleted == 0
    assert len(inside.files()) == 2
    assert db.sweep(long_after(db.settings)).files_deleted == 1
    assert inside.files() == inside.live() == {path_of(current(db, "orders"))}
    assert being_written(db.settings.home) == []
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]


@everywhere
def test_ending_the_iteration_early_interrupts_the_readings(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    shop.run(f"CREATE VIEW endless AS {ENDLESS}")
    rediscover(db)
    stopped = """if True:
        from runtimedb_dagster import Outcome, RuntimeDB
        from runtimedb_dagster_tests.engine.test_refresh import being_written
        with RuntimeDB() as db:
            tables = [table for table in db.tables("shop") if table.table_name in ("endless", "orders")]
            outcomes = db.engine.refresh(db.connection("shop"), tables)
            print(next(event for event in outcomes if isinstance(event, Outcome)).ref)
            while not being_written(db.settings.home):
                pass
            outcomes.close()
    """

    assert output_of(stopped, timeout=40, env=environment(db, parallel_refresh=2)) == "shop.main.orders\n"

    assert inside.files() == inside.live() == {path_of(current(db, "orders"))}
    assert inside.pending() == set()


def test_ending_the_iteration_as_the_next_reading_begins_interrupts_it_too(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    shop.run(f"CREATE VIEW endless AS {ENDLESS}")
    rediscover(db)
    stopped = """if True:
        import sys
        from runtimedb_dagster import Outcome, RuntimeDB, Settings
        with RuntimeDB(Settings(home=sys.argv[1], threads=1, parallel_refresh=1)) as db:
            tables = {table.table_name: table for table in db.tables("shop")}
            outcomes = db.engine.refresh(db.connection("shop"), [tables["orders"], tables["endless"]])
            print(next(event for event in outcomes if isinstance(event, Outcome)).ref)
            outcomes.close()
    """

    assert output_of(stopped, db.settings.home, timeout=20) == "shop.main.orders\n"

    assert inside.files() == inside.live() == {path_of(current(db, "orders"))}


@every_storage
@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_a_version_that_is_lost_or_torn_is_not_kept(
    db: RuntimeDB, shop: SourceFile, inside: Inside, damage: str
) -> None:
    refresh_all(db)
    before = current(db, "orders")
    content = inside.place.get(path_of(before))
    if damage == "lost":
        inside.place.remove(path_of(before))
    else:
        inside.place.put(path_of(before), content[:100])
    assert len(db.verify()) == 1
    refresh_all(db)
    assert db.verify() == []
    assert current(db, "orders").id != before.id
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    kept = current(db, "orders").id
    refresh_all(db)
    assert current(db, "orders").id == kept, "a sound one is kept"


def test_a_full_refresh_keeps_no_version_whose_content_is_another(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    shop.run("CREATE OR REPLACE TABLE orders AS SELECT md5(range::VARCHAR) AS id FROM range(1000)")
    refresh_all(db)
    before = current(db, "orders")
    content = bytearray(inside.place.get(path_of(before)))
    content[len(content) // 2] ^= 1
    inside.place.put(path_of(before), bytes(content))
    assert db.verify() == []
    assert [finding.subject for finding in db.verify(deep=True)] == ["shop.main.orders"]
    refresh_all(db)
    assert current(db, "orders").id == before.id, "its footer is whole"
    db.refresh(RefreshRequest("shop", data=True, full=True))
    assert current(db, "orders").id != before.id
    assert db.verify(deep=True) == []
    kept = current(db, "customers").id
    db.refresh(RefreshRequest("shop", data=True, full=True))
    assert current(db, "customers").id == kept, "what is as it was written is kept"


def test_a_table_of_thousands_of_columns_is_read(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    numbers = range(3000)
    source = make_source(
        "wide", "CREATE TABLE t AS SELECT " + ", ".join(f"{number} AS c{number}" for number in numbers)
    )
    db.connect("wide", source.url)
    assert refresh_one(db, "t", "wide").rows_synced == 1
    kept = path_of(current(db, "t", "wide"))
    assert refresh_one(db, "t", "wide").rows_synced == 1
    assert path_of(current(db, "t", "wide")) == kept, "its fingerprint is comparable"
    assert rows(db, "FROM wide.main.t") == [tuple(numbers)]
