"""SQLite: what its files really hold, against what a version holds.

Files are made by Python's own SQLite and closed before DuckDB's opens them; who writes one meanwhile is another
process, since the locks of a file do not hold between two copies of SQLite in one process.
"""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtimedb_dagster import RefreshRequest, RuntimeDB, Table, Version
from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import (
    DiscoveryRefusedError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
    TypeContractError,
)
from runtimedb_dagster.domain.requests import ConnectionRefreshResult
from runtimedb_dagster_tests.support.parts import path_of, python


@dataclass(frozen=True)
class Lite:
    """An SQLite file, connected as `lite` when `connect` is called."""

    db: RuntimeDB
    path: Path

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the file; the rows of the last."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            return rows

    def fill(self, table: str, values: list[Any]) -> None:
        """Insert rows of one value each."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(f"INSERT INTO {table} VALUES (?)", ((value,) for value in values))
            connection.commit()

    def connect(self, **options: Any) -> None:
        self.db.connect("lite", f"sqlite:///{self.path}", options=options)

    def table(self, name: str) -> Table:
        (found,) = [table for table in self.db.tables("lite") if table.table_name == name]
        return found

    def refresh(self, name: str = "t") -> None:
        self.db.refresh(RefreshRequest("lite", "main", name, data=True))

    def refresh_all(self) -> ConnectionRefreshResult:
        result = self.db.refresh(RefreshRequest("lite", data=True))
        assert isinstance(result, ConnectionRefreshResult)
        return result

    def version(self, name: str = "t") -> Version:
        version = self.table(name).version
        assert version is not None
        return version

    def query(self, name: str = "t", select: str = "*", tail: str = "") -> list[tuple[Any, ...]]:
        """Rows of a table's version, through the reader."""
        with self.db.query() as query:
            return query.execute(f"SELECT {select} FROM lite.main.{identifier(name)} {tail}").fetchall()

    def arrow(self, name: str = "t") -> pa.Table:
        """A table's version as pyarrow reads the file itself."""
        return pq.read_table(self.db.settings.home / "storage" / path_of(self.version(name)))


@pytest.fixture
def lite(db: RuntimeDB, tmp_path: Path) -> Lite:
    return Lite(db, tmp_path / "source.db")


# Values


FITTING = [
    ("INTEGER", "-9223372036854775808", "BIGINT", "-9223372036854775808"),
    ("BIGINT", "9223372036854775807", "BIGINT", "9223372036854775807"),
    ("TINYINT", "70000", "BIGINT", "70000"),
    ("INT", "'12'", "BIGINT", "12"),
    ("BOOLEAN", "0", "BOOLEAN", "false"),
    ("BOOLEAN", "1", "BOOLEAN", "true"),
    ("REAL", "1e400", "DOUBLE", "inf"),
    ("DOUBLE PRECISION", "-1e400", "DOUBLE", "-inf"),
    ("FLOAT", "1", "DOUBLE", "1.0"),
    ("NUMERIC", "9007199254740992", "DOUBLE", "9007199254740992.0"),
    ("DECIMAL(10,2)", "'12.30'", "DOUBLE", "12.3"),
    ("TEXT", "''", "VARCHAR", ""),
    ("TEXT", "12", "VARCHAR", "12"),
    ("VARCHAR(2)", "'日本語🎉'", "VARCHAR", "日本語🎉"),
    ("CHAR(5)", "'a'||char(0)||'b'", "VARCHAR", "a\0b"),
    ("CLOB", "'it''s'", "VARCHAR", "it's"),
    ("BLOB", "x''", "BLOB", ""),
    ("BLOB", "x'00ff'", "BLOB", "\\x00\\xFF"),
    ("DATE", "'2024-02-29'", "DATE", "2024-02-29"),
    ("DATE", "'9999-12-31'", "DATE", "9999-12-31"),
    ("DATE", "'-0043-03-15'", "DATE", "0044-03-15 (BC)"),
    ("DATETIME", "'2024-01-05'", "TIMESTAMP", "2024-01-05 00:00:00"),
    ("DATETIME", "'2024-01-05 12:34'", "TIMESTAMP", "2024-01-05 12:34:00"),
    ("DATETIME(6)", "'2024-01-05T12:34:56.5'", "TIMESTAMP", "2024-01-05 12:34:56.5"),
    ("TIMESTAMP", "'2024-01-05 23:59:59.999999'", "TIMESTAMP", "2024-01-05 23:59:59.999999"),
    ("TIMESTAMPTZ", "'2024-01-05T12:34:56Z'", "TIMESTAMP WITH TIME ZONE", "2024-01-05 12:34:56+00"),
    ("TIMESTAMP WITH TIME ZONE", "'2024-01-05 12:34:56.25-05:30'", "TIMESTAMP WITH TIME ZONE",
     "2024-01-05 18:04:56.25+00"),
    ("TIMESTAMPTZ", "'2024-01-05 12:34:56.000 -01:00'", "TIMESTAMP WITH TIME ZONE", "2024-01-05 13:34:56+00"),
    ("TIMESTAMPTZ", "'2024-01-05 12:34:56'", "TIMESTAMP WITH TIME ZONE", "2024-01-05 12:34:56+00"),
    ("TIME", "'23:59:59.000001'", "TIME", "23:59:59.000001"),
    ("TIME", "'12:34'", "TIME", "12:34:00"),
    ("JSON", "'{\"a\":  [1]}'", "JSON", '{"a":  [1]}'),
    ("UUID", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("", "9007199254740993", "BIGINT", "9007199254740993"),
    ("ANY", "0.1", "DOUBLE", "0.1"),
    ("STRING", "'x'", "VARCHAR", "x"),
    ("", "x'00ff'", "BLOB", "\\x00\\xFF"),
    ("", "NULL", "VARCHAR", None),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "value", "kept", "text"), FITTING)
