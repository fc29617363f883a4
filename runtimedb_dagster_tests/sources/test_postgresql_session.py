"""PostgreSQL's settings, rights and surroundings: what a read must have, and what a view must have of its login's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from runtimedb_dagster.domain.errors import ConfigurationError, SourceError, TypeContractError
from runtimedb_dagster.sources.attached.postgresql.errors import is_transient
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.support.parts import reading_of
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, pooler


@pytest.fixture
def reader(pg: Remote) -> Iterator[str]:
    """A login without any right."""
    name = f"reader_{pg.database}"
    with closing(pg.server.connect(pg.database)) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    yield name
    pg.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def connect_as(pg: Remote, role: str, **options: object) -> None:
    url = pg.server.url(pg.database).replace("owner@", f"{role}@")
    pg.db.connect("pg", url, options=options, password_env=PASSWORD_ENV)


def errors_of(pg: Remote) -> dict[str, str]:
    return {error["table_name"]: error["error"] for error in pg.refresh_all().errors}


# Settings

HOSTILE = {
    "TimeZone": "'Asia/Tokyo'", "DateStyle": "'SQL, DMY'", "IntervalStyle": "'sql_standard'",
    "extra_float_digits": "-5",
    "bytea_output": "'escape'", "quote_all_identifiers": "on", "gin_fuzzy_search_limit": "1",
    "standard_conforming_strings": "off", "statement_timeout": "1",
    "idle_in_transaction_session_timeout": "1", "default_transaction_isolation": "'read uncommitted'",
    "default_transaction_read_only": "on", "xmlbinary": "'hex'", "array_nulls": "off", "lock_timeout": "1",
}  # fmt: skip

EVERYTHING = """
    CREATE TYPE span AS (since date, at timestamptz, i interval, f double precision, b bytea, n numeric(10,2));
    CREATE TABLE everything (id int PRIMARY KEY, d date, t timestamptz, i interval, f double precision, b bytea,
        n numeric(10,2), s span, r daterange, a timestamptz[], words text[], m money);
    CREATE INDEX ON everything USING gin (words);
    INSERT INTO everything SELECT g, '2024-02-03', '2024-03-31 01:30+00', '1 mon -2 days 03:04:05.000006',
        0.1::float8 + 0.2::float8, '\\x00ff27', 1.50, ROW('0044-03-15 BC', '2024-03-31 01:30+00', '1 day', 0.1::float8 +
        0.2::float8, '\\x5c', 2.25)::span, '[2024-01-01,2024-02-01)', '{2024-03-31 01:30+00}', '{a,b}', 12.5
        FROM generate_series(1, 50) g;
