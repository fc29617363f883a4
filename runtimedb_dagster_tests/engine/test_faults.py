"""Faults of docs/faults.md that no module's own tests are about: many at once, full disks, locks, endings, extremes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.catalog import engines
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import CatalogError, RuntimeDBError, StorageUnavailableError, SupersededError
from runtimedb_dagster.domain.requests import SweepResult
from runtimedb_dagster_tests.support.parts import (
    ENDLESS,
    Inside,
    SourceFile,
    await_that,
    current,
    long_after,
    path_of,
    rediscover,
    refresh_all,
    refresh_one,
    rows,
)

COMMAND = Path(sys.executable).with_name("runtimedb")


def clean(db: RuntimeDB) -> bool:
    """Whether after a sweep past every lease there is exactly what is kept."""
    db.sweep(long_after(db.settings))
    inside = Inside.of(db)
    return (inside.files(), inside.pending(), db.verify()) == (inside.live(), set(), [])


# Endings


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_leaves_the_old_version(
    db: RuntimeDB, make_source: Callable[..., SourceFile], ending: signal.Signals
) -> None:
    source = make_source("shop", "CREATE VIEW slow AS SELECT 1 AS i, 2 AS h")
    db.connect("shop", source.url)
    refresh_one(db, "slow")
    source.run("DROP VIEW slow", f"CREATE VIEW slow AS {ENDLESS}")
    command = [str(COMMAND), "refresh", "shop", "--data"]
    with subprocess.Popen(
        command,
        env={**os.environ, "RUNTIMEDB_HOME": str(db.settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        partial = lambda: [path for path in Inside.of(db).root.rglob("*.partial") if path.stat().st_size]  # noqa: E731
        await_that(partial, "the reading to begin")
        process.send_signal(ending)
        assert process.wait(60) != 0
    assert rows(db, "SELECT * FROM shop.main.slow") == [(1, 2)]
    assert clean(db)


# At once


@pytest.mark.parametrize("count", [2, 8, 32])
def test_refreshes_of_one_table_at_once_leave_one_version(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], count: int
) -> None:
    db = make_db(grace_period=0, parallel_refresh=64)
    source = make_source("shop", "CREATE TABLE orders AS SELECT 0 AS i")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    source.run("INSERT INTO orders VALUES (1)")
    databases = [make_db(grace_period=0, parallel_refresh=64) for _ in range(min(count, 8))]

    def refresh(number: int) -> bool:
        try:
            return refresh_one(databases[number % len(databases)], "orders").rows_synced == 2
        except SupersededError:
            return True

    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(refresh, range(count)))
    assert rows(db, "SELECT sum(i) FROM shop.main.orders") == [(1,)]
    inside = Inside.of(db)
    assert inside.files() <= inside.live() | inside.pending()
    assert len(inside.live()) == 1
    assert clean(db)


def test_purges_removals_and_discoveries_against_refreshes(
    db: RuntimeDB, shop: SourceFile, make_db: Callable[..., RuntimeDB]
) -> None:
    """Whatever comes first: nothing is torn, no orphan, and none but these errors."""
    refresh_all(db)
    done = Event()

    def until_done(act: Callable[[RuntimeDB], object]) -> list[str]:
        messages, own = [], make_db(grace_period=0)
        while not done.is_set():
            try:
                act(own)
            except RuntimeDBError as error:
                messages.append(str(error))
        return messages

    def refresh(own: RuntimeDB) -> None:
        for error in refresh_all(own).errors:
            raise RuntimeDBError(error["error"])

    acts: list[Callable[[RuntimeDB], object]] = [
        refresh,
        refresh,
        lambda own: own.purge("shop"),
        lambda own: rediscover(own, None),
        lambda own: own.sweep(),
    ]
    with ThreadPoolExecutor(len(acts)) as pool:
        doing = [pool.submit(until_done, act) for act in acts]
        try:
            for _ in range(15):
                db.remove("shop")
                db.connect("shop", shop.url)
                with suppress(RuntimeDBError):
                    refresh_one(db, "orders")
        finally:
            done.set()
        messages = {error for each in doing for error in each.result(60)}
    allowed = (
        "was dropped while it was refreshed",
        "was purged meanwhile",
        "already published",
        "not found",
        "the sweep has claimed the file",
    )
    assert [error for error in messages if not any(each in error for each in allowed)] == []
    refresh_all(db)
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert clean(db)


# The sweep


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a.id FROM shop.main.orders a",
        "SELECT a.id FROM shop.main.orders a JOIN shop.main.orders b USING (id) ORDER BY id",
        "WITH o AS (SELECT * FROM shop.main.orders) SELECT id FROM o UNION ALL SELECT id FROM o",
    ],
    ids=["scan", "self-join", "twice"],
)
@pytest.mark.parametrize("kept_in", ["files", "s3"])
def test_a_slow_cursor_reads_its_version_to_the_end_while_others_replace_and_sweep_it(
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    request: pytest.FixtureRequest,
    query: str,
    kept_in: str,
) -> None:
    place = {"storage_url": request.getfixturevalue("bucket").url()} if kept_in == "s3" else {}
    db = make_db(grace_period=0, **place)
    source = make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(1_000_000)")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    old = path_of(current(db, "orders"))
    with db.query() as reader:
        batches = iter(reader.sql(query).to_arrow_reader(10_000))
        read = next(batches).num_rows
        for round_ in range(3):
            source.run(f"INSERT INTO orders VALUES ({round_})")
            refresh_one(db, "orders")
            db.sweep()
            assert old in db.engine.storage.list()
            read += next(batches).num_rows
        read += sum(batch.num_rows for batch in batches)
        assert reader.sql("SELECT count(*) FROM shop.main.orders").fetchall() == [(1_000_000,)]
    assert read == (2_000_000 if "UNION" in query else 1_000_000)
    db.sweep(long_after(db.settings))
    assert list(db.engine.storage.list()) == [path_of(current(db, "orders"))]


def test_a_sweep_whose_clock_is_an_hour_behind_deletes_later(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_one(db, "orders")
    old = path_of(current(db, "orders"))
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_one(db, "orders")
    assert db.sweep(utc_now() - timedelta(hours=1)) == SweepResult()
    assert old in inside.files()
    assert db.sweep().files_deleted == 1


# The catalog


@pytest.mark.parametrize("released", [True, False])
def test_a_catalog_that_another_process_locks(
    db: RuntimeDB, shop: SourceFile, make_db: Callable[..., RuntimeDB], monkeypatch: pytest.MonkeyPatch, released: bool
) -> None:
    """For a second, or for longer than anybody waits."""
    refresh_one(db, "orders")
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 30 if released else 1)
    waiting = make_db(grace_period=0)
    with closing(
        sqlite3.connect(db.settings.home / "catalog.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor() as pool:
            refreshing = pool.submit(refresh_one, waiting, "orders")
            if released:
                with pytest.raises(TimeoutError):
                    refreshing.result(1)
                other.execute("ROLLBACK")
                assert refreshing.result(60).rows_synced == 101
            else:
                with pytest.raises(CatalogError, match="database is locked"):
                    refreshing.result(60)
                other.execute("ROLLBACK")
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101 if released else 100,)]
    refresh_one(db, "orders")
    assert clean(db)


def test_a_full_disk_of_the_catalog(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], tiny_disk: Path
) -> None:
    db = make_db(catalog_url=f"sqlite:///{tiny_disk}/catalog.db", grace_period=0)
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    source.run("INSERT INTO orders VALUES (2)")
    _fill(tiny_disk / "rest")
    with pytest.raises(CatalogError, match="disk is full"):
        _refresh_until_it_fails(db, source)
    assert Inside.of(db).live() <= Inside.of(db).files()
    (tiny_disk / "rest").unlink()
    refresh_one(db, "orders")
    assert clean(db)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(bytes(4096))


def _refresh_until_it_fails(db: RuntimeDB, source: SourceFile) -> None:
    for number in range(1000):  # the write-ahead log has some room left
        source.run(f"INSERT INTO orders VALUES ({number})")
        refresh_one(db, "orders")


# Extremes


def test_a_table_of_1600_columns_and_one_with_a_cell_of_100_mb(
    db: RuntimeDB, make_source: Callable[..., SourceFile]
) -> None:
    columns = ", ".join(f"{number} AS c{number}" for number in range(1600))
    source = make_source(
        "shop",
        f"CREATE TABLE wide AS SELECT {columns}",
        "CREATE TABLE large AS SELECT repeat('0123456789', 10_000_000) AS cell",
    )
    db.connect("shop", source.url)
    assert refresh_all(db).errors == []
    assert rows(db, "SELECT c0, c1599 FROM shop.main.wide") == [(0, 1599)]
    assert len(current(db, "wide").columns) == 1600
    assert rows(db, "SELECT length(cell), md5(cell) FROM shop.main.large") == source.run(
        "SELECT length(cell), md5(cell) FROM large"
    )
    assert clean(db)


# The storage


def test_a_storage_that_is_not_mounted_is_left_alone(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_all(db)
    pending = inside.pending()
    assert pending
    mounted = inside.root.rename(inside.root.with_name("elsewhere"))
    inside.root.mkdir()
    with pytest.raises(StorageUnavailableError, match="Is it mounted"):
        refresh_all(db)
    with pytest.raises(StorageUnavailableError, match="Is it mounted"):
        db.sweep(long_after(db.settings))
    assert list(inside.root.iterdir()) == []
    assert inside.pending() == pending, "no file passes for deleted"
    inside.root.rmdir()
    mounted.rename(inside.root)
    assert refresh_all(db).tables_failed == 0
    assert clean(db)


def test_a_storage_whose_files_are_lost_is_filled_again_after_a_purge(
    db: RuntimeDB, shop: SourceFile, inside: Inside
) -> None:
    refresh_all(db)
    shutil.rmtree(inside.root)
    with pytest.raises(StorageUnavailableError, match="purge"):
        refresh_all(db)
    db.purge("shop")
    db.adopt_storage()
    assert refresh_all(db).tables_failed == 0
    assert clean(db)
