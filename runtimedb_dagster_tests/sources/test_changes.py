"""What other sources prove of what changed, and where they lie."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.support.following import Follower
from runtimedb_dagster_tests.support.remote import Remote

WRITTEN = "the source was written since"
CANT = "the source has not said how to tell later what changed"

# DuckDB files


def run(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as duck:
        for statement in statements:
            duck.execute(statement)


@pytest.fixture
def duck(db: RuntimeDB, tmp_path: Path) -> tuple[Path, Follower]:
    """A DuckDB file with two tables, of which one was refreshed."""
    path = tmp_path / "shop.duckdb"
    run(path, "CREATE TABLE t AS SELECT range AS i FROM range(100)", "CREATE TABLE u AS SELECT 1 AS i",
        "CREATE VIEW v AS SELECT random() AS r")  # fmt: skip
    db.connect("shop", f"duckdb:///{path}")
    follower = Follower(db, "shop", tmp_path)
    follower.refresh("t")
    return path, follower


def test_a_duckdb_file_that_nobody_wrote(duck: tuple[Path, Follower]) -> None:
    path, follower = duck
    assert follower.refresh("t").mode == "unchanged"
    assert follower.survey() == {"t"}
    run(path, "SELECT 1")
    assert follower.refresh("t").mode == "unchanged", "opened for writing, and not written"
    run(path, "UPDATE u SET i = 2")
    assert follower.survey() == set()
    assert follower.refresh("t").reason == WRITTEN


def test_a_duckdb_file_with_a_log_beside_it(duck: tuple[Path, Follower], tmp_path: Path) -> None:
    """A writer that ended without a checkpoint leaves one, which DuckDB reads."""
    path, follower = duck
    other = tmp_path / "other.duckdb"
    shutil.copy(path, other)
    with duckdb.connect(str(other)) as writer:
        writer.execute("SET checkpoint_threshold = '1GB'; UPDATE t SET i = -1 WHERE i = 5")
        log = other.with_name(other.name + ".wal")
        assert log.exists()
        shutil.copy(log, path.with_name(path.name + ".wal"))
    assert follower.refresh("t").reason == WRITTEN
    assert follower.refresh("t").mode == "unchanged"


def test_another_duckdb_file_in_its_place(duck: tuple[Path, Follower], tmp_path: Path) -> None:
    path, follower = duck
    shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    assert follower.refresh("t").reason == WRITTEN, "though it is the same by the byte"


WRITE = {
    "duckdb": "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('UPDATE u SET i = 3')",
    "sqlite": "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1], timeout=0) as c: c.execute('UPDATE t SET i = 3')",
}


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_to_look_at_a_file_lets_nobody_write_it_who_could_not(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """A process that closes a file loses its locks on it, those of DuckDB's readers too."""
    _, follower = request.getfixturevalue("duck" if kind == "duckdb" else "lite")
    path, connection = tmp_path / f"shop.{kind}", follower.db.connection("shop")

    def write() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WRITE[kind], path], capture_output=True, text=True, check=False)

    with (
        open_source(connection, {}) as source,
        source.snapshot() as snapshot,
        snapshot.read(follower.table("t").ref) as reading,
        open_source(connection, {}),
    ):
        assert reading.position is not None
        assert "lock" in write().stderr
    assert write().stderr == ""


def test_a_view_of_a_duckdb_file_proves_nothing(duck: tuple[Path, Follower]) -> None:
    _, follower = duck
    connection = follower.db.connection("shop")
    for _ in range(2):
        (outcome,) = [e for e in follower.db.engine.refresh(connection, [follower.table("v")]) if hasattr(e, "facts")]
        assert outcome.facts.mode == "full"
    assert follower.survey() == {"t"}


# SQLite files