def test_a_value_of_its_declared_type_is_exact(
    lite: Lite, declared: str, value: str, kept: str, text: str | None
) -> None:
    lite.run(f"CREATE TABLE t (c {declared})", f"INSERT INTO t VALUES ({value}), (NULL)")
    lite.run("CREATE VIEW v AS SELECT c FROM t")
    lite.connect()
    assert lite.refresh_all().errors == []
    for table in ("t", "v"):
        (column,) = lite.version(table).columns
        assert (column.type, column.source_type) == (kept, declared or "ANY")
        assert lite.query(table, "typeof(c)") == [(kept,)] * 2
        assert set(lite.query(table, "CAST(c AS VARCHAR)")) == {(text,), (None,)}


MISFITS = [
    ("INTEGER", "'abc'", "the text 'abc'"),
    ("INTEGER", "''", "the text ''"),
    ("INTEGER", "1.5", "the real 1.5"),
    ("INT", "x'ff'", "the blob X'FF'"),
    ("BOOLEAN", "2", "the integer 2"),
    ("BOOLEAN", "'true'", "the text 'true'"),
    ("REAL", "'n/a'", "the text 'n/a'"),
    ("NUMERIC", "9007199254740993", "the integer 9007199254740993"),
    ("DECIMAL(38,10)", "'1,5'", "the text '1,5'"),
    ("TEXT", "x'ff'", "the blob X'FF'"),
    ("BLOB", "'text'", "the text 'text'"),
    ("BLOB", "7", "the integer 7"),
    ("DATE", "20240105", "the integer 20240105"),
    ("DATE", "2460314.5", "the real 2460314.5"),
    ("DATE", "'2024-02-30'", "the text '2024-02-30'"),
    ("DATE", "'0000-00-00'", "the text '0000-00-00'"),
    ("DATE", "'2024/01/05'", "the text '2024/01/05'"),
    ("DATE", "'2024-01-05 12:34:56'", "the text '2024-01-05 12:34:56'"),
    ("DATE", "'infinity'", "the text 'infinity'"),
    ("DATETIME", "1704412800", "the integer 1704412800"),
    ("DATETIME", "'2024-01-05 24:00:00'", "the text '2024-01-05 24:00:00'"),
    ("DATETIME", "'2024-01-05 12:34:56.1234567'", "the text '2024-01-05 12:34:56.1234567'"),
    ("TIMESTAMP", "'2024-01-05T12:34:56+02:00'", "the text '2024-01-05T12:34:56+02:00'"),
    ("TIMESTAMP", "cast('2024-01-05 12:34:56' as blob)", "the blob X'323032"),
    ("TIMESTAMPTZ", "'2024-02-30T12:34:56Z'", "the text '2024-02-30T12:34:56Z'"),
    ("TIME", "'24:00:00'", "the text '24:00:00'"),
    ("TIME", "'12:34:56.1234567'", "the text '12:34:56.1234567'"),
    ("JSON", "5", "the integer 5"),
    ("JSON", "'{'", "Malformed JSON"),
    ("UUID", "'abc'", "'abc'"),
    ("DATE", "cast(x'ff41' as text)", "the text '\ufffdA'"),
    ("TEXT", "cast(x'ff41' as text)", "text that is not UTF-8; its bytes are FF41"),
    ("UUID", "cast(x'ff41' as text)", "text that is not UTF-8; its bytes are FF41"),
    ("", "cast(x'ff41' as text)", "text that is not UTF-8; its bytes are FF41"),
]


