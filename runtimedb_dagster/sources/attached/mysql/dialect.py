"""MySQL and MariaDB: `mysql://user@host:port/database`, whose databases are the schemas.

A table is read by one streamed statement, so it is read as it was at one moment. It runs on a session of its own,
beside that of DuckDB's transaction, which holds the table's metadata lock from before it is described until it is
read: nobody alters it in between.

Each statement has a session of its own, which begins with what a read needs: DuckDB's client passes such commands on
within the name of the host, and nothing else would reach the session that streams.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Dialect, Relation, Scan, TableIsGone, discovered, same_everywhere
from runtimedb_dagster.sources.attached.mysql import state
from runtimedb_dagster.sources.attached.mysql.catalog import COLUMN, DISCOVERY, IS_VIEW, LISTS, SYSTEM
from runtimedb_dagster.sources.attached.mysql.errors import ADVICE, GONE, TRANSIENT
from runtimedb_dagster.sources.attached.mysql.options import MySQLOptions
from runtimedb_dagster.sources.attached.mysql.types import MySQLColumn, project, quoted, treatment
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.watch import Peer
from runtimedb_dagster.sources.base import Base, State
from runtimedb_dagster.sources.url import SourceUrl, host_and_port

__all__ = ["MySQL", "MySQLOptions"]

ALIAS = "mysql"
# A second attachment, made when something is to be ended: one that is read-only can't.
CONTROL = "mysql_control"
IN_TRANSACTION = "in the transaction"


@dataclass(frozen=True)
class _Login:
    """What a session has without a word of ours about it, and which isolation it has."""

    sql_mode: str
    isolation: str


@dataclass(frozen=True)
class _Seen:
    """What the description of a table has to remember: whether it is read as a view, and the log before it."""

    is_view: bool
    position: Position | None


class MySQL(Dialect[MySQLColumn]):
    """The dialect of a MySQL or MariaDB server."""

    options = MySQLOptions
    extensions: Sequence[str] = ("mysql_scanner",)

    def __init__(self, url: SourceUrl, options: MySQLOptions, password: str | None) -> None:
        """Speak with the server that `url` names."""
        self._url = url
        self._options = options
        self._password = password
        self._login: _Login | None = None

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach by a temporary secret: a failing ATTACH repeats its own text."""
        for name, value in SETTINGS.items():
            duck.execute(f"SET GLOBAL {name} = {literal(value)}")
        host, port = self._address()
        secret = {
            "HOST": self._connection_string(host),
            "PORT": str(port),
            "SOCKET": self._options.socket,
            "USER": self._url.user,
            "PASSWORD": self._password,
            "DATABASE": self._url.path or None,
        }
        given = ", ".join(f"{name} {literal(value)}" for name, value in secret.items() if value is not None)
        duck.execute(f"CREATE TEMPORARY SECRET source (TYPE mysql, {given})")
        duck.execute(f"ATTACH {literal(self._parameters())} AS {ALIAS} (TYPE mysql, SECRET source, READ_ONLY)")
        return ALIAS

    def _connection_string(self, host: str) -> str:
        """The host, and what each session begins with; braces hold a command together."""
        lock = self._options.lock_timeout
        begins = ", ".join(f"{name} = {value}" for name, value in {**SESSION, "lock_wait_timeout": str(lock)}.items())
        commands = [f"SET SESSION {begins} {OF_MARIADB}", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"]
        given = [f"host={host}", f"connect-timeout={self._options.connect_timeout}"]
        return ";".join([*given, *(f"init-command={{{command}}}" for command in commands)])

    def peer(self) -> Peer:
        """The server, which speaks first."""
        if self._options.socket:
            return Peer(((self._options.socket, 0),))
        return Peer((self._address(),))

    def _address(self) -> tuple[str, int]:
        if self._options.socket:
            # The client tries 127.0.0.1 where the socket fails; another server may be there, but none at port 1.
            return "localhost", 1
        host, port = self._url.host or "", self._url.port
        if self._options.replica:
            host, replica_port = host_and_port(self._options.replica)
            port = replica_port or port
        # The client takes `localhost` for a socket at its default place, whatever the port.
        return "127.0.0.1" if host in ("", "localhost") else host, port or 3306

    def _parameters(self) -> str:
        """What a secret can't carry."""
        parameters = {
            "compression": self._options.compression,
            "ssl_mode": self._options.ssl_mode,
            "ssl_ca": self._options.ssl_ca,
            "ssl_cert": self._options.ssl_cert,
            "ssl_key": self._options.ssl_key,
        }
        return " ".join(f"{name}={_parameter(value)}" for name, value in parameters.items() if value is not None)

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Have the server answer."""
        duck.execute(f"SELECT * FROM {_query(alias, 'SELECT 1 AS one')}")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """Tables and views of the URL's database, or of all but the system's if it names none.

        The server lists what the user has any privilege on.
        """
        chosen = _is("TABLE_SCHEMA", self._url.path) if self._url.path else f"TABLE_SCHEMA NOT IN ({SYSTEM})"
        parts = {name: _query(alias, query.format(chosen=chosen, more="")) for name, query in LISTS.items()}
        return discovered(duck.execute(DISCOVERY.format(**parts)).fetchall())

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[MySQLColumn]:
        """Take the table's metadata lock, then look at its columns."""
        position = state.position(duck, partial(_query, alias, stream=False))
        self._lock(duck, alias, ref)
        chosen = f"{_is('TABLE_SCHEMA', ref.schema_name)} AND {_is('TABLE_NAME', ref.table_name)}"
        listed = _query(alias, LISTS["columns"].format(chosen=chosen, more=IS_VIEW), stream=False)
        rows = duck.execute(f"SELECT {COLUMN}, is_view FROM {listed} ORDER BY position").fetchall()
        arriving = _arriving(duck, alias, ref, [row[0] for row in rows])
        # A table with columns that are computed when they are read is read as a view is.
        is_view = any(row[-1] for row in rows)
        columns = tuple(
            MySQLColumn(name, column_type, nullable, comment, arriving[name], is_view)
            for name, column_type, nullable, comment, _ in rows
        )
        self._look_around(duck, alias)
        seen = _Seen(is_view, position)
        return Relation(columns, session=secrets.randbits(62), scannable=False, state=seen)

    # Of the session of DuckDB's transaction.
    now = "NOW(6)"

    def quoted(self, name: str) -> str:
        """In backticks."""
        return quoted(name)

    def constant(self, text: str) -> str:
        """As its bytes, which no mode of the server reads in another way."""
        return f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"

    def ask_of(self, scan: Scan[MySQLColumn], *asked: str) -> Sequence[str | None]:
        """In the session of DuckDB's transaction, which keeps its snapshot from then on."""
        listed = ", ".join(f"CAST({each} AS CHAR) AS a{number}" for number, each in enumerate(asked))
        condition = f" WHERE {scan.where}" if scan.where else ""
        prologue = self._prologue(is_view=scan.relation.state.is_view)
        query = _query(scan.alias, f"{prologue}{listed} FROM {_qualified(scan.ref)}{condition}", stream=False)
        ((*answers,),) = scan.duck.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {query}").fetchall()
        return answers

    def primary_key(self, scan: Scan[MySQLColumn]) -> Sequence[str]:
        """As the server lists it."""
        chosen = f"{_is('TABLE_SCHEMA', scan.ref.schema_name)} AND {_is('TABLE_NAME', scan.ref.table_name)}"
        listed = _query(scan.alias, LISTS["keys"].format(chosen=chosen), stream=False)
        return tuple(row[0] for row in scan.duck.execute(f"SELECT name FROM {listed} ORDER BY position").fetchall())

    def changed(self, scan: Scan[MySQLColumn], what: str) -> Scan[MySQLColumn]:
        """Read in the session of DuckDB's transaction, whose snapshot a streamed statement does not share."""
        return replace(super().changed(scan, what), origin=IN_TRANSACTION)

    def position(self, scan: Scan[MySQLColumn]) -> Position | None:
        """How far the log of MariaDB has come, for what it tells of."""
        seen: _Seen = scan.relation.state
        address = (scan.ref.schema_name, scan.ref.table_name)
        if seen.position is None or seen.is_view:
            return None
        logged = state.logged(scan.duck, partial(_query, scan.alias, stream=False), [scan.ref])
        return seen.position if address in logged else None

    def is_same(self, before: Position, now: Position) -> bool:
        """Whether the log has come no further."""
        return state.is_same(before, now)

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],  # noqa: ARG002 - as the others
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """All tables at once, by the log of MariaDB."""
        found = same_everywhere(self, bases, state.position(duck, partial(_query, alias, stream=False)))
        logged = state.logged(duck, partial(_query, alias, stream=False), found) if found else {}
        # A right that was taken away leaves no trace in the log.
        return {
            ref: each
            for ref, each in found.items()
            if {column.name for column in bases[ref].columns} <= logged.get((ref.schema_name, ref.table_name), set())
        }

    def _look_around(self, duck: duckdb.DuckDBPyConnection, alias: str) -> _Login:
        """What the login has set, and what the session that streams is like; once per attached source.

        Raises:
            duckdb.InvalidInputException: rows that nobody committed would be read.
        """
        if self._login is None:
            asked = (
                "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation', 'sql_mode')"
            )
            with duck.cursor() as aside:
                found = {
                    name.lower(): value for name, value in aside.execute(f"FROM {_query(alias, asked)}").fetchall()
                }
            isolation = found.get("transaction_isolation") or found.get("tx_isolation", "")
            self._login = _Login(found.get("sql_mode", ""), isolation)
        if self._login.isolation not in ("REPEATABLE-READ", "SERIALIZABLE"):
            raise duckdb.InvalidInputException(
                f"the session's isolation is {self._login.isolation} and could not be set to REPEATABLE READ, so rows "
                "that nobody committed could be read; a proxy between may be the reason"
            )
        return self._login

    def _lock(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> None:
        """Name the table in DuckDB's transaction, which keeps its metadata lock; no row is read, no snapshot taken."""
        statement = f"{self._prologue(is_view=True)}1 AS one FROM {_qualified(ref)} LIMIT 0"
        try:
            duck.execute(f"SELECT * FROM {_query(alias, statement, stream=False)}")
        except duckdb.Error as error:
            message = _message(str(error))
            if any(sign in message for sign in GONE):
                raise TableIsGone(f" ({message})") from None
            raise

    def project(self, column: MySQLColumn) -> Projected:
        """As the server's types demand."""
        return project(column, self._options.tinyint1, self._options.zero_dates)

    def treatment(self, schema_name: str, table_name: str, column: SourceColumn) -> str | None:  # noqa: ARG002
        """What `tinyint(1)` and zero dates are kept as."""
        return treatment(column, self._options.tinyint1, self._options.zero_dates)

    def from_clause(self, scan: Scan[MySQLColumn]) -> str:
        """One statement on the server, which names the session's number for who may want to end it."""
        statement = f"{_mark(scan.relation.session)} {self._statement(scan)}"
        return _query(scan.alias, statement, stream=scan.origin != IN_TRANSACTION)

    def _statement(self, scan: Scan[MySQLColumn]) -> str:
        listed = ", ".join(
            f"{each.remote or quoted(each.source_name)} AS {quoted(each.source_name)}" for each in scan.projection
        )
        condition = f" WHERE {scan.where}" if scan.where else ""
        return f"{self._prologue(is_view=scan.relation.state.is_view)}{listed} FROM {_qualified(scan.ref)}{condition}"

    def _prologue(self, *, is_view: bool) -> str:
        """SELECT, under what one statement needs: MariaDB executes its comment, MySQL follows its hint.

        A table's CHAR must not be padded, and its instants come in UTC; a view computes with what the login has. A
        function in a condition should not write, which MySQL has no such setting for.
        """
        limit = self._options.statement_timeout
        settings = {} if is_view else {"time_zone": "'+00:00'", **self._unpadded()}
        of_maria = {**settings, "max_statement_time": limit, "tx_read_only": 1}
        maria = ", ".join(f"{name} = {value}" for name, value in of_maria.items())
        hints = " ".join(f"SET_VAR({name} = {value})" for name, value in settings.items())
        return f"/*M! SET STATEMENT {maria} FOR */ SELECT /*+ {hints} MAX_EXECUTION_TIME({limit * 1000}) */ "

    def _unpadded(self) -> dict[str, str]:
        mode = self._login.sql_mode.split(",") if self._login else []
        if PADDING not in mode:
            return {}
        return {"sql_mode": f"'{','.join(word for word in mode if word != PADDING)}'"}

    def detail(self, scan: Scan[MySQLColumn], error: str) -> str | None:
        """What the server says when it fails while rows come, which DuckDB's client loses: one row is asked for."""
        if _message(error) or "Failed to fetch result row" not in error:
            return None
        columns = ", ".join(quoted(each.source_name) for each in scan.projection)
        head, _, select = self._statement(scan).partition("SELECT ")
        again = f"{head}SELECT BIT_XOR(CRC32(CONCAT_WS('|', {columns}))) AS one FROM (SELECT {select}) AS failing"
        try:
            scan.duck.execute(f"FROM {_query(scan.alias, again, stream=False)}").fetchall()
        except duckdb.Error as failure:
            return self.explain(str(failure)) if _message(str(failure)) else None
        return None

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """End the statement that names `session`; while the server works on a row, DuckDB would wait for it."""
        running = f"SELECT ID AS id FROM information_schema.PROCESSLIST WHERE INFO LIKE '{_mark(session)}%'"
        ids = duck.execute(f"SELECT id FROM {_query(alias, running)}").fetchall()
        if ids:
            parameters = literal(self._parameters())
            duck.execute(f"ATTACH IF NOT EXISTS {parameters} AS {CONTROL} (TYPE mysql, SECRET source)")
        for (number,) in ids:
            duck.execute(f"CALL mysql_execute('{CONTROL}', 'KILL QUERY {number}')")

    def is_transient(self, error: str) -> bool:
        """A server that is unavailable, starting, or full, or a lock that somebody holds."""
        return any(sign in _message(error) for sign in TRANSIENT)

    def explain(self, error: str) -> str:
        """The server's own words, without what DuckDB puts around them, and what to do where that is known."""
        message = _message(error)
        if not message and "Failed to fetch result row" in error:
            # The client does not pass on why.
            limit = self._options.statement_timeout
            message = "the server ended the statement, or the connection was lost"
            return f"{message}; the option statement_timeout allows it {limit} seconds" if limit else message
        if self._options.socket and "Can't connect" in message:
            return f"no server listens on the socket {self._options.socket}"
        return next((f"{message}; {advice}" for sign, advice in ADVICE.items() if sign in message), message)


def _query(alias: str, statement: str, *, stream: bool = True) -> str:
    """A query on the server in a FROM clause; unstreamed, in the session of DuckDB's transaction."""
    return f"mysql_query({literal(alias)}, {literal(statement)}, stream_results = {stream})"


def _arriving(duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, names: Sequence[str]) -> dict[str, str]:
    """DuckDB's types of the bare columns, by name."""
    if not names:
        return {}
    statement = f"SELECT {', '.join(map(quoted, names))} FROM {_qualified(ref)} LIMIT 0"
    return {
        row[0]: row[1] for row in duck.execute(f"DESCRIBE FROM {_query(alias, statement, stream=False)}").fetchall()
    }


def _qualified(ref: TableRef) -> str:
    return f"{quoted(ref.schema_name)}.{quoted(ref.table_name)}"


def _is(column: str, name: str) -> str:
    """SQL that is true for a name, in every SQL mode; the server looks it up, with its case where that matters."""
    return f"{column} = _utf8mb4 x'{name.encode().hex()}'"


def _mark(session: int | None) -> str:
    return f"/* runtimedb {session} */"


def _parameter(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _message(error: str) -> str:
    """The server's own words: the extension puts the statement before it, DuckDB a pointer into its own after it."""
    if "Failed to" not in error:
        return first_line(error)
    text = error.rsplit("\n\nLINE ", 1)[0].rsplit('": ', 1)[-1]
    return text.split(". Attempted host: ")[0].split(". First attempted host: ")[0].strip()


# DuckDB's: types as they arrive must not depend on a value, and no limit of time is wanted that the user did not set.
SETTINGS = {
    # A session that is used again has lost what it began with.
    "mysql_pool_size": "0",
    "mysql_tinyint1_as_boolean": "false",
    "mysql_query_timeout_enabled": "false",
}

# What bears on which rows come, in a table as in a view; and English, in which errors are known.
SESSION = {
    "sql_select_limit": "18446744073709551615",
    "max_join_size": "18446744073709551615",
    "sql_big_selects": "1",
    "sql_auto_is_null": "0",
    # A writer that is slow now and then must not be cut off, nor a session that waits while another one reads.
    "net_write_timeout": "3600",
    "wait_timeout": "86400",
    "lc_messages": "'en_US'",
}
OF_MARIADB = "/*M!100304 , system_versioning_asof = DEFAULT, idle_transaction_timeout = 0 */"
PADDING = "PAD_CHAR_TO_FULL_LENGTH"
