"""DuckLake: discovery, one snapshot, types and errors, over each kind of catalog, and with data in a real store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtimedb_dagster import RefreshRequest, RuntimeDB, Table, Version
from runtimedb_dagster.common import extensions
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
    TypeContractError,
)
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, TableRefreshResult
from runtimedb_dagster.sources.attached import ducklake
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import path_of, python, reading_of, rediscover, refresh_all
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.seaweed import BUCKET, KEY_ID, KEY_SECRET, Seaweed, seaweed
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, postgres

WRONG = "canary-wrong"
CATALOGS = ["ducklake", "ducklake+sqlite", "ducklake+postgresql"]
EXTENSIONS = {"ducklake+sqlite": "sqlite_scanner", "ducklake+postgresql": "postgres_scanner"}


@dataclass(frozen=True)
class Lake:
    """A lake that the tests write to; `place` is its catalog's file, or database on the server."""

    scheme: str
    place: str
    data: str
    server: Server | None = None
    store: Seaweed | None = None

    @property
    def url(self) -> str:
        if self.server:
            return f"{self.scheme}://{self.server.user}@127.0.0.1:{self.server.port}/{self.place}"
        return f"{self.scheme}://{self.place}"

    @contextmanager
    def writer(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB that has the lake as `lake`, to write."""
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as duck:
            duck.execute("SET TimeZone = 'UTC'")
            if extension := EXTENSIONS.get(self.scheme):
                load(duck, extension)
            load(duck, "ducklake")
            if self.store:
                load(duck, "httpfs")
                duck.execute(self.store.create_store_secret())
            duck.execute(f"ATTACH {literal(self._catalog(duck))} AS lake (DATA_PATH {literal(self.data)})")
            yield duck.execute("USE lake")

    def _catalog(self, duck: duckdb.DuckDBPyConnection) -> str:
        if self.server is None:
            return f"ducklake:{'sqlite:' if 'sqlite' in self.scheme else ''}{self.place}"
        login = f"HOST '127.0.0.1', PORT '{self.server.port}', USER '{self.server.user}', PASSWORD {literal(PASSWORD)}"
        duck.execute(f"CREATE SECRET pg (TYPE postgres, {login}, DATABASE '{self.place}')")
        duck.execute(
            "CREATE SECRET meta (TYPE ducklake, METADATA_PATH '', "
            "METADATA_PARAMETERS MAP {'TYPE': 'postgres', 'SECRET': 'pg'})"
        )
        return "ducklake:meta"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the lake; the rows of the last."""
        with self.writer() as duck:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = duck.execute(statement).fetchall()
            return rows


@pytest.fixture
def pg_lake(tmp_path: Path, postgres_server: Server, make_database: Callable[[Server], str]) -> Lake:
    """A lake whose catalog is in PostgreSQL."""
    return Lake("ducklake+postgresql", make_database(postgres_server), f"{tmp_path / 'data'}/", postgres_server)


@pytest.fixture
def file_lake(tmp_path: Path) -> Lake:
    """A lake whose catalog is a DuckDB file."""
    return Lake("ducklake", str(tmp_path / "meta.ducklake"), f"{tmp_path / 'data'}/")


@pytest.fixture(params=CATALOGS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake over each kind of catalog."""
    if request.param == "ducklake+postgresql":
        found: Lake = request.getfixturevalue("pg_lake")
        return found
    return Lake(request.param, str(tmp_path / "meta data"), f"{tmp_path / 'data'}/")


@pytest.fixture
def connect(db: RuntimeDB) -> Callable[..., None]:
    """Connect a lake as `lake`."""

    def connected(lake: Lake | str, **options: Any) -> None:
        url = lake if isinstance(lake, str) else lake.url
        db.connect("lake", url, password_env=PASSWORD_ENV, options=options)

    return connected


def the_table(db: RuntimeDB, name: str) -> Table:
    (found,) = [table for table in db.tables("lake") if table.table_name == name]
    return found


def version(db: RuntimeDB, name: str) -> Version:
    found = the_table(db, name).version
    assert found is not None
    return found


def refresh(db: RuntimeDB, name: str) -> TableRefreshResult:
    ref = the_table(db, name).ref
    result = db.refresh(RefreshRequest("lake", ref.schema_name, ref.table_name, data=True))
    assert isinstance(result, TableRefreshResult)
    return result


def query(db: RuntimeDB, name: str, select: str = "*", tail: str = "") -> list[tuple[Any, ...]]:
    with db.query() as reader:
        return reader.execute(f"SELECT {select} FROM {the_table(db, name).ref} {tail}").fetchall()


def test_tables_and_views_are_refreshed_and_queried(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    lake.run(
        "CREATE TABLE orders (id BIGINT NOT NULL, total DECIMAL(12, 2), note VARCHAR)",
        "INSERT INTO orders SELECT i, i * 1.25, 'n' || i FROM range(1, 2001) r(i)",
        "DELETE FROM orders WHERE id > 1000",
        "UPDATE orders SET note = 'changed' WHERE id = 1",
        "INSERT INTO orders VALUES (0, 0, 'kept in the catalog')",
        "CREATE SCHEMA other; CREATE TABLE other.few AS SELECT 1 AS i",
        "CREATE VIEW large AS SELECT id FROM orders WHERE id > 990",
        "CREATE VIEW named AS SELECT count(*) AS n FROM lake.other.few",
        "USE lake.other; CREATE VIEW beside AS SELECT i + 1 AS i FROM few",
    )
    connect(lake)
    assert refresh_all(db, "lake").total_rows == 1001 + 1 + 10 + 1 + 1
    assert query(db, "orders", "count(*), sum(total)::VARCHAR, min(note)") == [(1001, "625625.00", "changed")]
    assert [query(db, name, "max(#1)") for name in ("large", "few", "named", "beside")] == [
        [(i,)] for i in (1000, 1, 1, 2)
    ]


def test_discovery_lists_columns_and_comments(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    lake.run(
        "CREATE TABLE t (id BIGINT NOT NULL, pair STRUCT(x INTEGER, y VARCHAR[]))",
        "INSERT INTO t SELECT i, NULL FROM range(300) r(i)",
        "COMMENT ON TABLE t IS 'what it is'; COMMENT ON COLUMN t.id IS 'the key'",
        "CREATE SCHEMA other; CREATE VIEW other.v AS SELECT id FROM t",
    )
    connect(lake)
    found = the_table(db, "t")
    assert (found.schema_name, found.kind, found.comment, found.estimated_rows) == ("main", "table", "what it is", 300)
    assert found.columns == (
        SourceColumn("id", "BIGINT", nullable=False, comment="the key"),
        SourceColumn("pair", "STRUCT(x INTEGER, y VARCHAR[])"),
    )
    assert (the_table(db, "v").schema_name, the_table(db, "v").kind) == ("other", "view")


def test_evolved_columns_read_old_files_too(db: RuntimeDB, file_lake: Lake, connect: Callable[..., None]) -> None:
    file_lake.run(
        "CREATE TABLE t AS SELECT i::INTEGER AS small, i AS old_name, i AS dropped FROM range(1000) r(i)",
        "ALTER TABLE t ALTER small TYPE BIGINT; ALTER TABLE t RENAME old_name TO new_name",
        "ALTER TABLE t DROP dropped; ALTER TABLE t ADD COLUMN dropped VARCHAR DEFAULT 'new'",
        "INSERT INTO t SELECT 1::BIGINT << 40, 1, 'x' FROM range(1000)",
    )
    connect(file_lake)
    refresh(db, "t")
    assert [(column.name, column.type) for column in version(db, "t").columns] == [
        ("small", "BIGINT"),
        ("new_name", "BIGINT"),
        ("dropped", "VARCHAR"),
    ]
    assert query(db, "t", "dropped, count(*), max(small), max(new_name)", "GROUP BY 1 ORDER BY 1") == [
        ("new", 1000, 999, 999),
        ("x", 1000, 2**40, 1),
    ]


# Types


EXACT = {
    "BOOLEAN": "true",
    "TINYINT": "-128",
    "USMALLINT": "65535",
    "UBIGINT": "18446744073709551615",
    "FLOAT": "'nan'",
    "DOUBLE": "'-inf'",
    "DECIMAL(38,10)": "-1234567890123456789012345678.0123456789",
    "VARCHAR": "'ü'",
    "JSON": """'{"a": 1}'""",
    "UUID": "'12345678-1234-5678-1234-567812345678'",
    "BLOB": r"'\x00\xFF'",
    "DATE": "'0001-01-01'",
    "TIME": "'23:59:59.999999'",
    "TIMESTAMP": "'290309-12-22 (BC) 00:00:00'",
    "TIMESTAMP WITH TIME ZONE": "'2024-01-01 12:00:00.000001+02'",
    "TIMESTAMP_NS": "'2024-01-01 12:00:00.123456789'",
    "DECIMAL(9,2)[]": "[1.25, NULL]",
    "STRUCT(a INTEGER, b VARCHAR[])": "{'a': NULL, 'b': ['x']}",
    "MAP(VARCHAR, TIMESTAMP)": "MAP {'k': TIMESTAMP 'infinity'}",
    "GEOMETRY": "'POINT (1 2)'",
}


def test_each_type_arrives_as_the_lake_holds_it(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    columns = ", ".join(f"c{i} {name}" for i, name in enumerate(EXACT))
    lake.run(
        f"CREATE TABLE t (n INTEGER, {columns})",
        f"INSERT INTO t SELECT i, {', '.join(EXACT.values())} FROM range(100) r(i)",  # a file
        f"INSERT INTO t SELECT -1, {', '.join(EXACT.values())}",  # some of it in the catalog
        "INSERT INTO t (n) VALUES (-2)",
    )
    as_text = ", ".join(f"c{i}::VARCHAR" for i in range(len(EXACT)))
    held = lake.run(f"SELECT n, {as_text} FROM t ORDER BY n")
    connect(lake)
    refresh(db, "t")
    assert query(db, "t", f"n, {as_text}", "ORDER BY n") == held
    kept = {column.name: column for column in version(db, "t").columns}
    assert [duckdb.sqltype(kept[f"c{i}"].type) for i in range(len(EXACT))] == list(map(duckdb.sqltype, EXACT))
    assert not any(column.declared for column in kept.values())


def test_types_without_a_form_of_their_own_are_declared(
    db: RuntimeDB, file_lake: Lake, connect: Callable[..., None]
) -> None:
    file_lake.run(
        "CREATE TABLE t (h HUGEINT, i INTERVAL, z TIME WITH TIME ZONE)",
        f"INSERT INTO t VALUES ({10**37}, INTERVAL '-1 month 3 microseconds', '12:00:00+05:30')",
    )
    connect(file_lake)
    refresh(db, "t")
    assert query(db, "t") == [(Decimal(10**37), "-1 month 00:00:00.000003", "12:00:00+05:30")]
    assert [column.declared for column in version(db, "t").columns] == [
        "HUGEINT kept as DECIMAL(38,0)",
        "INTERVAL kept as VARCHAR",
        "TIME WITH TIME ZONE kept as VARCHAR",
    ]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("c HUGEINT", f"{10**38}", r'column "c" \(HUGEINT\)'),
        ("c TIME", "'24:00:00'", r'column "c" \(TIME\).*24:00:00'),
        ("c VARIANT", "1", r'column "c" of type VARIANT: no exact form'),
    ],
)
def test_what_has_no_exact_form_fails_by_name(
    db: RuntimeDB, file_lake: Lake, connect: Callable[..., None], column: str, value: str, message: str
) -> None:
    file_lake.run(f"CREATE TABLE t ({column})", f"INSERT INTO t VALUES ({value})")
    connect(file_lake)
    with pytest.raises(TypeContractError, match=f"lake.main.t: {message}"):
        refresh(db, "t")


def test_an_empty_table_keeps_its_columns(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE t (id BIGINT NOT NULL, d DECIMAL(38, 10), l UUID[])")
    connect(lake)
    assert refresh(db, "t").rows_synced == 0
    assert [(column.type, column.nullable) for column in version(db, "t").columns] == [
        ("BIGINT", False),
        ("DECIMAL(38,10)", True),
        ("UUID[]", True),
    ]
    file = pq.read_schema(db.settings.home / "storage" / path_of(version(db, "t")))
    assert file.field("d").type == pa.decimal128(38, 10)


# One snapshot


def test_a_reading_sees_one_snapshot(db: RuntimeDB, pg_lake: Lake, connect: Callable[..., None]) -> None:
    pg_lake.run(
        "CREATE TABLE t AS SELECT i FROM range(1000) r(i)",
        "INSERT INTO t VALUES (5000)",  # which is in the catalog, not in a file
    )
    connect(pg_lake)
    with open_source(db.connection("lake"), {}) as source, reading_of(source, the_table(db, "t").ref) as reading:
        pg_lake.run(
            "INSERT INTO t SELECT i FROM range(500) r(i); INSERT INTO t VALUES (6000)",
            "DELETE FROM t WHERE i % 2 = 0; ALTER TABLE t RENAME i TO j",
        )
        for _ in range(2):
            assert reading.scan.duck.execute(f"SELECT count(*), sum(i) FROM ({reading.select})").fetchall() == [
                (1001, 504500)
            ]
        with reading_of(source, the_table(db, "t").ref) as later:
            assert later.scan.duck.execute(f"SELECT count(*), sum(j) FROM ({later.select})").fetchall() == [
                (750, 312500)
            ]


def test_rows_and_columns_that_are_not_wanted_stay_away(
    db: RuntimeDB, file_lake: Lake, connect: Callable[..., None]
) -> None:
    file_lake.run("CREATE TABLE t AS SELECT i, 'hidden' AS ssn FROM range(10) r(i)")
    connect(file_lake, where='{"t": "i >= 8"}', exclude_columns="ssn")
    refresh(db, "t")
    assert query(db, "t", tail="ORDER BY ALL") == [(8,), (9,)]


# Where the data is


def test_data_files_that_were_moved_are_found_by_the_option(
    db: RuntimeDB, file_lake: Lake, connect: Callable[..., None], tmp_path: Path
) -> None:
    file_lake.run("CREATE TABLE t AS SELECT i FROM range(1000) r(i)")
    connect(file_lake)
    shutil.move(file_lake.data, tmp_path / "elsewhere")
    with pytest.raises(RefreshError, match=r"lake.main.t: reading it failed: .*data"):
        refresh(db, "t")
    db.configure("lake", options={"data_path": str(tmp_path / "elsewhere")})
    assert refresh(db, "t").rows_synced == 1000


@pytest.fixture(scope="module")
def store() -> Iterator[Seaweed]:
    with seaweed() as running:
        yield running


def test_data_files_in_an_object_store(
    db: RuntimeDB, store: Seaweed, connect: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake("ducklake", str(tmp_path / "meta.ducklake"), f"s3://{BUCKET}/lake/", store=store)
    lake.run("CREATE TABLE t AS SELECT i FROM range(1000) r(i)")
    with pytest.raises(SourceError, match=r"'lake' .*object store; set the option s3_key_id"):
        connect(lake)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "that of another key")
    key = {"s3_key_id": KEY_ID, "s3_endpoint": store.store, "s3_key_env": "STORE_KEY", "s3_region": "us-east-1"}
    db.configure("lake", options=key)
    with pytest.raises(SourceError, match="environment variable STORE_KEY is not set"):
        rediscover(db, "lake")
    monkeypatch.setenv("STORE_KEY", KEY_SECRET)
    rediscover(db, "lake")
    assert refresh_all(db, "lake").total_rows == 1000
    with monkeypatch.context() as patch:
        patch.delenv("AWS_SESSION_TOKEN")
        lake.run("INSERT INTO t SELECT i FROM range(1000) r(i)")
    monkeypatch.setenv("STORE_KEY", WRONG)
    with pytest.raises(RefreshError, match=r"HTTP 403.*; set the options s3_key_id and s3_key_env") as caught:
        refresh(db, "t")
    no_canary(caught.value)


# Errors


def no_canary(text: object) -> None:
    assert PASSWORD not in str(text)
    assert "canary" not in str(text)


@pytest.mark.parametrize("scheme", ["ducklake", "ducklake+sqlite"])
def test_a_missing_file_is_not_made(connect: Callable[..., None], tmp_path: Path, scheme: str) -> None:
    with pytest.raises(SourceError, match=r"'lake' \(.*none.db\) can't be opened: there is no such file"):
        connect(f"{scheme}://{tmp_path}/none.db")
    assert not list(tmp_path.glob("none*"))


def test_a_database_without_a_lake_stays_without(
    connect: Callable[..., None], postgres_server: Server, pg_lake: Lake
) -> None:
    with pytest.raises(SourceError, match=r"'lake' .* there is no DuckLake in it"):
        connect(pg_lake)
    assert postgres_server.run(pg_lake.place, "SELECT count(*) FROM pg_tables WHERE tablename ~ 'ducklake'") == [(0,)]


def test_a_wrong_password_is_told_apart(
    connect: Callable[..., None], pg_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, WRONG)
    with pytest.raises(SourceError, match=r"'lake' .*: password authentication failed.*; set the right") as caught:
        connect(pg_lake)
    assert not isinstance(caught.value, SourceUnavailableError)
    no_canary(caught.value)


def test_a_server_that_is_away_may_come_back(connect: Callable[..., None]) -> None:
    with pytest.raises(SourceUnavailableError, match=r"'lake' .*Connection refused") as caught:
        connect("ducklake+postgres://owner@127.0.0.1:9/meta")
    no_canary(caught.value)


def test_a_server_that_dies_while_a_table_is_read_fails_the_reading_only(
    db: RuntimeDB, connect: Callable[..., None], tmp_path: Path
) -> None:
    with postgres() as server:
        server.run(None, "CREATE DATABASE meta")
        lake = Lake("ducklake+postgresql", "meta", f"{tmp_path / 'data'}/", server)
        lake.run("CREATE TABLE t AS SELECT 1 AS i")
        connect(lake)
        with open_source(db.connection("lake"), {}) as source, reading_of(source, the_table(db, "t").ref) as reading:
            server.stop(at_once=True)
            with pytest.raises(duckdb.Error) as caught:
                reading.scan.duck.execute(reading.select).fetchall()
            blamed = reading.diagnose(caught.value)
        assert str(blamed).startswith("lake.main.t: reading it failed: ")
        no_canary(blamed)


HOLD = """if True:
    import sys, duckdb
    from runtimedb_dagster.common.extensions import load
    held = duckdb.connect()
    load(held, "ducklake")
    held.execute(f"ATTACH 'ducklake:{sys.argv[1]}' AS lake")
    held.execute("CREATE TABLE lake.main.u (i INTEGER)")
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_catalog_file_that_another_process_writes_is_unavailable(
    db: RuntimeDB, file_lake: Lake, connect: Callable[..., None]
) -> None:
    file_lake.run("CREATE TABLE t AS SELECT 1 AS i")
    connect(file_lake)
    process = python(HOLD, file_lake.place)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(SourceUnavailableError, match=rf"'lake' .*process {process.pid} has the catalog open"):
            refresh_all(db, "lake")
    finally:
        process.communicate("\n", timeout=30)
    assert refresh_all(db, "lake").total_rows == 1


def test_a_catalog_that_this_process_writes_is_unavailable(file_lake: Lake, connect: Callable[..., None]) -> None:
    with file_lake.writer():  # noqa: SIM117 - what raises is to be one statement
        with pytest.raises(SourceUnavailableError, match="this process has the catalog open for writing"):
            connect(file_lake)


def test_a_table_that_was_dropped_is_named(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE t AS SELECT 1 AS i", "CREATE TABLE other AS SELECT 1 AS i", "CREATE VIEW v AS FROM other")
    connect(lake)
    lake.run("DROP TABLE t", "DROP TABLE other")
    for name in ("t", "v"):
        with pytest.raises(RefreshError, match=rf"lake.main.{name}: the source no longer has it, or it is a view"):
            refresh(db, name)


def test_a_broken_view_leaves_the_others(db: RuntimeDB, lake: Lake, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE t AS SELECT 1 AS i", "CREATE TABLE u AS SELECT 1 AS i", "CREATE VIEW v AS FROM u")
    lake.run("DROP TABLE u")
    connect(lake)
    assert "t" in {table.table_name for table in db.tables("lake")}
    refresh(db, "t")


def test_a_missing_extension_is_named(
    connect: Callable[..., None], file_lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extensions, "_in_wheel", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"no extension 'ducklake'.*pip install duckdb-extension-ducklake=="):
        connect(file_lake)


# Statements


def test_a_secret_is_never_in_the_attach_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    url = SourceUrl.parse("ducklake+postgresql://me@host/db?s3_key_id=k&data_path=s3://b/x&metadata_schema=m")
    dialect = ducklake.DuckLake(url, ducklake.DuckLakeOptions.model_validate(url.options), "canary")
    *secrets, attach = dialect.statements()
    assert ["canary" in secret for secret in secrets] == [True, False, True]
    assert attach == (
        "ATTACH 'ducklake:lake' AS ducklake (READ_ONLY, CREATE_IF_NOT_EXISTS false, DATA_PATH 's3://b/x', "
        "OVERRIDE_DATA_PATH true, METADATA_SCHEMA 'm')"
    )
    assert list(dialect.extensions) == ["postgres_scanner", "httpfs", "ducklake"]


def test_an_error_that_repeats_the_key_of_the_data_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    options = ducklake.DuckLakeOptions(s3_key_id="k")
    dialect = ducklake.DuckLake(SourceUrl.parse("ducklake:///x"), options, None)
    assert dialect.explain("IO Error: it is canary-key") == "it is ***"


def test_values_that_the_catalog_keeps_and_does_not_give_back_are_refused_by_name(
    lake: Lake, db: RuntimeDB, connect: Callable[..., None]
) -> None:
    """Small inserts are kept in the catalog; of a struct in PostgreSQL or SQLite not every value comes back."""
    lake.run(
        "CREATE TABLE fine (s STRUCT(t VARCHAR, n INT), l VARCHAR[])",
        "INSERT INTO fine VALUES ({'t': 'plain', 'n': 1}, ['it''s']), (NULL, NULL), ({'t': '', 'n': NULL}, [])",
        "CREATE TABLE quoted (s STRUCT(t VARCHAR))", "INSERT INTO quoted VALUES ({'t': 'it''s'})",
        "CREATE TABLE bytes (s STRUCT(t BLOB))", r"INSERT INTO bytes VALUES ({'t': '\xAA'})",
        "CREATE TABLE times (s STRUCT(t TIMESTAMPTZ))", "INSERT INTO times VALUES ({'t': '2024-01-01 00:00:00+00:00'})",
    )  # fmt: skip
    connect(lake)
    result = db.refresh(RefreshRequest("lake", data=True))
    assert isinstance(result, ConnectionRefreshResult)
    errors = {error["table_name"]: error["error"] for error in result.errors}
    assert query(db, "fine", "*", "ORDER BY s.t") == [
        ({"t": "", "n": None}, []), ({"t": "plain", "n": 1}, ["it's"]), (None, None),
    ]  # fmt: skip
    if lake.scheme == "ducklake":
        assert errors == {}
        assert query(db, "quoted", "s.t") == [("it's",)]
    else:
        assert errors.keys() == {"quoted", "bytes", "times"}
        assert all(
            'column "s" (struct) holds' in error and "data_inlining_row_limit" in error for error in errors.values()
        )