@pytest.mark.parametrize(("declared", "value", "message"), MISFITS)
def test_a_value_that_does_not_fit_fails_by_column_and_value(
    lite: Lite, declared: str, value: str, message: str
) -> None:
    lite.run(f"CREATE TABLE t (i INTEGER, c {declared})", "CREATE VIEW v AS SELECT * FROM t")
    lite.connect()
    lite.refresh_all()
    lite.run(f"INSERT INTO t VALUES (1, NULL), (2, {value})")
    for table in ("t", "v"):
        with pytest.raises(TypeContractError) as caught:
            lite.refresh(table)
        assert f'lite.main.{table}: column "c" ({declared or "ANY"})' in str(caught.value)
        assert message in str(caught.value)
        assert lite.query(table) == []


def test_doubles_are_exact_to_the_bit(lite: Lite) -> None:
    rng = random.Random(7)  # noqa: S311 - the same doubles every time
    doubles = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(20_000)]
    doubles += [0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]
    doubles = [value for value in doubles if value == value]  # noqa: PLR0124 - SQLite has no NaN
    lite.run(
        "CREATE TABLE t (c REAL)", "CREATE VIEW v AS SELECT c FROM t", "CREATE VIEW untyped AS SELECT +c AS c FROM t"
    )
    lite.fill("t", doubles)
    lite.connect(as_text="untyped.c")
    assert lite.refresh_all().errors == []
    bits = sorted(struct.pack("d", value) for value in doubles)
    for table, select in (("t", "c"), ("v", "c"), ("untyped", "CAST(c AS DOUBLE)")):
        assert sorted(struct.pack("d", value) for (value,) in lite.query(table, select)) == bits


@pytest.mark.parametrize("kind", ["TABLE t AS", "VIEW t AS"])
def test_large_values_are_whole(lite: Lite, kind: str) -> None:
    size = 10 * 1024 * 1024
    lite.run("CREATE TABLE one (t TEXT, b BLOB)")
    lite.run(f"INSERT INTO one VALUES (replace(hex(zeroblob({size // 8})), '0000', 'é日'), randomblob({size}))")
    ((text, blob),) = lite.run("SELECT * FROM one")
    lite.run("CREATE TABLE t (t TEXT, b BLOB)", "INSERT INTO t SELECT * FROM one") if "TABLE" in kind else lite.run(
        "CREATE VIEW t AS SELECT * FROM one"
    )
    lite.connect()
    lite.refresh()
    assert lite.query() == [(text, blob)]


def test_declared_differences_are_recorded(lite: Lite) -> None:
    lite.run("CREATE TABLE t (price DECIMAL(10,2) NOT NULL, at TIMESTAMPTZ, note TEXT, any)")
    lite.connect(as_text="note")
    lite.refresh()
    assert [(column.name, column.nullable, column.declared) for column in lite.version().columns] == [
        ("price", False, "DECIMAL(10,2) kept as DOUBLE, which is how SQLite stores it"),
        ("at", True, "TIMESTAMPTZ kept as the instant in UTC, without the zone it was written in"),
        ("note", True, "TEXT kept as text"),
        ("any", True, None),
    ]


