"""The reader: one snapshot, held by a lease, and one SELECT that can do nothing else."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import new_id, schema
from runtimedb_dagster.catalog.leases import LeaseCatalog
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Lease
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import (
    LeaseExpiredError,
    QueryError,
    TableNotCachedError,
    TableNotFoundError,
)
from runtimedb_dagster.query.reader import Query
from runtimedb_dagster_tests.support.parts import (
    NO_RECIPES,
    Inside,
    SourceFile,
    await_that,
    current,
    discovered,
    environment,
    long_after,
    path_of,
    python,
    refresh_all,
    refresh_one,
    rows,
    the_table,
)
from runtimedb_dagster_tests.support.places import every_catalog, every_storage, everywhere

COUNT = "SELECT count(*) FROM shop.main.orders"


@pytest.fixture
def cached(db: RuntimeDB, shop: SourceFile) -> SourceFile:
    """`shop`, with a version of each table."""
    refresh_all(db)
    return shop


def more_orders(db: RuntimeDB, source: SourceFile) -> None:
    """Publish a version of `orders` that differs."""
    source.run("INSERT INTO orders SELECT * FROM orders LIMIT 1")
    refresh_one(db, "orders")


def answer(query: Query, statement: str, params: Any = None) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    return query.execute(statement, params).fetchall()


# The snapshot


@everywhere
def test_a_snapshot_stays_the_same_across_swaps(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        # Neither table is named before it is replaced.
        more_orders(db, cached)
        assert answer(query, COUNT) == [(100,)]
        more_orders(db, cached)
        assert answer(query, COUNT) == [(100,)]
    assert rows(db, COUNT) == [(102,)]


@everywhere
def test_a_sweep_keeps_the_files_of_an_open_query_and_takes_them_afterwards(
    db: RuntimeDB, cached: SourceFile, inside: Inside
) -> None:
    old = path_of(current(db, "orders"))
    with db.query() as query:
        more_orders(db, cached)
        assert db.sweep().files_deleted == 0
        assert old in inside.files()
        assert answer(query, COUNT) == [(100,)]
    assert db.sweep().files_deleted == 1
    assert inside.files() == inside.live()


@everywhere
def test_a_version_replaced_before_the_query_began_is_not_held(db: RuntimeDB, cached: SourceFile) -> None:
    more_orders(db, cached)
    with db.query() as query:
        assert db.sweep().files_deleted == 1
        assert answer(query, COUNT) == [(101,)]


@everywhere
def test_a_table_removed_meanwhile_can_still_be_read(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        db.remove("shop")
        db.sweep()
        assert answer(query, COUNT) == [(100,)]
    cached.path.unlink()
    assert db.sweep().files_deleted == 2


def test_a_connection_removed_while_a_block_is_entered_can_still_be_read(
    db: RuntimeDB, cached: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = LeaseCatalog.open

    def removed_at_once(leases: LeaseCatalog, now: datetime, lifetime: timedelta) -> Lease:
        lease = opened(leases, now, lifetime)
        db.remove("shop")
        return lease

    monkeypatch.setattr(LeaseCatalog, "open", removed_at_once)
    with db.query() as query:
        assert answer(query, COUNT) == [(100,)], "the connections are those of the snapshot's moment"
    assert db.connections() == []
    assert cached.path.exists()


@every_storage
def test_one_block_answers_many_statements(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        first = query.sql("SELECT max(id) AS last FROM shop.main.orders")
        assert answer(query, "SELECT count(*) FROM shop.main.customers") == [(10,)]
        assert first.fetchall() == cached.run("SELECT max(id) FROM orders")


@every_storage
@pytest.mark.usefixtures("cached")
def test_two_connections_can_be_joined(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    db.connect("crm", make_source("crm", "CREATE TABLE people AS SELECT 3 AS id, 'Ada' AS name").url)
    refresh_one(db, "people", "crm")
    joined = "SELECT p.name, o.amount FROM crm.main.people p JOIN shop.main.orders o USING (id)"
    assert [(name, float(amount)) for name, amount in rows(db, joined)] == [("Ada", 4.5)]


@every_storage
def test_columns_are_those_of_the_source(db: RuntimeDB, cached: SourceFile) -> None:
    cached.run('CREATE TABLE odd ("a b" INTEGER, "ü.""x" INTEGER)', "INSERT INTO odd VALUES (1, 2)")
    db.discover("shop")
    refresh_one(db, "odd")
    with db.query() as query:
        assert query.sql("FROM shop.main.odd").columns == ["a b", 'ü."x']


# Names


@every_catalog
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("name", ["shop.main.orders", "SHOP.Main.ORDERS", '"shop"."MAIN"."Orders"'])
def test_names_match_in_any_case(db: RuntimeDB, name: str) -> None:
    assert rows(db, f"SELECT count(*) FROM {name}") == [(100,)]


@every_catalog
def test_case_is_folded_as_duckdb_folds_it(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("fr", 'CREATE TABLE "Été" AS SELECT 7 AS i')
    db.connect("fr", source.url)
    refresh_one(db, "Été", "fr")
    for name in ("Été", "ÉTé"):
        assert source.run(f'FROM "{name}"') == [(7,)]
        assert rows(db, f'FROM fr.main."{name}"') == [(7,)]


@pytest.fixture
def twins(db: RuntimeDB, make_source: Callable[..., SourceFile], inside: Inside) -> None:
    """Two tables whose names differ by case only, as a source other than DuckDB can have."""
    connection = db.connect("pg", make_source("pg", "CREATE TABLE t (i INTEGER)").url)
    generation = inside.catalog.connections.begin_discovery()
    inside.catalog.tables.record_discovery(
        connection, generation, discovered("Twin", "twin", "t"), lambda _: NO_RECIPES, utc_now(), utc_now()
    )
    inside.publish(the_table(db, "Twin", "pg"), "SELECT 'upper' AS which")
    inside.publish(the_table(db, "twin", "pg"), "SELECT 'lower' AS which")


@every_catalog
@pytest.mark.usefixtures("twins")
def test_of_names_that_differ_by_case_the_exact_one_is_read(db: RuntimeDB) -> None:
    with db.query() as query:
        assert answer(query, "FROM pg.main.twin") == [("lower",)]
        assert answer(query, 'FROM pg.main."Twin"') == [("upper",)]
        assert answer(query, "FROM pg.main.twin") == [("lower",)]


@every_catalog
@pytest.mark.usefixtures("twins")
def test_a_name_that_could_be_two_tables_is_refused(db: RuntimeDB) -> None:
    with pytest.raises(QueryError, match=r"pg\.main\.TWIN matches 2 tables; quote it to the letter"):
        rows(db, "FROM pg.main.TWIN")


@pytest.mark.usefixtures("twins")
def test_two_names_that_differ_by_case_in_one_query_are_refused(db: RuntimeDB) -> None:
    with pytest.raises(QueryError, match="differ only by case"):
        rows(db, 'SELECT * FROM pg.main.twin, pg.main."Twin"')


@pytest.mark.usefixtures("shop")
def test_a_table_without_a_version_is_named_with_the_command_that_makes_one(db: RuntimeDB) -> None:
    with pytest.raises(TableNotCachedError, match=r"`runtimedb refresh shop main orders --data`") as caught:
        rows(db, COUNT)
    assert "shop.main.orders" in str(caught.value)
    assert "partition 'main.orders'" in str(caught.value)


@everywhere
@pytest.mark.usefixtures("shop")
def test_a_missing_version_can_be_fetched(db: RuntimeDB) -> None:
    assert rows(db, "SELECT count(*) FROM shop.main.ORDERS", fetch_missing=True) == [(100,)]
    assert the_table(db, "orders").cached
    assert not the_table(db, "customers").cached


@every_catalog
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shop.main.order", "shop.main.orders"),
        ("shp.main.orders", "shop"),
        ("shop.mian.customers", "customers"),
    ],
)
def test_an_unknown_table_gets_a_guess(db: RuntimeDB, name: str, meant: str) -> None:
    with pytest.raises(TableNotFoundError, match=rf"'{name}' not found; did you mean '.*{meant}.*'\?"):
        rows(db, f"SELECT * FROM {name}")


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("statement", ["SELECT * FROM main.orders", "SELECT * FROM orders"])
def test_an_incomplete_name_is_refused(db: RuntimeDB, statement: str) -> None:
    with pytest.raises(QueryError, match=r"connection\.schema\.table"):
        rows(db, statement)


# The sandbox


@dataclass(frozen=True)
class Sandboxed:
    """A database with both tables cached, and a file outside that no statement may reach."""

    db: RuntimeDB
    secret: Path

    def paths(self) -> dict[str, object]:
        """What attacks aim at, by the names they use for it."""
        location = Inside.of(self.db).storage.location
        return {
            "outside": self.secret.parent,
            "secret": self.secret,
            "version": location(path_of(current(self.db, "orders"))),
            "other": location(path_of(current(self.db, "customers"))),
        }


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxed]:
    """One for all attacks: each must leave it as it was."""
    directory = tmp_path_factory.mktemp("sandboxed")
    source = SourceFile(directory / "shop.duckdb")
    source.run(
        "CREATE TABLE orders AS SELECT range AS id, range * 1.5 AS amount FROM range(100)",
        "CREATE TABLE customers AS SELECT range AS id FROM range(10)",
    )
    secret = directory / "outside" / "secret.csv"
    secret.parent.mkdir()
    secret.write_text("a,b\n1,2\n")
    with RuntimeDB(Settings(home=directory / "home", threads=1)) as db:
        db.connect("shop", source.url)
        refresh_all(db)
        yield Sandboxed(db, secret)


ALLOWED = [
    "SELECT 1",
    "VALUES (1)",
    "FROM shop.main.orders",
    "WITH big AS (SELECT * FROM shop.main.orders WHERE id > 5) SELECT count(*) FROM big",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "SELECT * FROM shop.main.orders WHERE id IN (SELECT id FROM shop.main.customers)",
    "SELECT id FROM shop.main.orders UNION ALL SELECT id FROM shop.main.customers",
    "DESCRIBE shop.main.orders",
    "DESCRIBE SELECT * FROM shop.main.orders",
    "SUMMARIZE shop.main.orders",
    "SELECT * FROM range(3)",
    "SELECT unnest([1, 2])",
    "PIVOT shop.main.customers ON id IN (1, 2) USING count(*)",
    "SELECT schema_name FROM information_schema.schemata",
    "SELECT 1;",
    "SELECT ';' -- two; or not",
]


@pytest.mark.parametrize("statement", ALLOWED)
def test_a_select_is_answered(sandboxed: Sandboxed, statement: str) -> None:
    assert rows(sandboxed.db, statement) != []


@pytest.mark.parametrize("statement", ["SELECT current_setting('http_proxy')", "SELECT setting FROM pg_settings"])
def test_no_query_sees_the_password_of_a_proxy(
    sandboxed: Sandboxed, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:canary@127.0.0.1:9")
    assert "canary" not in str(rows(sandboxed.db, statement))


REFUSED = [
    "",
    "   ",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "SELEC 1",
    "COPY (SELECT 1) TO '{outside}/written.csv'",
    "COPY shop.main.orders TO '{version}'",
    "COPY shop.main.orders FROM '{secret}'",
    "EXPORT DATABASE '{outside}/exported'",
    "ATTACH '{outside}/attached.db' AS x",
    "DETACH shop",
    "USE shop",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET VARIABLE x = 1",
    "RESET allowed_paths",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP SECRET s",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "CREATE VIEW shop.main.v AS SELECT 1",
    "DROP VIEW shop.main.orders",
    "INSERT INTO shop.main.orders VALUES (1, 1)",
    "UPDATE shop.main.orders SET id = 1",
    "DELETE FROM shop.main.orders",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "CALL enable_logging()",
    "PREPARE p AS SELECT 1",
    "FROM enable_logging()",
    "FROM disable_logging()",
    "FROM read_csv('{secret}')",
    "FROM read_text('{secret}')",
    "FROM read_blob('{secret}')",
    "FROM read_json('{secret}')",
    "FROM glob('{outside}/*')",
    "FROM read_parquet('{other}')",
    "FROM parquet_metadata('{other}')",
    "FROM parquet_scan('{version}')",
    "FROM '{secret}'",
    "FROM '{other}'",
    "SELECT * FROM shop.main.orders, '{other}'",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "WITH x AS (FROM read_text('{secret}')) SELECT * FROM x",
    "SELECT * FROM shop.main.orders WHERE EXISTS (FROM read_text('{secret}'))",
    "FROM main.read_text('{secret}')",
    "FROM system.main.read_text('{secret}')",
    "FROM shop.main.read_text('{secret}')",
    "FROM \"READ_TEXT\"('{secret}')",
    "WITH x AS (INSERT INTO shop.main.orders VALUES (1, 1) RETURNING *) FROM x",
    "FROM query('SELECT 1')",
    "FROM query_table('shop.main.customers')",
    "FROM query_table(['shop.main.customers'])",
    "SELECT getenv('HOME')",
    "FROM duckdb_secrets()",
    "FROM duckdb_settings()",
    "FROM which_secret('s3://x', 's3')",
    "FROM pragma_database_list()",
    "FROM sniff_csv('{secret}')",
    "FROM checkpoint()",
    "FROM 'https://example.com/x.parquet'",
    "DESCRIBE '{secret}'",
    "SUMMARIZE '{other}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}/written.csv'",
    "FROM arrow_scan(0, 0, 0)",
    "FROM pandas_scan(0)",
    "FROM seq_scan('orders')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM duckdb_logs()",
    "FROM duckdb_databases()",
    "FROM duckdb_extensions()",
    "FROM duckdb_temporary_files()",
    "FROM read_duckdb('{other}')",
    "FROM read_csv_auto('{secret}')",
    "FROM read_ndjson_objects('{secret}')",
    "FROM read_text(['{secret}', '{secret}'])",
    "FROM read_text(getvariable('x'))",
    "FROM 'file://{secret}'",
    "FROM 's3://bucket/key.parquet'",
    "FROM summary((FROM read_text('{secret}')))",
    "SELECT * FROM (PIVOT (FROM read_csv('{secret}')) ON a USING sum(b))",
    "UNPIVOT (FROM read_csv('{secret}')) ON a INTO NAME n VALUE v",
    "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{secret}')))",
    "WITH RECURSIVE r AS (FROM read_text('{secret}') UNION ALL FROM r) FROM r",
    "SELECT * FROM shop.main.orders, LATERAL (FROM read_text('{secret}'))",
    "FROM shop.main.orders POSITIONAL JOIN '{secret}'",
    "SELECT * FROM shop.main.orders ORDER BY (SELECT content FROM read_text('{secret}'))",
    "SELECT count(*) FILTER (EXISTS (FROM read_text('{secret}'))) FROM shop.main.orders",
    "SELECT * FROM shop.main.orders LIMIT (SELECT length(content) FROM read_text('{secret}'))",
    "SELECT * FROM shop.main.orders QUALIFY (SELECT true FROM read_text('{secret}'))",
    "VALUES ((SELECT content FROM read_text('{secret}')))",
    "MERGE INTO shop.main.orders USING (SELECT 1 AS id) s ON orders.id = s.id WHEN MATCHED THEN DELETE",
    "ALTER VIEW shop.main.orders RENAME TO stolen",
    "COMMENT ON VIEW shop.main.orders IS 'x'",
    "ANALYZE",
    "EXECUTE p",
    "DEALLOCATE p",
    "IMPORT DATABASE '{outside}'",
    "LOAD '{outside}/x.duckdb_extension'",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:1'",
    "UPDATE EXTENSIONS",
    "CREATE TYPE t AS INTEGER",
    "CREATE SEQUENCE s",
    "DROP SCHEMA shop.main CASCADE",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_anything_else_is_refused_and_nothing_happens(sandboxed: Sandboxed, statement: str) -> None:
    with sandboxed.db.query() as query:
        assert answer(query, COUNT) == [(100,)]
        with pytest.raises(QueryError):
            answer(query, statement.format(**sandboxed.paths()))
        with pytest.raises(QueryError):
            query.sql(statement.format(**sandboxed.paths())).fetchall()
        assert answer(query, COUNT) == [(100,)]
    assert [path.name for path in sandboxed.secret.parent.iterdir()] == ["secret.csv"]
    assert sandboxed.secret.read_text() == "a,b\n1,2\n"
    assert sandboxed.db.verify() == []


def test_a_variable_of_python_is_no_table(sandboxed: Sandboxed) -> None:
    secret = [(1,)]
    with pytest.raises(QueryError):
        rows(sandboxed.db, "SELECT * FROM secret")
    assert secret == [(1,)]


def test_parameters_are_values(sandboxed: Sandboxed) -> None:
    with sandboxed.db.query() as query:
        assert answer(query, f"{COUNT} WHERE id < ?", [7]) == [(7,)]
        assert answer(query, f"{COUNT} WHERE id < $1", [8]) == [(8,)]
        assert answer(query, f"{COUNT} WHERE id < $most", {"most": 9}) == [(9,)]
        assert query.sql("SELECT ? AS t", params=["'; DROP"]).fetchall() == [("'; DROP",)]


def test_a_wrong_column_is_a_query_error(sandboxed: Sandboxed) -> None:
    with pytest.raises(QueryError, match="nothing"):
        rows(sandboxed.db, "SELECT nothing FROM shop.main.orders")


def test_only_named_tables_become_views_however_many_there_are(
    db: RuntimeDB, make_source: Callable[..., SourceFile], inside: Inside
) -> None:
    connection = db.connect("wide", make_source("wide", "CREATE TABLE t0 AS SELECT 7 AS i").url)
    names = [f"t{number}" for number in range(10_000)]
    generation = inside.catalog.connections.begin_discovery()
    found = discovered(*names, columns=(SourceColumn("i", "INTEGER"),))
    inside.catalog.tables.record_discovery(connection, generation, found, lambda _: NO_RECIPES, utc_now(), utc_now())
    refresh_one(db, "t0", "wide")
    _pretend_to_be_cached(inside)

    # Views may show an error for a file that is not there, so this also tells that none was opened.
    with db.query() as query:
        counted = "SELECT (SELECT count(*) FROM duckdb_views() WHERE NOT internal), i FROM wide.main.t0"
        assert answer(query, counted) == [(1, 7)]


def _pretend_to_be_cached(inside: Inside) -> None:
    tables = [table for table in inside.catalog.tables.list() if not table.cached]
    ids = {table.id: new_id() for table in tables}
    numbers = dict.fromkeys(("rows", "duration_ms"), 0)
    versions = [
        {"id": id_, "columns": [], "fingerprint": "", "created_at": utc_now(), **numbers} for id_ in ids.values()
    ]
    files = [
        {"version_id": id_, "path": f"nowhere/{id_}.parquet", "number": 0, "rows": 0, "bytes": 0}
        for id_ in ids.values()
    ]
    publications = [
        {
            "version_id": ids[table.id],
            "connection_id": table.connection_id,
            "schema_name": table.schema_name,
            "table_name": table.table_name,
            "from_sequence": 0,
        }
        for table in tables
    ]
    with inside.catalog._database.write() as tx:
        tx.execute(insert(schema.versions), versions)
        tx.execute(insert(schema.data_files), files)
        tx.execute(insert(schema.publications), publications)
        tx.execute(
            update(schema.tables)
            .values(version_id=schema.publications.c.version_id)
            .where(
                schema.tables.c.version_id.is_(None),
                schema.publications.c.connection_id == schema.tables.c.connection_id,
                schema.publications.c.schema_name == schema.tables.c.schema_name,
                schema.publications.c.table_name == schema.tables.c.table_name,
            )
        )


# The lease


@every_catalog
def test_a_lease_is_renewed_for_as_long_as_the_block_runs(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile]
) -> None:
    db = make_db(grace_period=0, reader_lease=0.4)
    source = make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(100)")
    db.connect("shop", source.url)
    refresh_one(db, "orders")
    with db.query() as query:
        more_orders(db, source)
        began = utc_now()
        await_that(lambda: utc_now() > began + 3 * db.settings.reader_lease, "three lives of a lease")
        assert db.sweep().files_deleted == 0
        assert answer(query, COUNT) == [(100,)]
    assert db.sweep().files_deleted == 1


@every_catalog
@pytest.mark.usefixtures("cached")
def test_a_lease_that_expired_ends_the_reader(make_db: Callable[..., RuntimeDB]) -> None:
    db = make_db(grace_period=0, reader_lease=0.3)
    leases = Inside.of(db).catalog.leases

    def refused() -> bool:
        try:
            answer(query, COUNT)
        except LeaseExpiredError:
            return True
        return False

    with db.query() as query:
        # Any reader that opens clears away leases that ended long ago.
        leases.close(leases.open(long_after(db.settings), timedelta(seconds=1)))
        await_that(refused, "the reader to notice")


@every_catalog
@pytest.mark.usefixtures("cached")
def test_a_statement_after_the_lease_is_refused_before_its_heartbeat_notices(db: RuntimeDB, inside: Inside) -> None:
    leases = inside.catalog.leases
    with db.query() as query:
        leases.close(leases.open(long_after(db.settings), timedelta(seconds=1)))
        with pytest.raises(LeaseExpiredError):
            answer(query, COUNT)


SUSPENDED = """if True:
    import sys
    from runtimedb_dagster import RuntimeDB
    from runtimedb_dagster.domain.errors import LeaseExpiredError
    with RuntimeDB() as db, db.query() as query:
        query.execute("SELECT 1 FROM shop.main.orders").fetchall()
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            print(query.execute("SELECT count(*) FROM shop.main.orders").fetchall())
        except LeaseExpiredError as error:
            print("expired")
        try:
            print(query.execute("SELECT count(*) FROM shop.main.customers").fetchall())
        except LeaseExpiredError as error:
            print("expired")
"""


def suspend(process: subprocess.Popen[str], db: RuntimeDB) -> None:
    """Stop a process, not in the middle of a transaction on SQLite: nobody could write before it goes on."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if db.settings.catalog_url:
            return
        with closing(sqlite3.connect(db.settings.home / "catalog.db", timeout=1, isolation_level=None)) as catalog:
            try:
                catalog.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
            else:
                return


@everywhere
def test_a_reader_that_was_suspended_for_longer_than_its_lease_is_told(
    db: RuntimeDB, cached: SourceFile, inside: Inside
) -> None:
    process = python(SUSPENDED, env=environment(db, reader_lease=1))
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        suspend(process, db)
        process.stdin.write("\n")
        process.stdin.flush()
        more_orders(db, cached)
        cached.run("DELETE FROM customers")
        refresh_one(db, "customers")
        await_that(lambda: db.engine.deletions_due() == 2, "the lease of the suspended reader to end")
        assert db.sweep().files_deleted == 2
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (out, err, process.returncode) == ("expired\nexpired\n", "", 0)
    assert inside.files() == inside.live()
