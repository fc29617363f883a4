"""MariaDB's settings: what a read must have, and what a view must have of its login's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.errors import ConfigurationError, RefreshError
from runtimedb_dagster_tests.support.remote import Remote
from runtimedb_dagster_tests.support.servers import Server, mariadb

HOSTILE = [
    "--transaction-isolation=READ-UNCOMMITTED",
    "--sql-mode=NO_UNSIGNED_SUBTRACTION,TIME_ROUND_FRACTIONAL,PAD_CHAR_TO_FULL_LENGTH,EMPTY_STRING_IS_NULL,ANSI_QUOTES",
    "--default-time-zone=+05:00",
    "--max-allowed-packet=4096",
    "--lc-messages=de_DE",
]


@pytest.fixture(scope="module")
def hostile_server() -> Iterator[Server]:
    """A server whose settings would change what is read."""
    with mariadb(*HOSTILE) as server:
        server.run(None, "SET GLOBAL sql_select_limit = 3", "SET GLOBAL system_versioning_asof = '2020-01-01 00:00:00'")
        yield server


@pytest.fixture
def hostile(db: RuntimeDB, hostile_server: Server) -> Iterator[Remote]:
    """An empty database on it."""
    hostile_server.run(None, "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop")
    yield Remote(db, hostile_server, "shop", "maria")
    hostile_server.run(None, "DROP DATABASE shop")


def test_only_rows_that_were_committed_are_published(hostile: Remote) -> None:
    hostile.run("CREATE TABLE t (i INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    hostile.connect()
    with closing(hostile.server.begin("shop")) as writer:
        writer.cursor().execute("INSERT INTO t VALUES (2)")
        hostile.refresh("t")
    assert hostile.query("t") == [(1,)]


def test_no_limit_and_no_other_moment_cuts_rows_off(hostile: Remote) -> None:
    hostile.run(
        "CREATE TABLE t (i INT) WITH SYSTEM VERSIONING",
        "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT i FROM n",
    )
    hostile.connect()
    hostile.refresh("t")
    assert hostile.query("t", "count(*), max(i)") == [(50, 50)]


def test_a_view_yields_what_any_client_of_the_login_gets_and_a_table_what_it_holds(hostile: Remote) -> None:
    hostile.run(
        "CREATE TABLE t (c CHAR(5), have INT UNSIGNED, sold INT UNSIGNED, at DATETIME(6), ts TIMESTAMP(6) NULL)",
        "INSERT INTO t VALUES ('a', 5, 7, '2024-01-01 10:00:00.7', '2024-01-01 02:30:00.25')",
        "CREATE VIEW v AS SELECT LENGTH(c) AS l, have - sold AS rest, CAST(CAST(at AS DATETIME(0)) AS CHAR) AS at, ts, "
        "CAST(DATE(ts) AS CHAR) AS day, HOUR(ts) AS hour FROM t",
        "CREATE TABLE g (ts TIMESTAMP NULL, h INT AS (HOUR(ts)) VIRTUAL)",
        "INSERT INTO g (ts) VALUES ('2024-01-01 02:30:00')",
    )
    hostile.connect()
    assert hostile.refresh_all().errors == []
    ((length, rest, at, day, hour),) = hostile.run("SELECT l, rest, at, day, hour FROM v")
    assert (length, rest, day, hour) == (5, -2, "2024-01-01", 2)
    assert hostile.query("v", 'l, rest, "at", day, hour') == [(length, rest, at, day, hour)]
    instant = "2023-12-31 21:30:00.25+00"
    assert hostile.query("v", "ts::VARCHAR") == hostile.query("t", "ts::VARCHAR") == [(instant,)]
    assert hostile.query("t", "c") == [("a",)], "a table's value is not padded"
    assert hostile.query("g", "h, ts::VARCHAR") == [(2, "2023-12-31 21:30:00+00")]


def test_a_type_longer_than_a_packet_is_read(hostile: Remote) -> None:
    values = [f"{'a' * 78}{number:02}" for number in range(60)]
    listed = ", ".join(f"'{value}'" for value in values)
    hostile.run(f"CREATE TABLE t (kind ENUM({listed}) NOT NULL COMMENT '{'c' * 1000}')")
    hostile.run(f"INSERT INTO t VALUES ('{values[7]}')")
    hostile.connect()
    hostile.refresh("t")
    assert hostile.query("t") == [(values[7],)]
    assert hostile.table("t").columns[0].comment == "c" * 1000


def test_what_the_server_says_while_rows_come_is_said_whatever_its_language(hostile: Remote) -> None:
    hostile.run(
        "CREATE TABLE t (i INT)", "INSERT INTO t VALUES (1), (2)",
        "CREATE VIEW v AS SELECT i, (SELECT i FROM t AS u) AS two FROM t", "CREATE TABLE gone (i INT)",
    )  # fmt: skip
    hostile.connect()
    with pytest.raises(RefreshError, match=r"maria\.shop\.v: reading it failed: Subquery returns more than 1 row"):
        hostile.refresh("v")
    hostile.run("DROP TABLE gone")
    with pytest.raises(RefreshError, match="the source no longer has it"):
        hostile.refresh("gone")


@pytest.mark.parametrize("replica", ["host=x;init-command=DROP", "a b", "x:y", "h:99999999"])
def test_a_host_that_is_more_than_a_name_is_refused(hostile: Remote, replica: str) -> None:
    with pytest.raises(ConfigurationError, match="The option replica is wrong"):
        hostile.connect(replica=replica)
    with pytest.raises(ConfigurationError, match="malformed"):
        hostile.db.connect("m", f"mysql://root@{replica.replace('h:9', 'h=h:9').replace('x:y', 'x=:y')}/shop")
