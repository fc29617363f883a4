"""PostgreSQL: discovery, one consistent read, options and errors, on a real server."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from runtimedb_dagster import RefreshRequest
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import RefreshError, SourceError, SourceUnavailableError
from runtimedb_dagster.sources.attached.postgresql import catalog as postgresql_catalog
from runtimedb_dagster.sources.attached.postgresql import dialect as postgresql
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import await_that, output_of, path_of, reading_of
from runtimedb_dagster_tests.support.proxy import dying, proxy
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, replica
from runtimedb_dagster_tests.support.tls import TLSFront, tls_front

ENDLESS = "CREATE VIEW endless AS SELECT i, md5(i::text) AS h FROM generate_series(1, 10000000000) AS s(i)"


@pytest.fixture
def parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have DuckDB's parallel scan read small tables too."""
    monkeypatch.setattr(postgresql, "PARALLEL_FROM_PAGES", 0)


def origin(pg: Remote, name: str) -> str:
    """What a table is read from."""
    with open_source(pg.db.connection("pg"), {}) as source, reading_of(source, pg.table(name).ref) as reading:
        return reading.origin


def test_a_table_of_mixed_types_is_refreshed_and_queried(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(12,2) NOT NULL, placed timestamptz, note text)",
        "INSERT INTO orders SELECT i, i * 1.25, '2024-01-01'::timestamptz + i * interval '1 minute', 'n' || i "
        "FROM generate_series(1, 1000) i",
    )
    pg.connect()
    assert pg.refresh_all().total_rows == 1000
    assert pg.query("orders", "count(*), sum(total)::VARCHAR, max(placed)::VARCHAR, max(note)") == [
        (1000, "625625.00", "2024-01-01 16:40:00+00", "n999")
    ]
    first = pg.version("orders").id
    pg.run("VACUUM FULL orders", "CREATE INDEX ON orders (note DESC)", "CLUSTER orders USING orders_note_idx")
    pg.refresh("orders")
    assert pg.version("orders").id == first, "the same rows in another order are the same content"


# Discovery


def test_discovery_lists_what_one_can_select_from(pg: Remote) -> None:
    pg.run(
        "CREATE SCHEMA other",
        "CREATE TABLE keyed (b int, a int NOT NULL, note varchar(9) DEFAULT 'x', PRIMARY KEY (b, a))",
        "COMMENT ON TABLE keyed IS 'what it is'",
        "COMMENT ON COLUMN keyed.note IS 'what it says'",
        "INSERT INTO keyed SELECT i, i FROM generate_series(1, 50) i",
        "CREATE TABLE other.parts (day date, v int) PARTITION BY RANGE (day)",
        "CREATE TABLE other.parts_1 PARTITION OF other.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE other.parts_2 PARTITION OF other.parts DEFAULT",
        "INSERT INTO other.parts VALUES ('2024-05-05', 1), ('1999-01-01', 2)",
        "CREATE VIEW seen AS SELECT a FROM keyed",
        "CREATE MATERIALIZED VIEW made AS SELECT count(*) AS n FROM keyed",
        "CREATE TEMPORARY TABLE passing (i int)",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
        "CREATE FOREIGN TABLE far (i int) SERVER self",
        "ANALYZE",
    )
    pg.connect()
    found = {f"{table.schema_name}.{table.table_name}": table for table in pg.db.tables("pg")}
    assert {name: table.kind for name, table in found.items()} == {
        "public.keyed": "table",
        "public.seen": "view",
        "public.made": "materialized view",
        "public.far": "foreign table",
        "other.parts": "partitioned table",
    }
    keyed = found["public.keyed"]
    assert (keyed.primary_key, keyed.comment, keyed.estimated_rows) == (("b", "a"), "what it is", 50)
    assert keyed.columns == (
        SourceColumn("b", "integer", nullable=False),
        SourceColumn("a", "integer", nullable=False),
        SourceColumn("note", "character varying(9)", comment="what it says"),
    )
    errors = pg.refresh_all().errors
    assert [error["table_name"] for error in errors] == ["far"], errors
    assert sorted(pg.query("parts", "v")) == [(1,), (2,)]
    assert pg.query("made") == [(50,)]