"""


def test_no_setting_of_the_database_changes_what_a_table_yields(pg: Remote) -> None:
    pg.run(*(statement for statement in EVERYTHING.split(";") if statement.strip()))
    pg.connect()
    assert errors_of(pg) == {}
    before, kept = pg.version("everything"), pg.query("everything", "*", "ORDER BY id")
    assert pg.query("everything", "s.since::VARCHAR, s.f, f, s.b", "LIMIT 1") == [
        ("0044-03-15 (BC)", 0.30000000000000004, 0.30000000000000004, b"\\")
    ]
    pg.run(*(f"ALTER DATABASE {pg.database} SET {name} = {value}" for name, value in HOSTILE.items()))
    pg.db.discover("pg")
    assert errors_of(pg) == {}
    assert pg.query("everything", "*", "ORDER BY id") == kept
    assert pg.version("everything").id == before.id, "the same content under all of them"
    pg.run(
        "SET statement_timeout = 0",
        "SET default_transaction_read_only = off",
        "CREATE DOMAIN date AS text",
        f"ALTER DATABASE {pg.database} SET search_path = public, pg_catalog",
    )
    assert errors_of(pg) == {}
    assert pg.query("everything", "*", "ORDER BY id") == kept, (
        "nor does a type of the user's by the name of a built-in one"
    )


def test_a_view_yields_what_any_client_of_the_login_gets(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE t (at timestamptz, words text[])",
        "INSERT INTO t SELECT '2024-03-31 20:00+00', ARRAY['a'] FROM generate_series(1, 2000)",
        "CREATE INDEX ON t USING gin (words)",
        "CREATE VIEW seen AS SELECT at, at::date AS day, at::text AS text, '1.5 days'::interval::text AS i, "
        "(0.1::float8 + 0.2::float8)::text AS f FROM t LIMIT 1",
        "CREATE VIEW found AS SELECT count(*) AS n FROM t WHERE words @> '{a}'",
        f"ALTER DATABASE {pg.database} SET TimeZone = 'Asia/Tokyo'",
        f"ALTER DATABASE {pg.database} SET IntervalStyle = 'iso_8601'",
        f"ALTER DATABASE {pg.database} SET extra_float_digits = 0",
        f"ALTER DATABASE {pg.database} SET gin_fuzzy_search_limit = 1",
    )
    pg.connect()
    assert errors_of(pg) == {}
    (theirs,) = pg.run("SELECT extract(epoch FROM at)::bigint, day::text, text, i, f FROM seen")
    assert theirs[1:] == ("2024-04-01", "2024-04-01 05:00:00+09", "P1DT12H", "0.3")
    assert pg.query("seen", 'epoch("at")::BIGINT, day::VARCHAR, text, i, f') == [theirs]
    assert pg.query("found") == [(2000,)], "a limit that cuts results short is no part of a view"


def test_text_whose_form_the_login_changes_is_refused_in_a_view_and_the_advice_helps(pg: Remote) -> None:
    pg.run(
        "CREATE VIEW seen AS SELECT 1 AS id, '1 day'::interval AS i",
        f"ALTER DATABASE {pg.database} SET IntervalStyle = 'iso_8601'",
    )
    pg.connect()
    assert 'column "i" (interval) is read as text' in errors_of(pg)["seen"]
    assert """set the option session='{"IntervalStyle": "postgres"}'""" in errors_of(pg)["seen"]
    pg.db.configure("pg", options={"session": {"IntervalStyle": "postgres"}})
    assert errors_of(pg) == {}
    assert pg.query("seen") == [(1, "1 day")]


def test_settings_of_the_users_own_reach_views_and_policies(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE t AS SELECT 1 AS i, 'a b' AS tenant UNION ALL SELECT 2, 'c'",
        "CREATE VIEW mine AS SELECT i FROM t WHERE tenant = current_setting('app.tenant')",
    )
    pg.connect()
    assert 'set it with the option session, such as session={"app.tenant": "7"}' in errors_of(pg)["mine"]
    pg.db.configure("pg", options={"session": {"app.tenant": "a b"}})
    assert errors_of(pg) == {}
    assert pg.query("mine") == [(1,)]


@pytest.mark.parametrize(
    "name", ["row_security", "a b", "x'; DROP", "client_encoding", "default_transaction_read_only"]
)
def test_a_setting_that_is_ours_or_none_is_refused(pg: Remote, name: str) -> None:
    with pytest.raises(ConfigurationError, match="The option session is wrong"):
        pg.connect(session={name: "off"})


def test_names_with_backslashes_are_names_whatever_the_server_makes_of_them(pg: Remote) -> None:
    escaping = "\\' OR 1/0 = 1 AND NOT EXISTS (--"
    pg.run(
        'CREATE TABLE "a\\b" AS SELECT 1 AS i',
        f'CREATE TABLE "{escaping}" AS SELECT 2 AS i',
        f"ALTER DATABASE {pg.database} SET standard_conforming_strings = off",
    )
    pg.connect()
    assert errors_of(pg) == {}
    assert (pg.query("a\\b"), pg.query(escaping)) == ([(1,)], [(2,)])


# Rows that a login may not see


def test_rows_that_a_policy_hides_are_an_error_unless_they_are_not_wanted(pg: Remote, reader: str) -> None:
    pg.run(
        "CREATE TABLE customers AS SELECT i AS id FROM generate_series(1, 100) i",
        f"GRANT SELECT ON customers TO {reader}",
    )
    connect_as(pg, reader)
    assert errors_of(pg) == {}
    pg.run("ALTER TABLE customers ENABLE ROW LEVEL SECURITY")
    assert "set the option row_security=apply" in errors_of(pg)["customers"]
    assert pg.query("customers", "count(*)") == [(100,)], "the old version serves"
    pg.run(f"CREATE POLICY a_few ON customers TO {reader} USING (id <= 7)")
    pg.db.configure("pg", options={"row_security": "apply"})
    assert errors_of(pg) == {}
    assert pg.query("customers", "count(*)") == [(7,)]


def test_a_scan_in_parallel_hides_none_either(pg: Remote, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimedb_dagster.sources.attached.postgresql.dialect.PARALLEL_FROM_PAGES", 0)
    pg.run(
        "CREATE TABLE customers AS SELECT i AS id FROM generate_series(1, 100) i",
        f"GRANT SELECT ON customers TO {reader}",
    )
    pg.run("ALTER TABLE customers ENABLE ROW LEVEL SECURITY")
    connect_as(pg, reader)
    assert "row-level security" in errors_of(pg)["customers"]


def test_grants_on_columns_are_enough_for_those_columns(pg: Remote, reader: str) -> None:
    pg.run(
        "CREATE TABLE people (id int, name text, ssn text)",
        "INSERT INTO people VALUES (1, 'a', 'secret')",
        f"GRANT SELECT (id, name) ON people TO {reader}",
        "CREATE TABLE parts (id int, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts DEFAULT",
        "INSERT INTO parts VALUES (1, 2)",
        f"GRANT SELECT (id) ON parts TO {reader}",
    )
    connect_as(pg, reader, exclude_columns="*.ssn,parts.v")
    assert errors_of(pg) == {}
    assert (pg.query("people"), pg.query("parts")) == ([(1, "a")], [(1,)])
    pg.db.configure("pg", unset=["exclude_columns"])
    assert "permission denied" in errors_of(pg)["people"]


def test_a_table_that_is_rewritten_between_its_snapshot_and_its_reading_is_not_read_empty(
    pg: Remote, reader: str
) -> None:
    pg.run(
        "CREATE TABLE t AS SELECT generate_series(1, 10) AS v, 0 AS hidden",
        f"GRANT SELECT (v) ON t TO {reader}",
    )
    connect_as(pg, reader, columns="v")
    with open_source(pg.db.connection("pg"), {}) as source, reading_of(source, pg.table("t").ref) as reading:
        pg.run("TRUNCATE t", "INSERT INTO t VALUES (7, 7)")
        assert reading.scan.duck.execute(reading.select).fetchall() != [(7,)]
        with pytest.raises(Exception, match="rewritten while it was read; refresh it again"):
            reading._require_whole()
    assert errors_of(pg) == {}
    assert pg.query("t") == [(7,)]


def test_usage_on_the_schema_is_asked_for_where_it_is_missing(pg: Remote, reader: str) -> None:
    pg.run("CREATE SCHEMA hidden", "CREATE TABLE hidden.t AS SELECT 1 AS i", f"GRANT SELECT ON hidden.t TO {reader}")
    connect_as(pg, reader)
    assert 'grant USAGE on schema "hidden" to the login' in errors_of(pg)["t"]
    pg.run(f"GRANT USAGE ON SCHEMA hidden TO {reader}")
    assert errors_of(pg) == {}


# Promises of the catalog that do not hold


def test_not_null_of_a_foreign_table_is_its_writers_word_only(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE near (i int, j int)", "INSERT INTO near VALUES (1, NULL)",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw "
        f"OPTIONS (host '127.0.0.1', port '{pg.server.port}', dbname '{pg.database}')",
        "CREATE USER MAPPING FOR owner SERVER self "
        f"OPTIONS (user 'owner', password '{PASSWORD.replace(chr(39), chr(39) * 2)}')",
        "CREATE FOREIGN TABLE far (i int NOT NULL, j int NOT NULL) SERVER self OPTIONS (table_name 'near')",
    )  # fmt: skip
    pg.connect()
    assert errors_of(pg) == {}
    assert [column.nullable for column in pg.version("far").columns] == [True, True]


def test_a_not_null_that_was_never_validated_is_none(pg: Remote) -> None:
    """PostgreSQL 18, as the tests' own server is."""
    pg.run(
        "CREATE TABLE t (i int NOT NULL, word text)", "INSERT INTO t VALUES (1, NULL)",
        "ALTER TABLE t ADD CONSTRAINT there NOT NULL word NOT VALID",
    )  # fmt: skip
    pg.connect()
    assert [column.nullable for column in pg.table("t").columns] == [False, True]
    pg.refresh("t")
    assert [column.nullable for column in pg.version("t").columns] == [False, True]