@pytest.fixture
def lite(db: RuntimeDB, tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, Follower]]:
    """An SQLite file with a table that was refreshed."""
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE t (i INT, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        db.connect("shop", f"sqlite:///{path}")
        follower = Follower(db, "shop", tmp_path)
        follower.refresh("t")
        yield connection, follower


def test_an_sqlite_file_counts_what_is_written(lite: tuple[sqlite3.Connection, Follower]) -> None:
    connection, follower = lite
    assert follower.refresh("t").mode == "unchanged"
    assert follower.survey() == {"t"}
    connection.execute("UPDATE t SET v = 'c' WHERE i = 1")
    connection.commit()
    assert follower.survey() == set()
    assert follower.refresh("t").reason == WRITTEN


def test_an_sqlite_file_whose_time_was_put_back(lite: tuple[sqlite3.Connection, Follower], tmp_path: Path) -> None:
    connection, follower = lite
    path = tmp_path / "shop.sqlite"
    before = path.stat()
    connection.execute("UPDATE t SET v = 'c' WHERE i = 1")
    connection.commit()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert follower.refresh("t").reason == WRITTEN, "the header counts"


def test_an_sqlite_file_in_wal_mode(lite: tuple[sqlite3.Connection, Follower], tmp_path: Path) -> None:
    connection, follower = lite
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("INSERT INTO t VALUES (3, 'c')")
    connection.commit()
    assert follower.refresh("t").reason == WRITTEN
    assert follower.refresh("t").mode == "unchanged"
    header = (tmp_path / "shop.sqlite").read_bytes()[:100]
    connection.execute("UPDATE t SET v = 'd' WHERE i = 3")
    connection.commit()
    assert (tmp_path / "shop.sqlite").read_bytes()[:100] == header, "it does not count here"
    assert follower.refresh("t").reason == WRITTEN
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE t SET v = 'lost' WHERE i = 3")
    connection.rollback()
    assert follower.refresh("t").mode == "unchanged"


def test_an_sqlite_file_in_wal_mode_without_its_log_gives_a_hint(
    lite: tuple[sqlite3.Connection, Follower],
) -> None:
    connection, follower = lite
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("INSERT INTO t VALUES (3, 'c')")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    follower.refresh("t")
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "the source only hints that nothing changed, unless trust_hints says more"
    follower.db.configure("shop", options={"trust_hints": "true"})
    assert follower.refresh("t").mode == "unchanged"
    assert follower.version("t").trusts == "hints of the source (trust_hints)"
    assert follower.survey() == {"t"}


def test_a_view_of_an_sqlite_file_proves_nothing(lite: tuple[sqlite3.Connection, Follower]) -> None:
    connection, follower = lite
    connection.executescript("CREATE VIEW v AS SELECT i FROM t")
    follower.db.discover("shop")
    follower.refresh("v")
    assert follower.refresh("v").reason == CANT


# DuckLake


@pytest.fixture
def lake(db: RuntimeDB, tmp_path: Path) -> tuple[Callable[..., None], Follower]:
    """A lake with a table that was refreshed, and what runs statements in it."""

    def in_lake(*statements: str) -> None:
        with duckdb.connect() as duck:
            for extension in ("sqlite_scanner", "ducklake"):
                load(duck, extension)
            duck.execute(f"ATTACH 'ducklake:sqlite:{tmp_path}/lake.sqlite' AS lake (DATA_PATH '{tmp_path}/lake')")
            duck.execute("USE lake")
            for statement in statements:
                duck.execute(statement)

    (tmp_path / "lake").mkdir()
    in_lake(
        "CREATE TABLE t (i INTEGER, v VARCHAR)", "INSERT INTO t SELECT range, 'x' FROM range(1000)",
        "CREATE TABLE u (i INTEGER)",
    )  # fmt: skip
    db.connect("lake", f"ducklake+sqlite:///{tmp_path}/lake.sqlite")
    follower = Follower(db, "lake", tmp_path)
    follower.refresh("t")
    return in_lake, follower


def test_a_lake_s_snapshots_say_which_tables_they_changed(lake: tuple[Callable[..., None], Follower]) -> None:
    in_lake, follower = lake
    assert follower.refresh("t").mode == "unchanged"
    in_lake("INSERT INTO u VALUES (1)", "CREATE TABLE w (i INTEGER)", "DROP TABLE w")
    assert follower.survey() == {"t"}
    assert follower.refresh("t").mode == "unchanged"


def test_what_was_inserted_into_a_lake_is_read_alone(lake: tuple[Callable[..., None], Follower]) -> None:
    in_lake, follower = lake
    in_lake("INSERT INTO t VALUES (-1, 'inlined')", "INSERT INTO t SELECT range, 'y' FROM range(500)")
    assert follower.survey() == set()
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_inserted) == ("changes", 501, 501)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM t WHERE i = 5",
        "UPDATE t SET v = 'z' WHERE i = 5",
        "DELETE FROM t",
        "CALL lake.set_option('data_inlining_row_limit', 0); DELETE FROM t WHERE i = 1",
        "CALL ducklake_merge_adjacent_files('lake'); UPDATE t SET v = 'y' WHERE i = 1",
    ],
)
def test_what_else_was_done_to_a_lake_is_read_whole(lake: tuple[Callable[..., None], Follower], statement: str) -> None:
    in_lake, follower = lake
    in_lake(*statement.split("; "))
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "rows of it were deleted, updated or rewritten since"