def test_patterns_choose_the_tables(pg: Remote) -> None:
    pg.run("CREATE SCHEMA sales", *(f"CREATE TABLE {name} (i int)" for name in ("sales.a", "sales.tmp_b", "public.C")))
    pg.connect(include="sales.*,C", exclude="*.TMP_*")
    assert [str(table.ref) for table in pg.db.tables("pg")] == ["pg.public.c", "pg.sales.a"]


NAMES = [
    'quo"te',
    "dot.s",
    "sla/sh",
    "a space",
    "com,ma",
    "😀",
    "select",
    "n" * 63,
    "per%cent",
    "back\\slash",
    "it's",
    "$1 {x}",
]


def test_names_are_kept_to_the_letter(pg: Remote, parallel: None) -> None:
    for name in NAMES:
        quoted = '"' + name.replace('"', '""') + '"'
        pg.run(f"CREATE SCHEMA {quoted}", f"CREATE TABLE {quoted}.{quoted} ({quoted} int)")
        pg.run(f"INSERT INTO {quoted}.{quoted} VALUES (7)")
    pg.connect()
    assert pg.refresh_all().tables_refreshed == len(NAMES)
    for name in NAMES:
        table = pg.table(name)
        assert (table.schema_name, table.columns[0].name) == (name, name)
        assert pg.query(name) == [(7,)]


def test_tables_whose_names_differ_by_case_only_keep_their_own_rows(pg: Remote, parallel: None) -> None:
    pg.run(
        "CREATE TABLE t1 AS SELECT 1 AS v", 'CREATE TABLE "T1" AS SELECT 2 AS v', "CREATE TABLE alone AS SELECT 3 AS v"
    )
    pg.connect()
    assert pg.refresh_all().tables_refreshed == 3
    assert [pg.arrow(name)["v"].to_pylist() for name in ("t1", "T1")] == [[1], [2]]
    assert "postgres_query" not in origin(pg, "alone")


def test_a_table_made_after_duckdb_looked_is_not_taken_for_its_twin(pg: Remote, parallel: None) -> None:
    pg.run(
        "CREATE TABLE t1 AS SELECT 1 AS v", 'CREATE TABLE "T1" AS SELECT 2 AS v', "CREATE TABLE alone AS SELECT 3 AS v"
    )
    pg.run("CREATE VIEW seen AS SELECT 4 AS v")
    pg.connect()
    with open_source(pg.db.connection("pg"), {}) as source:
        with reading_of(source, pg.table("seen").ref):
            pass  # the names that differ by case only are noted, and DuckDB has not looked yet
        pg.run('DROP TABLE "T1"')
        with reading_of(source, pg.table("alone").ref) as alone:
            assert "postgres_query" not in alone.origin  # now DuckDB has looked, and knows t1 alone
        pg.run('CREATE TABLE "T1" AS SELECT 5 AS v')
        with reading_of(source, pg.table("T1").ref) as twin:
            assert twin.scan.duck.execute(twin.select).fetchall() == [(5,)]


def test_columns_whose_names_differ_by_case_only_are_refused_by_name(pg: Remote) -> None:
    pg.run('CREATE TABLE t AS SELECT 1 AS id, 2 AS "ID"')
    pg.connect()
    (error,) = pg.refresh_all().errors
    assert 'columns "id" and "ID" differ by case only' in error["error"]
    pg.db.configure("pg", options={"exclude_columns": "nothing"})
    pg.run('ALTER TABLE t RENAME "ID" TO other')
    pg.refresh("t")
    assert pg.query("t") == [(1, 2)]


# One consistent read


@contextmanager
def moving_money(pg: Remote) -> Iterator[Callable[[], int]]:
    """Move money between rows all the time; yields how many moves were made."""
    moves, stop = [0], threading.Event()

    def move() -> None:
        with closing(pg.server.connect(pg.database)) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(
                    "WITH a AS (UPDATE account SET v = v - 1 WHERE id = 1 + mod(%s, 100000)) "
                    "UPDATE account SET v = v + 1 WHERE id = 200000 - mod(%s, 99999)",
                    (moves[0] * 7919, moves[0] * 104729),
                )
                moves[0] += 1

    with ThreadPoolExecutor() as pool:
        moving = pool.submit(move)
        try:
            yield lambda: moves[0]
        finally:
            stop.set()
            moving.result()