# Encodings


def test_a_database_of_any_bytes_loses_one_column_and_one_name(
    pg: Remote, caplog: pytest.LogCaptureFixture, make_database: Callable[[Server], str]
) -> None:
    name = make_database(pg.server)
    pg.server.run(
        None, f"DROP DATABASE {name}", f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
    )
    remote = Remote(pg.db, pg.server, name, "pg")
    remote.run(
        "CREATE TABLE good AS SELECT 1 AS i", "CREATE TABLE bad (i int, fine text, word text)",
        r"INSERT INTO bad VALUES (1, 'ok', E'caf\351')",
        r"""DO $$ BEGIN EXECUTE E'CREATE TABLE "t\351" (i int)'; END $$""",
    )  # fmt: skip
    remote.connect()
    assert sorted(table.table_name for table in remote.db.tables("pg")) == ["bad", "good"]
    assert r"left out, for its name or comment is not UTF-8: b'public'.b't\xe9'" in caplog.text
    errors = errors_of(remote)
    assert list(errors) == ["bad"]
    assert 'column "word" (text) holds text that is not UTF-8' in errors["bad"]
    remote.db.configure("pg", options={"exclude_columns": "word"})
    assert errors_of(remote) == {}


# URLs, and what is between


def test_several_hosts_of_which_one_answers(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS v")
    pg.db.connect(
        "pg", f"postgresql://owner@127.0.0.1:1,127.0.0.1:{pg.server.port}/{pg.database}?target_session_attrs=read-write",
        password_env=PASSWORD_ENV,
    )  # fmt: skip
    pg.refresh("t")
    assert pg.db.connection("pg").url == f"postgresql://owner@127.0.0.1:1,127.0.0.1:{pg.server.port}/{pg.database}"


@pytest.mark.parametrize("form", ["{encoded}:{port}/{database}", "/{database}?host={socket}&port={port}"])
def test_a_sockets_directory_in_the_place_of_the_host(pg: Remote, form: str) -> None:
    pg.run("CREATE VIEW over_a_socket AS SELECT inet_server_addr() IS NULL AS v")
    socket = str(pg.server.socket)
    rest = form.format(encoded=socket.replace("/", "%2F"), port=pg.server.port, database=pg.database, socket=socket)
    pg.db.connect("pg", f"postgresql://owner@{rest}", password_env=PASSWORD_ENV)
    pg.refresh("over_a_socket")
    assert pg.query("over_a_socket") == [(True,)]


@pytest.mark.parametrize("settings", [(), ("ignore_startup_parameters = options",)], ids=["refused", "dropped"])
def test_a_pooler_that_refuses_or_drops_the_options_of_a_session_changes_nothing(
    pg: Remote, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimedb_dagster.sources.attached.postgresql.dialect.PARALLEL_FROM_PAGES", 0)
    pg.run(
        "CREATE TABLE t AS SELECT i, '2024-03-31 20:00+00'::timestamptz AS at, 0.1::float8 + 0.2::float8 AS f "
        "FROM generate_series(1, 100) i",
        "CREATE VIEW mine AS SELECT current_setting('app.tenant') AS tenant, "
        "current_setting('transaction_isolation') AS isolation",
        f"ALTER DATABASE {pg.database} SET extra_float_digits = -5",
    )
    with pooler(pg.server, *settings) as port:
        url = f"postgresql://owner@127.0.0.1:{port}/{pg.database}"
        pg.db.connect("pg", url, options={"session": {"app.tenant": "7"}}, password_env=PASSWORD_ENV)
        assert errors_of(pg) == {}
        with open_source(pg.db.connection("pg"), {}) as source, reading_of(source, pg.table("t").ref) as reading:
            assert "postgres_query" in reading.origin, "what DuckDB's other connections would lack is not asked of them"
    assert pg.query("mine") == [("7", "repeatable read")]
    assert pg.query("t", "count(*), max(f)") == [(100, 0.30000000000000004)]


# Errors


@pytest.mark.parametrize(
    "message",
    [
        "FATAL:  no more connections allowed (max_client_conn)", "FATAL:  query_wait_timeout",
        "FATAL:  server login has been failing, try again later (server_login_retry)",
        "FATAL:  MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size",
        'FATAL:  too many connections for role "app"', "FATAL:  sorry, too many clients already",
        "could not receive data from server: Connection reset by peer",
        "connection to server failed: Network is unreachable",
        "ERROR:  deadlock detected", "ERROR:  could not serialize access due to concurrent update",
        "FATAL:  the database system is in recovery mode", "FATAL:  das Datenbanksystem startet",
        "FATAL:  die verbleibenden Verbindungen sind für Superuser auf Nicht-Replikationsverbindungen reserviert",
        "FEHLER:  storniere Anfrage wegen Zeitüberschreitung einer Sperre",
        "ERROR:  could not extend file: No space left on device",
    ],
)  # fmt: skip
def test_what_passes_by_itself_is_known(message: str) -> None:
    assert is_transient(message)


@pytest.mark.parametrize(
    "message",
    [
        'FATAL:  password authentication failed for user "x"', 'FATAL:  database "x" does not exist',
        "ERROR:  permission denied for table x", "certificate verify failed", "ERROR:  division by zero",
        "FATAL:  unsupported startup parameter: options", 'FATAL:  role "x" does not exist',
    ],
)  # fmt: skip
def test_what_does_not_is_known_too(message: str) -> None:
    assert not is_transient(message)


def test_a_json_that_is_none_to_others_is_named_without_its_value_and_kept_as_text_if_asked(pg: Remote) -> None:
    pg.run(
        "CREATE TYPE note AS (body json)", "CREATE TABLE t (id int, body json, n note)",
        r"""INSERT INTO t VALUES (1, '{"text": "cut \ud83d"}', ROW('{"text": "cut \ud83d"}'))""",
    )  # fmt: skip
    pg.connect()
    with pytest.raises(TypeContractError, match=r'column "body" .json.: .*set the option jsons=text') as caught:
        pg.refresh("t")
    assert "cut" not in str(caught.value)
    pg.db.configure("pg", options={"exclude_columns": "body"})
    with pytest.raises(TypeContractError, match=r'column "n" .note.: .*set the option jsons=text'):
        pg.refresh("t")
    pg.db.configure("pg", options={"jsons": "text", "exclude_columns": "n"})
    pg.refresh("t")
    assert pg.query("t") == [(1, r'{"text": "cut \ud83d"}')]


def test_a_setting_that_loses_damaged_rows_is_refused(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT 1 AS v")
    with closing(pg.server.connect(pg.database)) as connection:
        connection.execute(f"ALTER DATABASE {pg.database} SET zero_damaged_pages = on")
    with pytest.raises(SourceError, match="zero_damaged_pages is on, which leaves damaged rows out in silence"):
        pg.connect()