def test_an_empty_table_has_its_schema(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER NOT NULL, r REAL, x TEXT, b BLOB, d DATE, ts DATETIME, tm TIME, ok BOOLEAN)")
    lite.connect()
    lite.refresh()
    assert [str(field.type) for field in lite.arrow().schema] == [
        "int64", "double", "string", "binary", "date32[day]", "timestamp[us]", "time64[us]", "bool"
    ]  # fmt: skip
    assert lite.arrow().num_rows == 0


# Columns of no type, and the option as_text


def test_a_column_of_no_type_has_the_type_of_its_values(lite: Lite) -> None:
    lite.run("CREATE TABLE base (i INTEGER)", "INSERT INTO base VALUES (3), (4)")
    lite.run("CREATE VIEW t AS SELECT count(*) AS n, avg(i) AS mean, sum(i) AS total, 'x' AS x, 7 / 2 AS q FROM base")
    lite.connect()
    lite.refresh()
    assert lite.query(select="n, mean, total, x, q, typeof(n), typeof(mean), typeof(q)") == [
        (2, 3.5, 7, "x", 3, "BIGINT", "DOUBLE", "BIGINT")
    ]


def test_integers_among_reals_are_doubles_while_that_is_exact(lite: Lite) -> None:
    lite.run("CREATE TABLE t (c)", "INSERT INTO t VALUES (1), (1.5)")
    lite.connect()
    lite.refresh()
    assert sorted(lite.query()) == [(1.0,), (1.5,)]
    lite.run("INSERT INTO t VALUES (9007199254740993)")
    with pytest.raises(TypeContractError, match="the integer 9007199254740993, which is not a number that a double"):
        lite.refresh()


def test_a_mixture_fails_unless_it_is_kept_as_text(lite: Lite) -> None:
    lite.run("CREATE TABLE t (c)", "INSERT INTO t VALUES (1), (0.1), ('ü'), (NULL), (9007199254740993), (1e400)")
    lite.connect()
    with pytest.raises(TypeContractError, match="the integer 1, which is not text; set the option as_text"):
        lite.refresh()
    lite.db.connect("again", f"sqlite:///{lite.path}", options={"as_text": "T.C"})
    lite.db.refresh(RefreshRequest("again", data=True))
    with lite.db.query() as query:
        rows = {value for (value,) in query.execute("FROM again.main.t").fetchall()}
    assert rows == {"1", "0.1", "ü", None, "9007199254740993", "inf"}


@pytest.mark.parametrize("pattern", ["at", "main.t.at", "t.*", '["at"]'])
def test_what_does_not_fit_can_be_kept_as_text(lite: Lite, pattern: str) -> None:
    lite.run("CREATE TABLE t (at DATETIME)", "INSERT INTO t VALUES (1704412800), ('2024-01-05T12:34:56+02:00')")
    lite.connect(as_text=pattern)
    lite.refresh()
    assert sorted(lite.query()) == [("1704412800",), ("2024-01-05T12:34:56+02:00",)]


def test_a_blob_can_not_be_kept_as_text(lite: Lite) -> None:
    lite.run("CREATE TABLE t (c TEXT)", "INSERT INTO t VALUES (x'41')")
    lite.connect(as_text="c")
    with pytest.raises(TypeContractError, match="the blob X'41', which is a blob"):
        lite.refresh()


def test_a_condition_is_in_the_words_of_sqlite_and_comes_before_the_guards(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER, d DATE)", "INSERT INTO t VALUES (1, '2024-01-05'), (2, 'never')")
    lite.connect(where="t: d GLOB '[0-9]*'")
    lite.refresh()
    assert lite.query(select="i, d::VARCHAR") == [(1, "2024-01-05")]


@pytest.mark.parametrize("mask", ["sha256", "redact", "null"])
@pytest.mark.parametrize("declared", ["INTEGER", "REAL", "DATE", "DATETIME"])
def test_the_value_of_a_masked_column_is_in_no_error(lite: Lite, declared: str, mask: str) -> None:
    lite.run(f"CREATE TABLE t (i INTEGER, c {declared})", "INSERT INTO t VALUES (1, 's3cret')")
    lite.connect(mask=f"c:{mask}")
    errors = str(lite.refresh_all().errors)
    assert (errors == "[]") == (mask == "null")
    assert "s3cret" not in errors


# Tables and views