def test_a_parallel_scan_sees_one_state_while_rows_are_updated(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE account AS SELECT i AS id, 100 AS v, repeat('x', 150) AS f FROM generate_series(1, 200000) i",
        "CREATE UNIQUE INDEX ON account (id)",
        "VACUUM ANALYZE account",
    )
    pg.connect()
    assert "postgres_query" not in origin(pg, "account")
    with moving_money(pg) as moves:
        for _ in range(5):
            before = moves()
            await_that(lambda: moves() > before, "a move")  # noqa: B023 - awaited at once
            started = moves()
            pg.refresh("account")
            assert moves() > started, "nothing moved while the table was read"
            assert pg.query("account", "count(*), sum(v)") == [(200_000, 20_000_000)]


def test_rows_beyond_the_pages_that_the_statistics_know_are_read(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE t AS SELECT i, repeat('x', 150) AS filler FROM generate_series(1, 60000) i",
        "ANALYZE t",
        "INSERT INTO t SELECT i, repeat('x', 150) FROM generate_series(60001, 150000) i",
    )
    pg.connect()
    assert "postgres_query" not in origin(pg, "t")
    pg.refresh("t")
    assert pg.query("t", "count(*), sum(i)") == [(150_000, 11_250_075_000)]


def test_rows_of_inheriting_tables_are_read(pg: Remote, parallel: None) -> None:
    pg.run("CREATE TABLE parent (i int)", "CREATE TABLE child () INHERITS (parent)", "INSERT INTO parent VALUES (1)")
    pg.run("INSERT INTO child SELECT generate_series(2, 5000)", "ANALYZE")
    pg.connect()
    pg.refresh("parent")
    assert pg.query("parent", "count(*)") == [(5000,)]


@pytest.mark.parametrize(
    "change", ["ALTER TABLE t ALTER COLUMN v TYPE bigint", "TRUNCATE t; INSERT INTO t SELECT generate_series(1, 1000)"]
)
def test_a_table_that_is_being_rewritten_is_read_whole(pg: Remote, change: str) -> None:
    pg.run("CREATE TABLE t AS SELECT generate_series(1, 1000) AS v")
    pg.connect()
    with pg.server.begin(pg.database) as changing, ThreadPoolExecutor() as pool:
        changing.cursor().execute(change)
        refreshed = pool.submit(pg.refresh, "t")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'runtimedb'"
        )
        await_that(lambda: refreshed.done() or pg.run(waiting)[0][0], "the refresh to wait for the table")
        assert not refreshed.done()
        changing.cursor().execute("COMMIT")
        assert refreshed.result().rows_synced == 1000


def test_a_table_altered_since_its_discovery_has_the_files_columns(pg: Remote, parallel: None) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS a, 2 AS b")
    pg.connect()
    with open_source(pg.db.connection("pg"), {}) as source, reading_of(source, pg.table("t").ref) as before:
        assert "postgres_query" not in before.origin  # DuckDB has made itself an idea of the table
        pg.db.sweep()
    pg.run(
        "ALTER TABLE t ALTER COLUMN a TYPE text USING 'x'",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t ADD c int DEFAULT 3",
    )
    pg.refresh("t")
    assert [(column.name, column.type) for column in pg.version("t").columns] == [("a", "VARCHAR"), ("c", "INTEGER")]
    assert pg.query("t") == [("x", 3)]


def test_duckdbs_stale_idea_of_a_table_is_not_read_by(pg: Remote, parallel: None) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS a")
    pg.connect()
    with open_source(pg.db.connection("pg"), {}) as source:
        with reading_of(source, pg.table("t").ref) as before:
            assert "postgres_query" not in before.origin
        pg.run("ALTER TABLE t ALTER COLUMN a TYPE text USING 'x'")
        with reading_of(source, pg.table("t").ref) as after:
            assert after.scan.duck.execute(after.select).fetchall() == [("x",)]


def described(pg: Remote, query: str, name: str) -> list[tuple[Any, ...]]:
    """What a query says of a table, columns without what they don't have."""
    rows = pg.run(query.format(chosen=f"n.nspname = 'public' AND c.relname = '{name}'"))
    return [
        (*about, [{key: value for key, value in column.items() if value is not None} for column in json.loads(columns)])
        for _, *about, columns in rows
    ]


