"""Sources: their URLs, and what is wrong with them in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest

from runtimedb_dagster import Connection, RefreshRequest, RuntimeDB
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, RefreshError, RuntimeDBError, SourceError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.requests import TableRefreshResult
from runtimedb_dagster.engine import parquet
from runtimedb_dagster.sources.registry import open_source, validate
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import (
    SourceFile,
    python,
    reading_of,
    rediscover,
    refresh_all,
    refresh_one,
    rows,
    the_table,
)

# URLs


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("duckdb:///data/x.duckdb", "/data/x.duckdb"),
        ("duckdb:////data/x.duckdb", "/data/x.duckdb"),
        ("duckdb:///data/a%20b%2Bc.duckdb", "/data/a b+c.duckdb"),
        ("duckdb:///data/100%25.duckdb", "/data/100%.duckdb"),
        ("duckdb:///data/%C3%BC.duckdb", "/data/ü.duckdb"),
        ("duckdb:///data/ü.duckdb", "/data/ü.duckdb"),
    ],
)
def test_a_file_has_an_absolute_path(url: str, path: str) -> None:
    parsed = SourceUrl.parse(url)
    assert (parsed.scheme, parsed.path) == ("duckdb", path)
    assert SourceUrl.parse(str(parsed)) == parsed


def test_three_slashes_name_a_relative_file_that_exists(tmp_path: Path) -> None:
    relative = Path("data") / "x.duckdb"
    relative.parent.mkdir()
    relative.touch()
    assert SourceUrl.parse("duckdb:///data/x.duckdb").path == str(tmp_path / relative)
    assert SourceUrl.parse("duckdb:////data/x.duckdb").path == "/data/x.duckdb"


def test_an_absolute_file_that_exists_goes_first(tmp_path: Path) -> None:
    (tmp_path / "x.duckdb").touch()
    Path(str(tmp_path).lstrip("/")).mkdir(parents=True)
    (Path(str(tmp_path).lstrip("/")) / "x.duckdb").touch()
    assert SourceUrl.parse(f"duckdb://{tmp_path}/x.duckdb").path == f"{tmp_path}/x.duckdb"


def test_a_server_has_its_parts() -> None:
    parsed = SourceUrl.parse("postgresql://me@db.example:5433/shop?sslmode=require")
    assert parsed == SourceUrl(
        "postgresql", "shop", "db.example", 5433, "me", {"sslmode": "require"}, (("db.example", 5433),)
    )
    assert str(parsed) == "postgresql://me@db.example:5433/shop"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://me:@host/db",
        "postgresql://host/db?password=hunter2",
        "postgresql://host/db?PGPASSWORD=hunter2",
        "duckdb:///x.duckdb?motherduck_token=hunter2",
        "mysql://host/db?ssl=1&pwd=hunter2",
        "postgresql://host/db?client_secret=hunter2",
    ],
)
def test_a_secret_is_refused_and_not_repeated(db: RuntimeDB, url: str) -> None:
    with pytest.raises(ConfigurationError, match="--password-env") as caught:
        db.connect("shop", url)
    assert "hunter2" not in str(caught.value)
    assert db.connections() == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.duckdb",
        "/data/x.duckdb",
        "duckdb://",
        "duckdb:///",
        "duckdb://host/x",
        "postgresql://h:port/db",
        "duckdb://[x",
    ],
)
def test_a_malformed_url_is_refused_with_an_example(db: RuntimeDB, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write it like|must start like duckdb:///path"):
        db.connect("shop", url)
    assert db.connections() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://host/db", "The source type 'oracle' is unknown; known are: duckdb"),
    ],
)
def test_a_source_type_that_is_not_there_is_refused(db: RuntimeDB, url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        db.connect("shop", url)
    assert db.connections() == []


def test_an_unknown_option_is_refused_with_the_known_ones(db: RuntimeDB) -> None:
    for given in ({"speed": "9"}, {}):
        with pytest.raises(ConfigurationError, match=r"option 'speed' is unknown to 'duckdb'.*discovery_interval"):
            db.connect("shop", "duckdb:///x" if given else "duckdb:///x?speed=9", options=given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("discovery_interval", value) for value in ("0", "-1", "1.5", "hidden", "")],
        *[("parallel_refresh", value) for value in ("0", "65", "hidden")],
        ("refresh_cron", "hidden hourly"),
        ("materialize_new", "hidden"),
        ("refresh_modified", "hidden"),
        ("max_age", "0"),
        ("max_age", "hidden"),
    ],
)
def test_a_wrong_option_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^The option {name} is wrong: ") as caught:
        validate(SourceUrl.parse("duckdb:///x"), {name: value})
    assert "hidden" not in str(caught.value)


def test_a_discovery_interval_is_kept(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("shop", "CREATE TABLE t (i INTEGER)")
    by_argument = db.connect("one", source.url, options={"discovery_interval": 30})
    by_url = db.connect("two", f"{source.url}?discovery_interval=40")
    neither = db.connect("three", source.url)
    assert [each.options.discovery_interval for each in (by_argument, by_url, neither)] == [
        30,
        40,
        300,
    ]
    assert "?" not in by_url.url


# Names


@pytest.mark.parametrize(
    "name", ["", "1a", "_a", "a b", "a-b", "a.b", "ü", "a\n", "x" * 64, "memory", "SYSTEM", "temp"]
)
def test_a_name_that_can_not_be_a_connection_is_refused(db: RuntimeDB, shop: SourceFile, name: str) -> None:
    with pytest.raises(ConfigurationError, match="connection name"):
        db.connect(name, shop.url)
    assert len(db.connections()) == 1


def test_a_missing_password_variable_is_named(db: RuntimeDB, shop: SourceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    connection = db.connect("other", shop.url, password_env="SHOP_PASSWORD")
    assert "hunter2" not in repr(connection)
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(RuntimeDBError, match="'other': the environment variable SHOP_PASSWORD is not set"):
        rediscover(db, "other")
    assert db.check("other").error == "Connection 'other': the environment variable SHOP_PASSWORD is not set"


# What can't be opened


HOLD = """if True:
    import sys, duckdb
    held = duckdb.connect(sys.argv[1])
    held.execute("CREATE TABLE IF NOT EXISTS t (i INTEGER)")
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A DuckDB file that another process has open for writing."""
    path = tmp_path / "broken.duckdb"
    process = python(HOLD, path)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield path
    finally:
        process.communicate("\n", timeout=30)


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that is no DuckDB file one can open."""
    path = tmp_path / "broken.duckdb"
    if request.param == "junk":
        path.write_bytes(b"no database" * 1000)
    elif request.param == "empty":
        path.write_text("x")
    elif request.param == "directory":
        path.mkdir()
    elif request.param == "locked":
        return Path(request.getfixturevalue("locked"))
    return path


