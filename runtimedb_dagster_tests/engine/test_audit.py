"""Audits: the whole source against what changes make of a version."""

from __future__ import annotations

import threading
from datetime import timedelta

import duckdb
import pytest
from sqlalchemy import update

from runtimedb_dagster import RequestError, RuntimeDB, Table
from runtimedb_dagster.catalog import schema
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.engine.fingerprint import content, fingerprint, scan
from runtimedb_dagster_tests.support.parts import SourceFile, current, path_of, refresh_all, refresh_one


def orders(db: RuntimeDB) -> Table:
    return next(table for table in db.tables("shop") if table.table_name == "orders")


def alter(db: RuntimeDB) -> None:
    """Have a version hold another value, and its catalog not know: as if a refresh had lost a change."""
    version = current(db, "orders")
    file = db.settings.home / "storage" / path_of(version)
    with duckdb.connect() as duck:
        changed = duck.sql(
            f"SELECT * REPLACE (CASE WHEN id = 7 THEN -1 ELSE amount END::DOUBLE AS amount) FROM '{file}'"
        )
        other = file.with_suffix(".other")
        duck.execute(f"COPY changed TO '{other}' (FORMAT parquet)")
        held = scan(duck, str(other))
        assert changed.columns == held.columns
        rows, sums = content(held, version.columns)
        made = fingerprint(held, version.columns, rows, sums)
    other.replace(file)
    with db.engine.catalog._database.write() as tx:
        tx.execute(update(schema.versions).where(schema.versions.c.id == version.id).values(fingerprint=made))
        mine = schema.data_files.c.version_id == version.id
        tx.execute(update(schema.data_files).where(mine).values(bytes=file.stat().st_size, sums=str(sums)))


@pytest.fixture
def audited(db: RuntimeDB, shop: SourceFile) -> RuntimeDB:
    """A database whose tables were refreshed once."""
    shop.run("SELECT 1")
    with duckdb.connect(str(shop.path)) as source:
        source.execute(
            "CREATE OR REPLACE TABLE orders AS SELECT range AS id, (range * 1.5)::DOUBLE AS amount FROM range(100)"
        )
    db.discover("shop")
    refresh_all(db)
    return db


def test_what_is_the_same_is_recorded(audited: RuntimeDB) -> None:
    before = orders(audited).audited_at
    found = audited.audit("shop")
    assert {each.table: each.result for each in found} == {"shop.main.customers": "same", "shop.main.orders": "same"}
    assert before is not None
    assert (orders(audited).audited_at or before) > before
    assert audited.verify(deep=True) == []


def test_what_differs_is_named_and_read_whole_next(audited: RuntimeDB) -> None:
    alter(audited)
    assert audited.verify(deep=True) == [], "of itself it is sound"
    assert refresh_one(audited, "orders").mode == "unchanged"
    (found,) = audited.audit("shop", "main", "orders")
    assert found.result == "different"
    assert "100 rows there, 100 here; different are" in found.message
    assert "7, -1.0; 7, 10.5" in found.message
    assert (orders(audited).distrusted or "?") in found.message
    result = refresh_one(audited, "orders")
    assert (result.mode, result.reason) == ("full", orders(audited).refreshed.reason)  # type: ignore[union-attr]
    assert audited.audit("shop", "main", "orders")[0].result == "same"


def test_of_rows_that_differ_the_key_is_named_and_nothing_else(audited: RuntimeDB, shop: SourceFile) -> None:
    shop.run("ALTER TABLE orders ADD PRIMARY KEY (id)")
    audited.discover("shop")
    refresh_all(audited)
    alter(audited)
    (found,) = audited.audit("shop", "main", "orders")
    assert found.message.startswith(
        "an audit found that its source holds something else: 100 rows there, 100 here; different are 7; its next"
    )


def test_a_refresh_audits_when_it_is_time(audited: RuntimeDB) -> None:
    audited.configure("shop", options={"audit_every": "PT1S"})
    alter(audited)
    before = orders(audited).audited_at
    assert before is not None
    while utc_now() < before + timedelta(seconds=1):
        threading.Event().wait(0.05)
    result = refresh_one(audited, "orders")
    assert result.mode == "full"
    assert result.reason.startswith("an audit found that it is not what its version holds: 100 rows there, 100 here")
    facts = orders(audited).refreshed
    assert facts is not None
    assert (facts.audited, facts.drift) == (True, "100 rows there, 100 here; different are 7, -1.0; 7, 10.5")
    assert refresh_one(audited, "orders").reason == ""


def test_what_is_read_whole_anyway_is_not_compared(db: RuntimeDB, shop: SourceFile) -> None:
    shop.run("CREATE VIEW v AS SELECT 1 AS i")
    db.discover("shop")
    refresh_all(db)
    (found,) = db.audit("shop", "main", "v")
    assert found.result == "not compared"
    assert found.message.startswith("its next refresh reads it whole: the source has not said")
    with pytest.raises(RequestError, match="takes its schema_name and table_name"):
        db.audit("shop", "main")