def test_tables_are_described(lite: Lite) -> None:
    lite.run(
        "CREATE TABLE orders (day DATE, id INTEGER NOT NULL, note VARCHAR(20), x, twice INT AS (id * 2), "
        "thrice INT AS (id * 3) STORED, PRIMARY KEY (id, day))",
        "CREATE TABLE alias (id INTEGER PRIMARY KEY)",
        "CREATE TABLE no_alias (id INTEGER PRIMARY KEY DESC)",
        "CREATE TABLE bare (a TEXT, b TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID",
        "CREATE TABLE strict_one (i INT PRIMARY KEY, a ANY) STRICT",
        "CREATE VIEW big AS SELECT id, id + 1 AS next FROM orders",
        "CREATE TEMP TABLE passing (i)",
        "CREATE INDEX i ON orders (note)",
        "CREATE TABLE counted (i INTEGER PRIMARY KEY AUTOINCREMENT)",
        "ANALYZE",
    )
    lite.connect()
    assert [table.table_name for table in lite.db.tables("lite")] == [
        "alias", "bare", "big", "counted", "no_alias", "orders", "strict_one"
    ]  # fmt: skip
    orders = lite.table("orders")
    assert (orders.schema_name, orders.kind, orders.primary_key) == ("main", "table", ("id", "day"))
    assert orders.columns == (
        SourceColumn("day", "DATE"),
        SourceColumn("id", "INTEGER", nullable=False),
        SourceColumn("note", "VARCHAR(20)"),
        SourceColumn("x", "ANY"),
        SourceColumn("twice", "INT"),
        SourceColumn("thrice", "INT"),
    )
    assert lite.table("alias").columns == (SourceColumn("id", "INTEGER", nullable=False),)
    assert lite.table("no_alias").columns == (SourceColumn("id", "INTEGER"),)
    assert [column.nullable for column in lite.table("bare").columns] == [False, False]
    assert lite.table("bare").primary_key == ("b", "a")
    assert (lite.table("big").kind, lite.table("big").columns) == (
        "view",
        (SourceColumn("id", "INTEGER"), SourceColumn("next", "ANY")),
    )


def test_every_kind_of_table_is_read(lite: Lite) -> None:
    lite.run(
        "CREATE TABLE generated (i INTEGER, v INT AS (i * 2), s TEXT AS (i || 'x') STORED)",
        "INSERT INTO generated VALUES (1), (2)",
        "CREATE TABLE bare (a TEXT PRIMARY KEY, i INT) WITHOUT ROWID",
        "INSERT INTO bare VALUES ('x', 1)",
        "CREATE TABLE strict_one (i INTEGER PRIMARY KEY, a ANY) STRICT",
        "INSERT INTO strict_one VALUES (1, '007')",
        "CREATE VIRTUAL TABLE words USING fts5(title, body)",
        "INSERT INTO words VALUES ('a', 'b c')",
        "CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)",
        "INSERT INTO boxes VALUES (1, 0.5, 1.5)",
        "CREATE TABLE negative (i INTEGER PRIMARY KEY)",
        "INSERT INTO negative VALUES (-9223372036854775808), (0), (9223372036854775807)",
    )
    lite.connect()
    result = lite.refresh_all()
    assert (result.errors, result.tables_refreshed) == ([], 6)
    assert sorted(lite.query("generated")) == [(1, 2, "1x"), (2, 4, "2x")]
    assert lite.query("bare") == [("x", 1)]
    assert lite.query("strict_one") == [(1, "007")]
    assert lite.query("words") == [("a", "b c")]
    assert lite.query("boxes") == [(1, 0.5, 1.5)]
    assert sorted(lite.query("negative")) == [(-(2**63),), (0,), (2**63 - 1,)]


def test_a_broken_view_is_listed_and_only_it_fails(lite: Lite) -> None:
    lite.run("CREATE TABLE base (i INTEGER)", "CREATE TABLE t (i INTEGER)", "CREATE VIEW broken AS SELECT * FROM base")
    lite.run("CREATE VIEW fine AS SELECT 1 AS one", "PRAGMA legacy_alter_table = ON", "DROP TABLE base")
    lite.connect()
    assert [(table.table_name, len(table.columns)) for table in lite.db.tables("lite")] == [
        ("broken", 0),
        ("fine", 1),
        ("t", 1),
    ]
    result = lite.refresh_all()
    assert (result.tables_refreshed, result.tables_failed) == (2, 1)
    assert "no such table: main.base" in result.errors[0]["error"]


