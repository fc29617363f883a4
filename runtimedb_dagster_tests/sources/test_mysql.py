"""MySQL and MariaDB: discovery, one consistent read, options and errors, on a real MariaDB."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
)
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.support.parts import await_that, reading_of
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, mariadb


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def test_a_table_of_mixed_types_is_refreshed_and_queried(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, total decimal(12,2) NOT NULL, placed timestamp(6) NULL, "
        "note text)",
        "SET time_zone = '+00:00'",
        "INSERT INTO orders SELECT seq, seq * 1.25, '2024-01-01' + INTERVAL seq MINUTE, CONCAT('n', seq) "
        "FROM seq_1_to_300000",
    )
    maria.connect()
    assert maria.refresh_all().total_rows == 300_000
    assert maria.query("orders", "count(*), sum(total)::VARCHAR, max(placed)::VARCHAR, max(note)") == [
        (300_000, "56250187500.00", "2024-07-27 08:00:00+00", "n99999")
    ]
    first = maria.version("orders").id
    maria.run("ALTER TABLE orders DROP PRIMARY KEY, ORDER BY note DESC")
    maria.refresh("orders")
    assert maria.version("orders").id == first, "the same rows in another order are the same content"


# Discovery


def test_discovery_lists_what_one_can_select_from(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE keyed (b int, a bigint unsigned, note varchar(9) DEFAULT 'x' COMMENT 'what it says', "
        "PRIMARY KEY (b, a), UNIQUE (note)) COMMENT 'what it is'",
        "INSERT INTO keyed (b, a, note) SELECT seq, seq, seq FROM seq_1_to_50",
        "ANALYZE TABLE keyed",
        "CREATE TABLE parts (day date, v int) PARTITION BY HASH (v) PARTITIONS 2",
        "CREATE TABLE versioned (v int) WITH SYSTEM VERSIONING",
        "CREATE VIEW seen AS SELECT a FROM keyed",
        "CREATE SEQUENCE counting",
        "CREATE TEMPORARY TABLE passing (i int)",
    )
    maria.connect()
    found = {table.table_name: table for table in maria.db.tables("maria")}
    assert {name: table.kind for name, table in found.items()} == {
        "keyed": "table", "parts": "partitioned table", "versioned": "table", "seen": "view",
    }  # fmt: skip
    assert {table.schema_name for table in found.values()} == {maria.database}
    keyed = found["keyed"]
    assert (keyed.primary_key, keyed.comment, keyed.estimated_rows) == (("b", "a"), "what it is", 50)
    assert keyed.columns == (
        SourceColumn("b", "int(11)", nullable=False),
        SourceColumn("a", "bigint(20) unsigned", nullable=False),
        SourceColumn("note", "varchar(9)", comment="what it says"),
    )
    assert (found["seen"].comment, found["seen"].estimated_rows, found["seen"].primary_key) == (None, None, ())
    assert maria.refresh_all().tables_refreshed == 4


def test_a_url_without_a_database_shows_all_but_the_systems(
    maria: Remote, make_database: Callable[[Server], str]
) -> None:
    other = make_database(maria.server)
    maria.run("CREATE TABLE t AS SELECT 1 AS v", f"CREATE TABLE {other}.t AS SELECT 2 AS v")
    maria.db.connect("maria", maria.server.url(""), password_env=PASSWORD_ENV)
    assert {table.schema_name for table in maria.db.tables("maria")} >= {maria.database, other}
    system = {"mysql", "sys", "information_schema", "performance_schema"}
    assert not {table.schema_name for table in maria.db.tables("maria")} & system
    with maria.db.query() as query:
        maria.refresh_all()
    with maria.db.query() as query:
        sql = f"SELECT a.v, b.v FROM maria.{maria.database}.t a, maria.{other}.t b"
        assert query.execute(sql).fetchall() == [(1, 2)]


NAMES = [
    'quo"te', "back`tick", "dot.s", "sla/sh", "t 1/x.y", "com,ma", "漢字ä", "select", "n" * 64, "per%cent",
    "back\\slash", "it's", "$1 {x}", "*/ -- #", "?",
]  # fmt: skip


def test_names_are_kept_to_the_letter(maria: Remote) -> None:
    for name in NAMES:
        maria.run(f"CREATE TABLE {quoted(name)} ({quoted(name)} int COMMENT 'it''s')")
        maria.run(f"INSERT INTO {quoted(name)} VALUES (7)")
    maria.connect()
    assert maria.refresh_all().errors == []
    for name in NAMES:
        (column,) = maria.table(name).columns
        assert (column.name, column.comment) == (name, "it's")
        assert maria.query(name) == [(7,)]


def test_a_database_of_an_odd_name_is_a_schema(maria: Remote) -> None:
    name = f"it's `a`\\{maria.database} ä/."
    maria.run(f"CREATE DATABASE {quoted(name)}", f"CREATE TABLE {quoted(name)}.t AS SELECT 1 AS v")
    try:
        maria.db.connect("maria", maria.server.url(name).replace("/.", "%2F."), password_env=PASSWORD_ENV)
        maria.refresh("t")
        assert maria.table("t").schema_name == name
        assert maria.query("t") == [(1,)]
    finally:
        maria.run(f"DROP DATABASE {quoted(name)}")


def test_tables_whose_names_differ_by_case_only_keep_their_own_rows(maria: Remote) -> None:
    maria.run("CREATE TABLE t1 AS SELECT 1 AS v", "CREATE TABLE T1 AS SELECT 2 AS v, 3 AS w")
    twin = maria.database.upper()
    maria.run(f"CREATE DATABASE {twin}", f"CREATE TABLE {twin}.t1 AS SELECT 4 AS x")
    maria.connect()
    maria.run(f"DROP DATABASE {twin}")
    assert {table.schema_name for table in maria.db.tables("maria")} == {maria.database}
    assert maria.refresh_all().errors == []
    assert [maria.arrow(name).to_pylist() for name in ("t1", "T1")] == [[{"v": 1}], [{"v": 2, "w": 3}]]


def test_long_lists_of_columns_are_whole(maria: Remote) -> None:
    names = [f"a_column_with_a_long_name_{i:04}" for i in range(1000)]
    maria.run(f"CREATE TABLE wide ({', '.join(f'{name} tinyint NOT NULL' for name in names)})")
    maria.connect()
    assert [column.name for column in maria.table("wide").columns] == names
    maria.refresh("wide")
    assert maria.arrow("wide").column_names == names


# One consistent read


@contextmanager
def moving_money(maria: Remote) -> Iterator[Callable[[], int]]:
    """Move money between rows all the time; yields how many moves were made."""
    moves, stop = [0], threading.Event()

    def move() -> None:
        with closing(maria.server.connect(maria.database)) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("BEGIN")
                cursor.execute("UPDATE account SET v = v - 1 WHERE id = 1 + MOD(%s, 100000)", (moves[0] * 7919,))
                cursor.execute("UPDATE account SET v = v + 1 WHERE id = 200000 - MOD(%s, 99999)", (moves[0] * 104729,))
                cursor.execute("COMMIT")
                moves[0] += 1

    with ThreadPoolExecutor() as pool:
        moving = pool.submit(move)
        try:
            yield lambda: moves[0]
        finally:
            stop.set()
            moving.result()


def test_a_read_sees_one_state_while_rows_are_updated(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE account (id int PRIMARY KEY, v int, filler char(150))",
        "INSERT INTO account SELECT seq, 100, REPEAT('x', 150) FROM seq_1_to_200000",
    )
    maria.connect()
    with moving_money(maria) as moves:
        for _ in range(5):
            before = moves()
            await_that(lambda: moves() > before, "a move")  # noqa: B023 - awaited at once
            started = moves()
            maria.refresh("account")
            assert moves() > started, "nothing moved while the table was read"
            assert maria.query("account", "count(*), sum(v)") == [(200_000, 20_000_000)]


def test_nobody_alters_a_table_between_its_description_and_its_read(maria: Remote) -> None:
    maria.run("CREATE TABLE t (d decimal(5,1))", "INSERT INTO t VALUES (1.5)")
    maria.connect()
    with open_source(maria.db.connection("maria"), {}) as source, ThreadPoolExecutor() as pool:
        with reading_of(source, maria.table("t").ref):
            altering = pool.submit(maria.run, "ALTER TABLE t MODIFY d decimal(7,3)")
            waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%metadata lock%'"
            await_that(lambda: altering.done() or maria.run(waiting)[0][0], "the change to wait for the reading")
            assert not altering.done()
        altering.result(60)
    maria.run("UPDATE t SET d = 1.125")
    maria.refresh("t")
    assert maria.query("t", "d::VARCHAR") == [("1.125",)]


def test_a_table_altered_since_its_discovery_has_the_files_columns(maria: Remote) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS a, 2 AS b")
    maria.connect()
    maria.run("ALTER TABLE t MODIFY a varchar(5), DROP b, ADD c int DEFAULT 3")
    maria.refresh("t")
    assert [(column.name, column.type) for column in maria.version("t").columns] == [("a", "VARCHAR"), ("c", "INTEGER")]
    assert maria.query("t") == [("1", 3)]


@pytest.mark.parametrize("broken_view", [False, True])
def test_a_dropped_table_fails_with_what_to_do_and_its_siblings_do_not(maria: Remote, broken_view: bool) -> None:
    maria.run("CREATE TABLE gone AS SELECT 1 AS v", "CREATE TABLE stays AS SELECT 2 AS v")
    maria.run("CREATE VIEW seen AS SELECT * FROM gone")
    maria.connect(exclude="gone" if broken_view else "seen")
    maria.refresh_all()
    maria.run("DROP TABLE gone")
    result = maria.refresh_all()
    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    name = "seen" if broken_view else "gone"
    assert result.errors[0]["error"].startswith(f"maria.{maria.database}.{name}: the source no longer has it")
    assert maria.query(name) == [(1,)], "the old version keeps serving"


# Rows, columns, masks


def test_conditions_columns_and_masks_are_applied_on_the_way(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE users (id int, email text, ssn varchar(9) NOT NULL, secret decimal(5,2), born date)",
        "INSERT INTO users VALUES (1, 'a@x', '123', 1.5, '1990-01-01'), (2, NULL, '456', NULL, '2019-01-01')",
        "CREATE TABLE orders (id int, user_email varchar(9), note text)",
        "INSERT INTO orders VALUES (7, 'a@x', 'n')",
    )
    maria.connect(
        where={f"{maria.database}.users": "born < '2010-01-01' AND `ssn` <> \"it's?\" # not the children"},
        exclude_columns="orders.note",
        mask="*email*:sha256,ssn:redact,users.secret:null",
    )
    assert maria.refresh_all().errors == []
    (user,) = maria.query("users", "id, ssn, secret, born::VARCHAR, email")
    assert user[:4] == (1, "***", None, "1990-01-01")
    assert maria.query("orders") == [(7, user[4])], "equal values have equal hashes, so that tables still join"
    raw = b"".join(path.read_bytes() for path in (maria.db.settings.home / "storage").rglob("*.parquet"))
    assert b"a@x" not in raw


def test_a_condition_that_the_server_refuses_names_the_table(maria: Remote) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS v")
    maria.connect(where="t: no_such_column > 1")
    (error,) = maria.refresh_all().errors
    assert error["error"].startswith(f"maria.{maria.database}.t: ")
    assert error["error"].partition(": reading it failed: ")[2].startswith("Unknown column 'no_such_column'")


def test_a_condition_can_not_write(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE t AS SELECT 1 AS v",
        "CREATE TABLE other AS SELECT 1 AS v",
        "CREATE FUNCTION f() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM other; RETURN 1; END",
    )
    maria.connect(where="t: f()")
    errors = maria.refresh_all().errors
    assert "READ ONLY transaction" in errors[0]["error"]
    assert maria.run("SELECT COUNT(*) FROM other") == [(1,)]


# Faults


def test_a_server_that_is_away_is_said_and_passes(db: RuntimeDB) -> None:
    with pytest.raises(
        SourceUnavailableError,
        match=r"^Connection 'away' \(mysql://owner@127\.0\.0\.1:1/x\) can't be opened: Can't connect to server on",
    ):
        db.connect("away", "mysql://owner@127.0.0.1:1/x", password_env=PASSWORD_ENV)


def test_a_wrong_password_is_said_and_does_not_pass(maria: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "wrong-secret")
    with pytest.raises(SourceError, match=r"Access denied for user 'owner'.*set the right password") as caught:
        maria.connect()
    assert not isinstance(caught.value, SourceUnavailableError)
    assert "wrong-secret" not in str(caught.value)


def test_a_missing_password_is_said(maria: Remote) -> None:
    with pytest.raises(SourceError, match=r"using password: NO\); name the variable that holds the password"):
        maria.db.connect("maria", maria.server.url(maria.database))


def test_an_unknown_database_is_said(maria: Remote) -> None:
    with pytest.raises(SourceError, match="Unknown database 'nowhere'; name another one in the URL") as caught:
        maria.db.connect("maria", maria.server.url("nowhere"), password_env=PASSWORD_ENV)
    assert not isinstance(caught.value, SourceUnavailableError)


@pytest.mark.parametrize("option", [{"tinyint1": "int16"}, {"zero_dates": "x"}, {"ssl_mode": "sometimes"}])
def test_options_of_the_wrong_form_are_refused(maria: Remote, option: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=f"The option {next(iter(option))} is wrong"):
        maria.connect(**option)


@pytest.fixture
def reader(maria: Remote) -> Iterator[str]:
    """A user without privileges, of the tests' password."""
    name = f"reader_{maria.database}"[:32]
    with closing(maria.server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY %s", (PASSWORD,))
        yield name
        cursor.execute(f"DROP USER {name}@'127.0.0.1'")


def test_a_table_that_may_not_be_read_fails_alone(maria: Remote, reader: str) -> None:
    maria.run("CREATE TABLE open AS SELECT 1 AS v", "CREATE TABLE closed AS SELECT 2 AS v")
    for table in ("open", "closed"):
        maria.run(f"GRANT SELECT, INSERT ON {table} TO {reader}@'127.0.0.1'")
    url = maria.server.url(maria.database).replace("owner@", f"{reader}@")
    maria.db.connect("maria", url, password_env=PASSWORD_ENV)
    maria.refresh_all()
    maria.run(f"REVOKE SELECT ON closed FROM {reader}@'127.0.0.1'")
    maria.db.discover("maria")
    result = maria.refresh_all()
    assert result.tables_refreshed == 1
    (error,) = result.errors
    assert error["error"].startswith(
        f"maria.{maria.database}.closed: the source can't describe it: SELECT command denied"
    )
    assert error["error"].endswith("grant SELECT on it, or leave it out with the option exclude")
    assert maria.query("closed") == [(2,)]


def test_columns_that_may_not_be_read_are_left_out(maria: Remote, reader: str) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS a, 2 AS b, 3 AS c", f"GRANT SELECT (a, c) ON t TO {reader}@'127.0.0.1'")
    url = maria.server.url(maria.database).replace("owner@", f"{reader}@")
    maria.db.connect("maria", url, password_env=PASSWORD_ENV)
    maria.refresh("t")
    assert maria.query("t") == [(1, 3)]


# What ends a reading

WAITING = "CREATE VIEW waiting AS SELECT GET_LOCK('{name}', 30) AS got, v FROM t"


@contextmanager
def endless(maria: Remote, **options: Any) -> Iterator[None]:
    """A view `waiting`, whose first row the server has only when it is told to stop; it has a version already."""
    maria.run("CREATE TABLE t AS SELECT 1 AS v", "CREATE VIEW waiting AS SELECT 1 AS got, v FROM t")
    maria.connect(include="waiting", **options)
    maria.refresh("waiting")
    with closing(maria.server.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (maria.database,))
        maria.run("DROP VIEW waiting", WAITING.format(name=maria.database))
        yield
    assert maria.query("waiting") == [(1, 1)], "the old version serves"


def readers(maria: Remote) -> list[int]:
    """The server's sessions that read for us now."""
    busy = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '/* runtimedb %' AND STATE = 'User lock'"
    return [row[0] for row in maria.run(busy)]


@pytest.mark.parametrize("how", ["KILL QUERY", "KILL CONNECTION"])
def test_a_reading_that_the_server_ends_leaves_the_old_version_and_nothing_else(maria: Remote, how: str) -> None:
    with endless(maria), ThreadPoolExecutor() as pool:
        refreshing = pool.submit(maria.refresh, "waiting")
        await_that(lambda: refreshing.done() or readers(maria), "the reading to begin")
        maria.run(f"{how} {readers(maria)[0]}")
        with pytest.raises(
            RefreshError, match=r"\.waiting: reading it failed: .*(the server ended|Lost connection|lost)"
        ):
            refreshing.result(60)
    assert len(list((maria.db.settings.home / "storage").rglob("*.parquet*"))) == 1


def test_cancelling_ends_the_query_on_the_server(maria: Remote) -> None:
    with endless(maria), open_source(maria.db.connection("maria"), {}) as source, ThreadPoolExecutor() as pool:
        with reading_of(source, maria.table("waiting").ref) as reading:
            running = pool.submit(reading.scan.duck.execute, reading.select)
            await_that(lambda: running.done() or readers(maria), "the reading to begin")
            source.cancel()
            assert isinstance(running.exception(30), Exception)
        await_that(lambda: not readers(maria), "the server to end it")


def test_sessions_that_the_server_closes_in_between_do_no_harm(maria: Remote) -> None:
    maria.run("CREATE TABLE a AS SELECT 1 AS v", "CREATE TABLE b AS SELECT 2 AS v")
    maria.connect()
    idle = "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Sleep' AND DB = DATABASE()"
    with open_source(maria.db.connection("maria"), {}) as source:
        for name, expected in (("a", 1), ("b", 2), ("a", 1)):
            with reading_of(source, maria.table(name).ref) as reading:
                sessions = maria.run(idle)
                assert sessions, "the one that holds the table's lock"
                maria.run(*(f"KILL {number}" for (number,) in sessions))
                assert reading.scan.duck.execute(reading.select).fetchall() == [(expected,)]


def test_a_statement_timeout_is_said(maria: Remote) -> None:
    with endless(maria, statement_timeout=1):
        (error,) = maria.refresh_all().errors
    assert "(max_statement_time exceeded); raise the option statement_timeout" in error["error"]


def test_a_table_that_stays_locked_is_given_up(maria: Remote) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS v", "CREATE TABLE free AS SELECT 1 AS v")
    maria.connect(lock_timeout=1)
    with closing(maria.server.connect(maria.database)) as holding:
        holding.cursor().execute("LOCK TABLES t WRITE")
        result = maria.refresh_all()
    assert (result.tables_refreshed, result.tables_failed) == (1, 1)
    assert "Lock wait timeout exceeded" in result.errors[0]["error"]
    assert "raise the option lock_timeout" in result.errors[0]["error"]


# Ways to the server


def test_over_the_unix_socket(maria: Remote) -> None:
    maria.run("CREATE VIEW v AS SELECT USER() AS me")
    maria.db.connect(
        "maria",
        f"mysql://owner@/{maria.database}",
        options={"socket": str(maria.server.socket)},
        password_env=PASSWORD_ENV,
    )
    maria.refresh("v")
    assert maria.query("v") == [("owner@localhost",)]


def test_a_socket_that_is_gone_leads_to_no_other_server(maria: Remote, tmp_path: Path) -> None:
    url = f"mysql://owner@127.0.0.1:{maria.server.port}/{maria.database}"
    with pytest.raises(SourceUnavailableError, match=r"no server listens on the socket .*/none\.sock"):
        maria.db.connect("maria", url, options={"socket": str(tmp_path / "none.sock")}, password_env=PASSWORD_ENV)


def test_a_replica_is_read_instead(maria: Remote) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS v")
    url = f"mysql://owner@127.0.0.1:1/{maria.database}"
    replica = {"replica": f"127.0.0.1:{maria.server.port}"}
    maria.db.connect("maria", url, options=replica, password_env=PASSWORD_ENV)
    maria.refresh("t")
    assert maria.query("t") == [(1,)]


def test_localhost_is_the_port_that_the_url_names(maria: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    maria.run("CREATE TABLE t AS SELECT 1 AS v")
    url = maria.server.url(maria.database).replace("127.0.0.1", "localhost")
    maria.db.connect("maria", url, password_env=PASSWORD_ENV)
    maria.refresh("t")
    monkeypatch.setenv("MYSQL_UNIX_PORT", str(maria.server.socket))
    with pytest.raises(SourceUnavailableError, match="Can't connect to server on"):
        maria.db.connect("other", f"mysql://owner@localhost:1/{maria.database}", password_env=PASSWORD_ENV)


def certificates(directory: Path) -> dict[str, Path]:
    """A certificate that is its own authority, and another."""
    made = {}
    for name in ("server", "other"):
        made[name] = directory / f"{name}.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", directory / f"{name}.key", "-out", made[name],
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        (directory / f"{name}.key").chmod(0o644)
    return made


@pytest.fixture(scope="module")
def tls_server() -> Iterator[tuple[Server, dict[str, Path]]]:
    with mariadb() as server:
        made = certificates(server.directory)
        server.stop()
        server.command = [*server.command, f"--ssl-cert={made['server']}", f"--ssl-key={server.directory}/server.key"]
        server.start()
        yield server, made


ENCRYPTED = (
    "CREATE VIEW v AS SELECT VARIABLE_VALUE <> '' AS encrypted FROM information_schema.SESSION_STATUS "
    "WHERE VARIABLE_NAME = 'Ssl_cipher'"
)


@pytest.mark.parametrize("mode", ["disabled", "preferred", "required"])
def test_tls_is_used_as_the_connection_asks(
    db: RuntimeDB, tls_server: tuple[Server, dict[str, Path]], make_database: Callable[[Server], str], mode: str
) -> None:
    remote = Remote(db, tls_server[0], make_database(tls_server[0]), "maria")
    remote.run(ENCRYPTED)
    remote.connect(ssl_mode=mode)
    remote.refresh("v")
    assert remote.query("v") == [(int(mode != "disabled"),)]


def test_a_certificate_is_verified(
    db: RuntimeDB, tls_server: tuple[Server, dict[str, Path]], make_database: Callable[[Server], str]
) -> None:
    server, made = tls_server
    remote = Remote(db, server, make_database(server), "maria")
    remote.run(ENCRYPTED)
    remote.connect(ssl_mode="verify_ca", ssl_ca=str(made["server"]))
    remote.refresh("v")
    assert remote.query("v") == [(1,)]
    db.configure("maria", options={"ssl_ca": str(made["other"])})
    with pytest.raises(SourceError, match="can't be opened: TLS/SSL error: self-signed certificate"):
        remote.refresh("v")


def test_a_server_without_tls_is_refused_where_it_is_required(maria: Remote) -> None:
    with pytest.raises(SourceError, match="SSL is required, but the server does not support it; the server offers"):
        maria.connect(ssl_mode="required")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"ssl_mode": "verify_ca"}, "ssl_ca"),
        ({"ssl_ca": "/x.pem"}, "ssl_ca"),
        ({"ssl_mode": "verify_identity", "ssl_ca": "/x.pem"}, "ssl_mode"),
    ],
)
def test_a_verification_that_would_not_be_made_is_refused(maria: Remote, options: dict[str, str], wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The option {wrong} is wrong"):
        maria.connect(**options)