def test_built_in_types_are_described_alike_by_the_short_query(pg: Remote) -> None:
    whole = postgresql_catalog.RELATIONS + postgresql_catalog.DESCRIBED
    pg.run(
        "CREATE TABLE plain (id bigint PRIMARY KEY, n numeric(12,2), v varchar(20) NOT NULL, t timetz(3), gone int)",
        "ALTER TABLE plain DROP gone",
        "COMMENT ON COLUMN plain.n IS 'money'",
        "CREATE TABLE nothing ()",
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE DOMAIN sure AS integer NOT NULL",
        "CREATE TYPE pair AS (a int, b int)",
    )
    for name in ("plain", "nothing"):
        assert described(pg, postgresql_catalog.BUILT_IN, name) == described(pg, whole, name) != []
    for kind in ("mood", "sure", "pair", "int[]", "mood[]", "int4range"):
        pg.run("DROP TABLE IF EXISTS other", f"CREATE TABLE other (id integer, v {kind})")
        assert described(pg, postgresql_catalog.BUILT_IN, "other") == [], kind


def test_a_dropped_table_fails_with_what_to_do_and_its_siblings_do_not(pg: Remote) -> None:
    pg.run("CREATE TABLE gone AS SELECT 1 AS v", "CREATE TABLE stays AS SELECT 2 AS v")
    pg.connect()
    pg.refresh_all()
    pg.run("DROP TABLE gone")
    result = pg.refresh_all()
    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    assert result.errors[0]["error"].startswith("pg.public.gone: the source no longer has it")
    assert pg.query("gone") == [(1,)], "the old version keeps serving"


# Rows, columns, masks


def test_conditions_columns_and_masks_are_applied_on_the_way(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE users (id int, email text, ssn text NOT NULL, secret numeric, born date)",
        "INSERT INTO users VALUES (1, 'a@x', '123', 1.5, '1990-01-01'), (2, NULL, '456', NULL, '2010-01-01')",
        "CREATE TABLE orders (id int, user_email text, note text)",
        "INSERT INTO orders VALUES (7, 'a@x', 'n')",
    )
    pg.connect(
        where={"public.users": "born < now() - interval '20 years' -- adults"},
        exclude_columns="orders.note",
        mask="*email*:sha256,ssn:redact,users.secret:null",
    )
    assert pg.refresh_all().errors == []
    hashed = "a8af8341993604f29cd4e0e5a5a4b5d48c575436c38b28abbfd7d481f345d5db"
    (user,) = pg.query("users")
    assert user[:1] + user[2:4] == (1, "***", None)
    assert pg.query("orders") == [(7, user[1])], "equal values have equal hashes, so that tables still join"
    assert len(user[1]) == len(hashed)
    declared = {column.name: column.remark for column in pg.version("users").columns}
    assert declared == {
        "id": None, "email": "masked: sha256", "ssn": "masked: redact", "secret": "masked: null", "born": None,
    }  # fmt: skip
    raw = b"".join(path.read_bytes() for path in (pg.db.settings.home / "storage").rglob("*.parquet"))
    assert b"a@x" not in raw
    pg.run("CREATE TABLE later (other_EMAIL text)", "INSERT INTO later VALUES ('b@x')")
    pg.db.discover("pg")
    pg.refresh("later")
    assert pg.query("later") != [("b@x",)]


def test_only_the_columns_that_are_asked_for(pg: Remote) -> None:
    pg.run("CREATE TABLE a AS SELECT 1 AS id, 2 AS x, 3 AS y", "CREATE TABLE b AS SELECT 4 AS id, 5 AS x")
    pg.connect(columns="a.id,a.y")
    pg.refresh_all()
    assert (pg.query("a"), pg.query("b")) == ([(1, 3)], [(4, 5)])
    pg.db.configure("pg", options={"exclude_columns": "a.*"})
    (error,) = pg.refresh_all().errors
    assert error["error"] == "pg.public.a: the patterns leave it no columns"


