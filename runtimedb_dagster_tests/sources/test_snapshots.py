"""A snapshot of a source is one moment, from which tables are read one after the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runtimedb_dagster import RefreshError, RuntimeDB
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.engine.parquet import count_rows
from runtimedb_dagster.sources.base import SourceSnapshot
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.support.remote import Remote


def written(snapshot: SourceSnapshot, ref: TableRef, path: Path) -> int:
    """How many rows of a table a reading writes."""
    path.touch()
    with snapshot.read(ref) as reading:
        rows = reading.write(path, {"about": "a test"})
    assert count_rows(path) == rows
    return rows


def test_two_tables_of_a_server_are_of_one_moment(pg: Remote, tmp_path: Path) -> None:
    pg.run("CREATE TABLE a AS SELECT 1 AS i", "CREATE TABLE b AS SELECT 1 AS i")
    pg.connect()
    a, b = pg.table("a").ref, pg.table("b").ref
    with open_source(pg.db.connection("pg"), {}) as source:
        with source.snapshot() as snapshot:
            assert written(snapshot, a, tmp_path / "a") == 1
            pg.run("INSERT INTO b VALUES (2)")
            assert written(snapshot, b, tmp_path / "b") == 1
        with source.snapshot() as later:
            assert written(later, b, tmp_path / "c") == 2


def test_a_table_that_is_rewritten_within_a_snapshot_is_not_taken_for_empty(pg: Remote, tmp_path: Path) -> None:
    """It is locked only when it is read, after the snapshot was taken, in which its new file has no rows."""
    pg.run("CREATE TABLE a AS SELECT 1 AS i", "CREATE TABLE b AS SELECT 1 AS i")
    pg.connect()
    with open_source(pg.db.connection("pg"), {}) as source, source.snapshot() as snapshot:
        assert written(snapshot, pg.table("a").ref, tmp_path / "a") == 1
        pg.run("TRUNCATE b", "INSERT INTO b VALUES (2)")
        with pytest.raises(RefreshError, match="rewritten while it was read; refresh it again"):
            written(snapshot, pg.table("b").ref, tmp_path / "b")


def test_two_tables_of_a_file_are_of_one_moment(db: RuntimeDB, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as lite:
        lite.executescript("PRAGMA journal_mode=WAL; CREATE TABLE a (i); CREATE TABLE b (i); INSERT INTO b VALUES (1)")
        db.connect("lite", f"sqlite:///{file}")
        with open_source(db.connection("lite"), {}) as source, source.snapshot() as snapshot:
            assert written(snapshot, TableRef("lite", "main", "a"), tmp_path / "a") == 0
            lite.executescript("INSERT INTO b VALUES (2)")
            assert written(snapshot, TableRef("lite", "main", "b"), tmp_path / "b") == 1
