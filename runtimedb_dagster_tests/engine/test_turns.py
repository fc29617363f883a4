"""At most `parallel_refresh` tables of a connection are read at a time, by all processes together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.outcomes import Progress, Published, Unchanged, Waiting
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.engine.turns import LIFETIME, turn

HOLDER = """
import sys, threading
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.engine.turns import turn
catalog = Catalog(sys.argv[1])
connection = catalog.connections.get("shop")
with turn(catalog, connection, 1, threading.Event(), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A connection `shop` of six tables."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as duck:
        for number in range(6):
            duck.execute(f"CREATE TABLE t{number} AS SELECT i FROM range(100000) t(i)")
    settings = Settings(home=tmp_path / "home")
    with RuntimeDB(settings) as db:
        db.connect("shop", f"duckdb://{tmp_path}/shop.duckdb")
    return settings


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    """Its catalog."""
    catalog = Catalog(settings.catalog_url)
    yield catalog
    catalog.close()


@pytest.fixture
def shop(catalog: Catalog) -> Connection:
    """The connection."""
    return catalog.connections.get("shop")


@pytest.fixture
def holder(settings: Settings, shop: Connection) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the only slot."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, settings.catalog_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def test_turns_are_taken_in_the_order_of_asking(catalog: Catalog, shop: Connection) -> None:
    later = utc_now() + LIFETIME
    first, second, third = (catalog.slots.enter(shop, "test", later) for _ in range(3))
    assert [catalog.slots.is_free(slot, 2, utc_now()) for slot in (first, second, third)] == [True, True, False]
    catalog.slots.leave(first, utc_now())
    assert catalog.slots.is_free(third, 2, utc_now())


def test_the_limit_holds_over_processes_until_one_leaves(
    catalog: Catalog, shop: Connection, holder: subprocess.Popen[str]
) -> None:
    waiting, got_it, notes = threading.Event(), threading.Event(), list[str]()

    def note(waits: Waiting) -> None:
        notes.append(str(waits))
        waiting.set()

    def ask() -> None:
        with turn(catalog, shop, 1, threading.Event(), note):
            got_it.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert waiting.wait(30)
    assert not got_it.is_set()
    assert notes == ["waiting for a slot of connection 'shop': 1 of its tables are being read"]
    assert holder.stdin is not None
    holder.stdin.close()
    assert got_it.wait(30)
    thread.join()


def test_the_slot_of_a_killed_process_expires(
    catalog: Catalog, shop: Connection, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    slot = catalog.slots.enter(shop, "test", utc_now() + 3 * LIFETIME)
    assert not catalog.slots.is_free(slot, 1, utc_now())
    assert catalog.slots.is_free(slot, 1, utc_now() + LIFETIME + timedelta(seconds=1))


def test_a_waiting_refresh_says_so_and_can_be_given_up(settings: Settings, holder: subprocess.Popen[str]) -> None:
    with RuntimeDB(settings) as db:
        db.configure("shop", options={"parallel_refresh": 1})
        tables, waits = db.tables("shop"), threading.Event()

        def refresh() -> None:
            for event in db.engine.refresh(db.connection("shop"), tables):
                if isinstance(event, Waiting):
                    waits.set()

        thread = threading.Thread(target=refresh)
        thread.start()
        assert waits.wait(30)
        assert not any(table.cached for table in db.tables("shop"))
        assert holder.stdin is not None
        holder.stdin.close()
        thread.join(60)
        assert all(table.cached for table in db.tables("shop"))


def test_two_requests_share_the_limit(settings: Settings, catalog: Catalog, shop: Connection) -> None:
    with RuntimeDB(settings) as db:
        db.configure("shop", options={"parallel_refresh": 2})
        tables, results = db.tables("shop"), list[int]()
        seen = list[int]()

        def refresh() -> None:
            good = 0
            for event in db.engine.refresh(db.connection("shop"), tables):
                match event:
                    case Progress():
                        seen.append(len(db.engine.refresher.readings()))
                    case Published() | Unchanged():
                        good += 1
            results.append(good)

        threads = [threading.Thread(target=refresh) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(results) == 3
    assert max(seen) <= 2
    slot = catalog.slots.enter(shop, "test", utc_now() + LIFETIME)
    assert catalog.slots.is_free(slot, 1, utc_now()), "all slots were given back"