def test_odd_names_are_read(lite: Lite) -> None:
    names = ["a.b", "it's", 'q"uote', "a*b", "aXb", "..", "/etc/x", "🎉", "a,b", "a\nb", "x" * 300, "select", " "]
    for i, name in enumerate(names):
        quoted = identifier(name)
        lite.run(
            f"CREATE TABLE {quoted} ({quoted} INTEGER, d DATE)", f"INSERT INTO {quoted} VALUES ({i}, '2024-01-05')"
        )
    view = identifier("the 'view\"")
    lite.run(f"CREATE VIEW {view} AS SELECT * FROM {identifier(names[2])}")
    lite.connect()
    assert lite.refresh_all().errors == []
    assert [lite.query(name, identifier(name)) for name in names] == [[(i,)] for i in range(len(names))]
    assert lite.query("the 'view\"", identifier(names[2])) == [(2,)]
    assert lite.db.verify() == []


def test_a_file_without_tables_is_told(lite: Lite) -> None:
    lite.path.touch()
    with pytest.raises(DiscoveryRefusedError, match="shows no tables at all"):
        lite.connect()


# One state


WRITER = """
import random, sqlite3, sys, threading
path, mode, accounts = sys.argv[1], sys.argv[2], int(sys.argv[3])
connection = sqlite3.connect(path, isolation_level=None, timeout=60)
connection.execute("PRAGMA synchronous = OFF")
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
moves = 0
while not stop.is_set():
    here, there = random.randint(1, accounts // 2), random.randint(accounts // 2 + 1, accounts)
    if moves % 2:
        here, there = there, here
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE t SET money = money - 1000 WHERE id = ?", (here,))
    connection.execute("UPDATE t SET money = money + 1000 WHERE id = ?", (there,))
    connection.execute("COMMIT")
    moves += 1
    if moves == 1:
        print("writing", flush=True)
print(moves)
"""