def test_a_lake_whose_snapshots_are_gone(lake: tuple[Callable[..., None], Follower]) -> None:
    in_lake, follower = lake
    in_lake(
        "INSERT INTO t VALUES (-1, 'a')", "INSERT INTO u VALUES (1)",
        "CALL ducklake_expire_snapshots('lake', older_than => now()::TIMESTAMP + INTERVAL 1 DAY)",
    )  # fmt: skip
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "snapshots since were expired, or the lake was restored to an earlier one"


def test_a_lake_that_was_restored(lake: tuple[Callable[..., None], Follower], tmp_path: Path) -> None:
    in_lake, follower = lake
    shutil.copy(tmp_path / "lake.sqlite", tmp_path / "backup")
    in_lake("INSERT INTO t VALUES (-1, 'a')")
    follower.refresh("t")
    shutil.copy(tmp_path / "backup", tmp_path / "lake.sqlite")
    in_lake("INSERT INTO t VALUES (-2, 'b')")
    in_lake("INSERT INTO u VALUES (1)")
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "snapshots since were expired, or the lake was restored to an earlier one"


def test_a_lake_s_table_that_was_made_again(lake: tuple[Callable[..., None], Follower]) -> None:
    in_lake, follower = lake
    in_lake("DROP TABLE t", "CREATE TABLE t (i INTEGER, v VARCHAR)", "INSERT INTO t SELECT range, 'x' FROM range(1000)")
    assert follower.refresh("t").reason == "the table is another one than before"


# MariaDB


@pytest.fixture
def followed(maria: Remote, tmp_path: Path) -> Follower:
    """A server of which one table was refreshed."""
    maria.run("CREATE TABLE t (i INT PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    maria.connect()
    return Follower(maria.db, "maria", tmp_path)


def until_idle(follower: Follower, name: str = "t") -> None:
    """Refresh until the server has no work of its own left: its log moves on after what others wrote, too."""
    for _ in range(100):
        if follower.refresh(name).mode == "unchanged" and name in follower.survey() and name in follower.survey():
            return
    raise AssertionError("the server's log never stands still")


def test_an_idle_mariadb_changed_nothing(maria: Remote, followed: Follower) -> None:
    for _ in range(50):
        until_idle(followed)
        maria.run("SELECT * FROM t")
        # Other tests' servers are this one: it may have something left to do.
        if followed.survey() == {"t"}:
            break
    else:
        raise AssertionError("to read is to write")
    maria.run("UPDATE t SET v = 'c' WHERE i = 1")
    assert followed.survey() == set()
    assert followed.refresh("t").reason == WRITTEN


@pytest.mark.parametrize(
    "statement",
    [
        "SET sql_log_bin = 0; INSERT INTO t VALUES (3, 'unlogged')",
        "ALTER TABLE t ADD COLUMN c INT DEFAULT 7",
        "TRUNCATE t",
        "ALTER TABLE t ENGINE = MyISAM",
    ],
)
def test_what_leaves_no_trace_elsewhere_is_in_the_log(maria: Remote, followed: Follower, statement: str) -> None:
    until_idle(followed)
    maria.run(*statement.split("; "))
    assert followed.survey() == set()
    assert followed.refresh("t").mode == "full"


def test_what_was_open_while_mariadb_was_read(maria: Remote, followed: Follower) -> None:
    with closing(maria.server.begin(maria.database)) as open_, open_.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 'late' WHERE i = 1")
        until_idle(followed)
        cursor.execute("COMMIT")
        assert followed.survey() == set()
    assert followed.refresh("t").reason == WRITTEN


def test_what_mariadb_s_log_does_not_tell_of(maria: Remote, tmp_path: Path) -> None:
    maria.run(
        "CREATE TABLE t (i INT) ENGINE = MyISAM", "INSERT INTO t VALUES (1)", "CREATE TABLE i (i INT)",
        "CREATE VIEW v AS SELECT RAND() AS r", "CREATE TABLE c (i INT, r INT AS (i + 1) VIRTUAL)",
    )  # fmt: skip
    maria.connect()
    follower = Follower(maria.db, "maria", tmp_path)
    for name in ("t", "c"):
        follower.refresh(name)
        assert follower.refresh(name).reason == CANT
    until_idle(follower, "i")
    assert follower.survey() == {"i"}