@pytest.mark.parametrize("broken", ["missing", "junk", "empty", "directory", "locked"], indirect=True)
def test_a_file_that_can_not_be_opened_is_one_line(db: RuntimeDB, broken: Path) -> None:
    with pytest.raises(SourceError) as caught:
        db.connect("shop", f"duckdb:///{broken}")

    message = str(caught.value)
    assert "\n" not in message
    assert "Connection 'shop'" in message
    assert str(broken) in message
    # It stays registered, and shows why it has no tables.
    (connection,) = db.connections()
    assert connection.discovery_error
    assert connection.discovery_error in message
    check = db.check("shop")
    assert not check.healthy
    assert check.error
    assert "\n" not in check.error
    assert not (broken.with_suffix(".duckdb.wal")).exists() or broken.exists()


def test_the_process_that_holds_the_lock_is_named(db: RuntimeDB, locked: Path) -> None:
    with pytest.raises(SourceError, match=r"process \d+ has it open for writing; close it there, or connect to a copy"):
        db.connect("shop", f"duckdb:///{locked}")


def test_a_missing_file_is_not_made(db: RuntimeDB, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        db.connect("shop", f"duckdb:///{tmp_path}/nothing.duckdb")
    assert not (tmp_path / "nothing.duckdb").exists()


def test_a_source_that_comes_back_is_discovered(db: RuntimeDB, tmp_path: Path) -> None:
    source = SourceFile(tmp_path / "late.duckdb")
    with pytest.raises(SourceError, match="runtimedb refresh shop"):
        db.connect("shop", source.url)
    source.run("CREATE TABLE t AS SELECT 1 AS i")
    assert rediscover(db).tables_added == 1
    assert db.connections()[0].discovery_error is None


@pytest.mark.parametrize("name", ["a b", "it's", 'q"uote', "ü🎉", "memory", "system", "temp", "main", "a;b", "select"])
def test_a_file_of_any_name_can_be_read(db: RuntimeDB, make_source: Callable[..., SourceFile], name: str) -> None:
    source = make_source(name, "CREATE TABLE t AS SELECT 7 AS i")
    db.connect("shop", str(SourceUrl("duckdb", str(source.path), None, None, None, {})))
    refresh_all(db)
    assert rows(db, "FROM shop.main.t") == [(7,)]


def test_the_source_is_never_changed(db: RuntimeDB, shop: SourceFile) -> None:
    before = shop.path.read_bytes()
    os.utime(shop.path, (1, 1))
    rediscover(db)
    refresh_all(db)
    db.check("shop")
    assert shop.path.read_bytes() == before
    assert shop.path.stat().st_mtime == 1


# What is listed


def test_tables_are_described(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "shop",
        "CREATE SCHEMA eu",
        "CREATE TABLE eu.orders (day DATE, id INTEGER NOT NULL, note VARCHAR, PRIMARY KEY (day, id))",
        "COMMENT ON TABLE eu.orders IS 'what was sold'",
        "COMMENT ON COLUMN eu.orders.note IS 'by hand'",
        "INSERT INTO eu.orders VALUES ('2024-01-01', 1, NULL)",
        "CREATE VIEW big AS SELECT id FROM eu.orders",
        "CREATE TEMP TABLE passing (i INTEGER)",
    )
    db.connect("shop", source.url)
    orders, view = sorted(db.tables("shop"), key=lambda table: table.kind)
    assert (orders.schema_name, orders.table_name, orders.kind) == ("eu", "orders", "table")
    assert orders.columns == (
        SourceColumn("day", "DATE", nullable=False),
        SourceColumn("id", "INTEGER", nullable=False),
        SourceColumn("note", "VARCHAR", comment="by hand"),
    )
    assert orders.primary_key == ("day", "id")
    assert (orders.comment, orders.estimated_rows) == ("what was sold", 1)
    assert (view.table_name, view.kind, [column.name for column in view.columns]) == ("big", "view", ["id"])


@pytest.mark.parametrize("reference", ["orders", "main.orders", "shop.orders", "shop.main.orders"])
def test_a_view_may_name_its_tables_in_any_way(
    db: RuntimeDB, make_source: Callable[..., SourceFile], reference: str
) -> None:
    source = make_source(
        "shop",
        "CREATE TABLE orders AS SELECT range AS id FROM range(5)",
        f"CREATE VIEW latest AS SELECT max(id) AS id FROM {reference}",
    )
    db.connect("anything", source.url)
    result = db.refresh(RefreshRequest("anything", "main", "latest", data=True))
    assert isinstance(result, TableRefreshResult)
    assert rows(db, "FROM anything.main.latest") == [(4,)]


def test_a_broken_view_is_listed_and_only_it_fails(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "shop",
        "CREATE TABLE base AS SELECT 1 AS id",
        "CREATE TABLE orders AS SELECT 2 AS id",
        "CREATE VIEW broken AS SELECT * FROM base",
        "DROP TABLE base",
    )
    db.connect("shop", source.url)
    assert the_table(db, "broken").kind == "view"

    result = refresh_all(db)

    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    assert result.errors[0]["table_name"] == "broken"
    assert "base" in result.errors[0]["error"]
    assert rows(db, "FROM shop.main.orders") == [(2,)]
    with pytest.raises(RefreshError, match=r"shop\.main\.broken"):
        refresh_one(db, "broken")


def test_odd_names_of_schemas_and_tables_are_read(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    names = [
        "a.b",
        "it's",
        'q"uote',
        "a*b",
        "aXb",
        "..",
        "/etc/x",
        "🎉",
        "year=2024",
        "a\nb",
        "x" * 300,
        "select",
    ]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    statements = [f"CREATE TABLE {name} AS SELECT {i} AS i" for i, name in enumerate(quoted)]
    schemas = [f"CREATE SCHEMA {name}; CREATE TABLE {name}.t AS SELECT {i} AS i" for i, name in enumerate(quoted)]
    db.connect("shop", make_source("shop", *statements, *schemas).url)

    assert refresh_all(db).tables_failed == 0

    with db.query() as query:
        for i, name in enumerate(quoted):
            assert query.execute(f"FROM shop.main.{name}").fetchall() == [(i,)]
            assert query.execute(f"FROM shop.{name}.t").fetchall() == [(i,)]
    assert db.verify() == []


def test_a_source_is_opened_once_and_read_in_parallel(shop: SourceFile) -> None:
    connection = Connection("id", "shop", "duckdb", str(SourceUrl.parse(shop.url)), {}, None, utc_now())
    with open_source(connection, {"threads": 1}) as source:
        source.check()
        first, second = sorted(source.discover(), key=lambda table: table.table_name)
        assert [first.table_name, second.table_name] == ["customers", "orders"]


def test_what_was_read_back_is_not_kept_in_memory(shop: SourceFile, tmp_path: Path) -> None:
    connection = Connection("id", "shop", "duckdb", str(SourceUrl.parse(shop.url)), {}, None, utc_now())
    kept = "SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory() WHERE tag = 'EXTERNAL_FILE_CACHE'"
    with open_source(connection, {}) as source, reading_of(source, TableRef("shop", "main", "orders")) as reading:
        (tmp_path / "orders.parquet").touch()
        assert parquet.write(reading, tmp_path / "orders.parquet") == 100
        assert reading.scan.duck.execute(kept).fetchall() == [(0,)]


# Files that are not what they seem


def test_an_sqlite_file_is_told_to_be_one(db: RuntimeDB, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.duckdb")) as source:
        source.execute("CREATE TABLE t (i)")
        source.commit()
    with pytest.raises(SourceError, match=f"it is an SQLite file; connect to it as sqlite://{tmp_path}/app.duckdb"):
        db.connect("app", f"duckdb://{tmp_path}/app.duckdb")
    db.connect("lite", f"sqlite://{tmp_path}/app.duckdb")


def test_an_encrypted_file_is_opened_by_the_key_that_is_named(
    db: RuntimeDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret.duckdb"
    with duckdb.connect() as duck:
        duck.execute("SET force_mbedtls_unsafe = true")
        duck.execute(f"ATTACH '{file}' AS s (ENCRYPTION_KEY 'the canary'); CREATE TABLE s.t AS SELECT 1 AS i")
    with pytest.raises(SourceError, match="name the variable that holds the file's key with --password-env"):
        db.connect("none", f"duckdb://{file}")
    monkeypatch.setenv("FILE_KEY", "wrong canary")
    with pytest.raises(SourceError, match="encryption key") as caught:
        db.connect("wrong", f"duckdb://{file}", password_env="FILE_KEY")
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("FILE_KEY", "the canary")
    db.connect("opened", f"duckdb://{file}", password_env="FILE_KEY")
    refresh_one(db, "t", "opened")
    assert rows(db, "FROM opened.main.t") == [(1,)]


@pytest.mark.parametrize("name", ["a.b.duckdb", "temp.duckdb", "2024-x.db", "main.duckdb", "plain"])
def test_a_files_views_may_name_the_database_as_duckdb_does(db: RuntimeDB, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with duckdb.connect() as duck:
        duck.execute(f"ATTACH '{file}' AS x")
        duck.execute("CREATE TABLE x.t AS SELECT 1 AS i")
    with duckdb.connect(str(file)) as duck:
        ((own,),) = duck.execute("SELECT current_database()").fetchall()
        if own not in ("temp", "main"):
            duck.execute(f'CREATE VIEW v AS SELECT i FROM "{own}".main.t')
    db.connect("shop", f"duckdb://{file}")
    assert refresh_all(db).errors == []


@pytest.mark.parametrize("name", ["a#b.db", "a?b.db", "a%41b.db", "a b.db"])
def test_a_files_name_may_hold_what_urls_have_a_meaning_for(db: RuntimeDB, tmp_path: Path, name: str) -> None:
    with closing(sqlite3.connect(tmp_path / name)) as source:
        source.execute("CREATE TABLE wanted (i)")
        source.commit()
    if "?" not in name:
        (tmp_path / "a").touch()
    db.connect("plainly", f"sqlite://{tmp_path}/{name}")
    db.connect("quoted", f"sqlite://{tmp_path}/{quote(name)}")
    for connection in ("plainly", "quoted"):
        assert [table.table_name for table in db.tables(connection)] == ["wanted"]