@contextmanager
def writing(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes until the block ends."""
    process = python(program, *arguments)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert not out.strip() or int(out) > 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_read_sees_one_state_while_money_is_moved(lite: Lite, mode: str) -> None:
    accounts = 500_000
    lite.run(
        f"PRAGMA journal_mode = {mode}",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, money INTEGER, note TEXT)",
        f"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {accounts}) "
        "INSERT INTO t SELECT i, 100, 'account ' || i FROM c",
    )
    # Without WAL a writer that never rests may keep a reader waiting; how long is not what is tested.
    lite.connect(busy_timeout=120)
    sums = []
    with writing(WRITER, lite.path, mode, accounts):
        for _ in range(5):
            lite.refresh()
            sums.extend(lite.query(select="count(*), sum(money)::BIGINT"))
    assert sums == [(accounts, accounts * 100)] * 5


# What goes wrong


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("writing", flush=True)
sys.stdin.read()
"""


def test_a_file_that_is_not_there_is_not_made(lite: Lite) -> None:
    with pytest.raises(SourceError, match=r"Connection 'lite' .* can't be opened: there is no such file"):
        lite.connect()
    assert not lite.path.exists()


def test_what_is_no_sqlite_file_is_refused(lite: Lite, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "prose").write_text("It was a dark and stormy night. " * 100)
    with pytest.raises(SourceError, match="it is a directory"):
        lite.db.connect("first", f"sqlite:///{tmp_path}/directory")
    with pytest.raises(SourceError, match="file is not a database"):
        lite.db.connect("second", f"sqlite:///{tmp_path}/prose")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any directory")
def test_a_wal_file_in_a_directory_that_can_not_be_written_is_told(lite: Lite, tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    lite.run("PRAGMA journal_mode = wal", "CREATE TABLE t (i INTEGER)")
    (directory / "source.db").write_bytes(lite.path.read_bytes())
    directory.chmod(0o555)
    (directory / "source.db").chmod(0o444)
    try:
        with pytest.raises(SourceError, match="a file in WAL mode can be read only where its directory may be written"):
            lite.db.connect("lite", f"sqlite:///{directory}/source.db")
    finally:
        directory.chmod(0o755)


def test_a_locked_file_may_be_tried_again(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER)", "INSERT INTO t VALUES (1)")
    lite.connect(busy_timeout=0)
    lite.refresh()
    with writing(HOLDER, lite.path):
        with pytest.raises(SourceUnavailableError, match=r"Connection 'lite' .*database is locked; somebody writes it"):
            lite.refresh()
        assert lite.query() == [(1,)]
    lite.refresh()


def test_a_corrupt_page_fails_its_table_only(lite: Lite) -> None:
    lite.run(
        "CREATE TABLE fine (i INTEGER)",
        "INSERT INTO fine VALUES (1)",
        "CREATE TABLE t (i INTEGER, x TEXT)",
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000) "
        "INSERT INTO t SELECT i, hex(randomblob(50)) FROM c",
    )
    lite.connect()
    lite.refresh_all()
    with lite.path.open("r+b") as file:
        file.seek(lite.path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xde\xad" * 2048 * 4)
    result = lite.refresh_all()
    assert [error["table_name"] for error in result.errors] == ["t"]
    assert "malformed" in result.errors[0]["error"]
    assert lite.query(select="count(*)") == [(20000,)]


def test_a_table_that_was_dropped_fails_by_name(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER)")
    lite.connect()
    lite.run("DROP TABLE t")
    with pytest.raises(RefreshError, match=r"lite\.main\.t: the source no longer has it"):
        lite.refresh()


def test_a_table_that_was_altered_is_read_as_it_is_now(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER, gone TEXT)", "INSERT INTO t VALUES (1, 'x')")
    lite.connect()
    lite.refresh()
    lite.run("ALTER TABLE t DROP COLUMN gone", "ALTER TABLE t ADD COLUMN d DATE", "UPDATE t SET d = '2024-01-05'")
    lite.refresh()
    assert lite.query(select="i, d::VARCHAR") == [(1, "2024-01-05")]


def test_the_file_is_never_changed(lite: Lite) -> None:
    lite.run("CREATE TABLE t (i INTEGER)", "INSERT INTO t VALUES (1)", "CREATE VIEW v AS SELECT * FROM t")
    before = lite.path.read_bytes()
    lite.connect()
    lite.refresh_all()
    assert lite.path.read_bytes() == before
    assert [path.name for path in lite.path.parent.iterdir() if path.name.startswith("source")] == ["source.db"]


@pytest.mark.parametrize("name", ["rowid", "ROWID", "oid", "_rowid_"])
def test_a_column_by_the_name_of_the_rows_number_is_a_column(lite: Lite, name: str) -> None:
    """DuckDB's scan divides a table by that number; here it would be the column, NULLs and all."""
    numbers = ", ".join(f"({'NULL' if i % 10 == 0 else i * 7919 % 900000}, {i})" for i in range(2000))
    lite.run(f"CREATE TABLE t ({name} INT, v INT)", f"INSERT INTO t VALUES {numbers}")
    lite.connect()
    lite.refresh()
    assert lite.query("t", f"count(*), count({name}), sum(v)") == [(2000, 1800, 1_999_000)]


@pytest.mark.parametrize(("declared", "value"), [("JSON", "{a:1}"), ("UUID", "none")])
def test_what_is_no_json_and_no_uuid_is_told_with_the_option_that_helps(lite: Lite, declared: str, value: str) -> None:
    lite.run(f"CREATE TABLE t (c {declared})", f"INSERT INTO t VALUES ('{value}')")
    lite.connect()
    with pytest.raises(TypeContractError, match=rf'column "c" \({declared}\): .*set the option as_text'):
        lite.refresh()
    lite.db.configure("lite", options={"as_text": "t.c"})
    lite.refresh()
    assert lite.query() == [(value,)]


def test_a_column_without_a_name_is_refused_with_what_to_do_and_that_helps(lite: Lite) -> None:
    lite.run('CREATE TABLE t ("" INT, a INT)', "INSERT INTO t VALUES (1, 2)")
    lite.connect()
    with pytest.raises(TypeContractError, match=r"a column without a name.*exclude_columns=t\. \(with the dot\)"):
        lite.refresh()
    lite.db.configure("lite", options={"exclude_columns": "t."})
    lite.refresh()
    assert lite.query() == [(2,)]