def test_a_condition_that_the_server_refuses_names_the_table(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS v")
    pg.connect(where="t: no_such_column > 1")
    (error,) = pg.refresh_all().errors
    assert error["error"].startswith("pg.public.t: ")
    assert 'column "no_such_column" does not exist' in error["error"]


def test_a_condition_can_not_write(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE t AS SELECT 1 AS v",
        "CREATE FUNCTION f() RETURNS bool LANGUAGE sql AS 'DELETE FROM t RETURNING true'",
    )
    pg.connect(where="t: f()")
    (error,) = pg.refresh_all().errors
    assert "read-only transaction" in error["error"]
    assert pg.run("SELECT count(*) FROM t") == [(1,)]


# Faults


def test_a_server_that_is_away_is_said_and_passes(pg: Remote) -> None:
    with pytest.raises(
        SourceUnavailableError, match=r"^Connection 'away' \(postgresql://owner@127\.0\.0\.1:1/x\) can't be opened"
    ):
        pg.db.connect("away", "postgresql://owner@127.0.0.1:1/x", password_env=PASSWORD_ENV)


@pytest.mark.parametrize(("sslmode", "silent"), [("disable", False), ("disable", True), ("require", False)])
def test_a_server_that_ends_while_it_is_connected_to_is_away(pg: Remote, sslmode: str, silent: bool) -> None:
    with dying(silent=silent) as port, pytest.raises(SourceUnavailableError):
        pg.db.connect("away", f"postgresql://owner@127.0.0.1:{port}/x?sslmode={sslmode}", password_env=PASSWORD_ENV)


def test_a_wrong_password_is_said_and_does_not_pass(pg: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "wrong")
    with pytest.raises(
        SourceError, match='password authentication failed for user "owner"; set the right password'
    ) as caught:
        pg.connect()
    assert not isinstance(caught.value, SourceUnavailableError)
    assert PASSWORD not in str(caught.value)


def test_a_table_that_may_not_be_read_fails_alone(pg: Remote, postgres_server: Server) -> None:
    role = f"reader_{pg.database}"
    pg.run("CREATE TABLE open AS SELECT 1 AS v", "CREATE TABLE closed AS SELECT 2 AS v")
    with closing(pg.server.connect(pg.database)) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    pg.run(f"GRANT SELECT ON open, closed TO {role}")
    pg.db.connect("pg", pg.server.url(pg.database).replace("owner@", f"{role}@"), password_env=PASSWORD_ENV)
    pg.refresh_all()
    pg.run(f"REVOKE SELECT ON closed FROM {role}")
    pg.db.discover("pg")
    result = pg.refresh_all()
    assert [error["table_name"] for error in result.errors] == ["closed"]
    assert result.errors[0]["error"] == (
        "pg.public.closed: the source can't describe it: permission denied for table closed; grant SELECT on it, "
        "or leave it out with the option exclude"
    )
    assert pg.query("closed") == [(2,)]
    pg.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def busy(pg: Remote) -> list[tuple[Any, ...]]:
    """The server's processes that read for us now."""
    return pg.run(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'runtimedb' "
        "AND state = 'active' AND query ILIKE '%endless%' AND pid <> pg_backend_pid()"
    )


def test_a_connection_lost_in_the_middle_leaves_the_old_version_and_nothing_else(pg: Remote) -> None:
    pg.run("CREATE VIEW endless AS SELECT 1 AS i")
    pg.connect()
    pg.refresh("endless")
    pg.run("DROP VIEW endless", ENDLESS)
    with ThreadPoolExecutor() as pool:
        refreshing = pool.submit(pg.refresh, "endless")
        await_that(lambda: busy(pg), "the reading to begin")
        pg.run(f"SELECT pg_terminate_backend({busy(pg)[0][0]})")
        with pytest.raises(RefreshError, match=r"^pg\.public\.endless: reading it failed: .*(terminating|closed|COPY)"):
            refreshing.result(60)
    assert pg.query("endless") == [(1,)]
    assert [path.name for path in (pg.db.settings.home / "storage").rglob("*.parquet*")] == [
        path_of(pg.version("endless")).rpartition("/")[2]
    ]


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_connection_cut_at_any_row_leaves_the_old_version_and_nothing_else(pg: Remote, part: float) -> None:
    pg.run("CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 100000) AS s(i)")
    with proxy(pg.server.port) as between:
        url = pg.server.url(pg.database).replace(f":{pg.server.port}/", f":{between.port}/")
        pg.db.connect(pg.name, url, password_env=PASSWORD_ENV)
        before = between.answered
        pg.refresh("t")
        size = between.answered - before
        assert size > 100_000 * 32
        first = path_of(pg.version("t"))
        pg.run("UPDATE t SET h = 'x' || h")
        between.allowed = between.answered + part * size
        with pytest.raises((RefreshError, SourceError), match="pg"):
            pg.refresh("t")
    assert pg.query("t", "count(*), max(h) < 'x'") == [(100_000, True)]
    files = [path.name for path in (pg.db.settings.home / "storage").rglob("*.parquet*")]
    assert files == [first.rpartition("/")[2]]


DISCOVERED_WHILE_CUT = """
import sys
from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster_tests.support.proxy import proxy

home, url, port = sys.argv[1:]
with proxy(int(port)) as between, RuntimeDB(Settings(home=home)) as db:
    db.connect("far", url.replace(f":{port}/", f":{between.port}/"), password_env="RUNTIMEDB_TEST_PASSWORD")
    before = between.answered
    db.discover("far")
    size = between.answered - before
    failed = 0
    for part in range(40):
        between.allowed = between.answered + size * part / 40
        try:
            db.discover("far")
        except RuntimeDBError as error:
            assert "'far'" in str(error), error
            failed += 1
        between.allowed = float("inf")
    db.discover("far")
print(failed)
"""


def test_a_connection_cut_anywhere_in_a_discovery_is_an_error_and_the_process_lives(pg: Remote, tmp_path: Path) -> None:
    pg.run("CREATE TABLE t (i int)")
    failed = output_of(
        DISCOVERED_WHILE_CUT.replace("RUNTIMEDB_TEST_PASSWORD", PASSWORD_ENV),
        tmp_path / "home",
        pg.server.url(pg.database),
        pg.server.port,
        env=dict(os.environ),
    )
    assert int(failed) > 30


def test_a_statement_timeout_is_said(pg: Remote) -> None:
    pg.run(ENDLESS)
    pg.connect(statement_timeout=1)
    (error,) = pg.refresh_all().errors
    assert error["error"].endswith("canceling statement due to statement timeout; raise the option statement_timeout")


def test_a_reading_that_takes_too_long_is_ended_here_and_on_the_server(pg: Remote) -> None:
    pg.run(ENDLESS, "CREATE TABLE quick AS SELECT 1 AS v")
    pg.connect(read_timeout=1.5)
    result = pg.refresh_all()
    assert result.tables_refreshed == 1
    (error,) = result.errors
    assert (
        error["error"]
        == "pg.public.endless: reading it failed: it took longer than 1.5 s; raise the option read_timeout"
    )
    await_that(lambda: not busy(pg), "the server to stop reading")


def timer(port: int) -> list[str]:
    """Kind and ticks, in hexadecimal, of the timer that the kernel keeps for the local end of a connection."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
    (found,) = [fields[5] for fields in sockets if fields[1].endswith(f":{port:04X}")]
    return found.split(":")


def test_a_network_that_goes_silent_is_noticed(pg: Remote) -> None:
    """The kernel asks a silent server after half a minute, not after its usual two hours."""
    pg.run(f"{ENDLESS} WHERE pg_sleep(60) IS NULL")
    pg.connect()
    with ThreadPoolExecutor() as pool:
        refreshing = pool.submit(pg.refresh, "endless")
        await_that(lambda: busy(pg), "the reading to begin")
        ((pid,),) = busy(pg)
        ((port,),) = pg.run(f"SELECT client_port FROM pg_stat_activity WHERE pid = {pid}")
        try:
            # For some milliseconds after each statement the timer is that of its acknowledgement.
            await_that(lambda: timer(port)[0] == "02", "a keepalive timer")
            _, ticks = timer(port)
        finally:
            pg.run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(RefreshError):
            refreshing.result(60)
    assert int(ticks, 16) / os.sysconf("SC_CLK_TCK") <= 30


def test_a_table_that_stays_locked_is_given_up(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS v", "CREATE TABLE free AS SELECT 1 AS v")
    pg.connect(lock_timeout=1)
    with pg.server.begin(pg.database) as holding:
        holding.cursor().execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        result = pg.refresh_all()
    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    assert "raise the option lock_timeout" in result.errors[0]["error"]


def test_ending_early_ends_the_query_on_the_server(pg: Remote) -> None:
    pg.run(ENDLESS)
    pg.connect()
    events = pg.db.events(RefreshRequest("pg", data=True))
    assert any(busy(pg) for _ in events), "it ended by itself"
    events.close()
    await_that(lambda: not busy(pg), "the server to stop reading")


# Options


def test_a_unix_socket(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT inet_server_addr() IS NULL AS v")
    pg.run("CREATE OR REPLACE VIEW over_a_socket AS SELECT inet_server_addr() IS NULL AS v")
    pg.connect(socket=str(pg.server.socket))
    pg.refresh("over_a_socket")
    assert pg.query("over_a_socket") == [(True,)]


def test_a_replica_is_read_instead_and_as_one_state(pg: Remote, parallel: None) -> None:
    pg.run("CREATE TABLE t AS SELECT generate_series(1, 1000) AS v", "ANALYZE t")
    url = f"postgresql://owner@primary.invalid:5432/{pg.database}"
    with replica(pg.server) as standby:
        pg.db.connect("pg", url, options={"replica": f"127.0.0.1:{standby.port}"}, password_env=PASSWORD_ENV)
        pg.refresh("t")
        assert "postgres_query" in origin(pg, "t"), "on a replica, the connections of DuckDB's scan share no snapshot"
    assert pg.query("t", "count(*), sum(v)") == [(1000, 500_500)]


def test_a_server_on_which_duckdb_shares_no_snapshot_is_read_by_one_query(
    pg: Remote, parallel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amazon's servers are known by a setting that no other server has, so one that this has stands in."""
    pg.run("CREATE TABLE t AS SELECT 1 AS v")
    pg.connect()
    assert "postgres_query" not in origin(pg, "t")
    assert "'rds%'" in postgresql_catalog.AROUND
    monkeypatch.setattr(postgresql_catalog, "AROUND", postgresql_catalog.AROUND.replace("rds", "work_mem"))
    assert "postgres_query" in origin(pg, "t")


def test_the_session_is_read_only_and_has_its_timeouts(pg: Remote) -> None:
    pg.run(
        "CREATE VIEW session AS SELECT current_setting('lock_timeout') AS lock, "
        "current_setting('statement_timeout') AS statement, current_setting('transaction_read_only') AS read_only, "
        "current_setting('default_transaction_read_only') AS ever, "
        "current_setting('transaction_isolation') AS isolation"
    )
    pg.connect(statement_timeout=7, lock_timeout=3)
    pg.refresh("session")
    assert pg.query("session") == [("3s", "7s", "on", "on", "repeatable read")]


def test_tls_that_the_server_lacks_is_refused(pg: Remote) -> None:
    with pytest.raises(SourceError, match="server does not support SSL"):
        pg.connect(sslmode="require")


@pytest.fixture
def front(pg: Remote, tmp_path: Path) -> Iterator[TLSFront]:
    """The server behind TLS."""
    with tls_front(pg.server.port, tmp_path) as opened:
        yield opened


def test_tls_with_a_certificate_that_is_checked(pg: Remote, front: TLSFront) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS v")
    url = f"postgresql://owner@localhost:{front.port}/{pg.database}"
    pg.db.connect(
        "pg", url, options={"sslmode": "verify-full", "sslrootcert": front.root_certificate}, password_env=PASSWORD_ENV
    )
    pg.refresh("t")
    assert pg.query("t") == [(1,)]
    assert set(front.accepted) == {"TLSv1.3"}


def test_a_certificate_of_another_host_or_authority_is_refused(pg: Remote, front: TLSFront, tmp_path: Path) -> None:
    root, url = front.root_certificate, f"postgresql://owner@localhost:{front.port}/{pg.database}"
    with pytest.raises(SourceError, match=r'server certificate for "localhost" .*does not match host name'):
        pg.db.connect(
            "a",
            url.replace("localhost", "127.0.0.1"),
            options={"sslmode": "verify-full", "sslrootcert": root},
            password_env=PASSWORD_ENV,
        )
    other = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(SourceError, match="certificate verify failed"):
        pg.db.connect("b", url, options={"sslmode": "verify-ca", "sslrootcert": other}, password_env=PASSWORD_ENV)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            'IO Error: Failed to prepare query "SELECT 1\n WHERE (v < 10\n)": server closed the connection\n\nLINE 1',
            "server",
        ),
        ('IO Error: Failed to execute query "BEGIN": ', "the connection was lost"),
        ('Error: Failed to prepare COPY "COPY (SELECT "a" FROM t)": ERROR:  no such thing\n', "no such thing"),
    ],
)
def test_an_error_shows_the_server_s_words_and_no_statement_of_ours(error: str, message: str) -> None:
    dialect = postgresql.PostgreSQL(SourceUrl.parse("postgresql://a@b/c"), postgresql.PostgreSQLOptions(), None)
    assert dialect.explain(error).startswith(message)
    assert "SELECT" not in dialect.explain(error)
