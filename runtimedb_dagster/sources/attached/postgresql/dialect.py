"""PostgreSQL: `postgresql://user@host:port/database`.

A table is locked (ACCESS SHARE) before the snapshot of its read is taken: a table that is rewritten or truncated in
between would otherwise read as empty. What can't be locked (materialized views, foreign tables, tables of which only
some columns are granted) is looked at after the reading: it must still be in the file that the snapshot knows. Large
tables are read by DuckDB's parallel scan over one exported snapshot; others by one query on the server, which needs
nothing of DuckDB's own catalog of the remote database.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtimedb_dagster.common.duck import first_line, transaction
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, TypeContractError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.sources.attached.dialect import Dialect, Relation, Scan, TableIsGone, attached, discovered
from runtimedb_dagster.sources.attached.postgresql import catalog
from runtimedb_dagster.sources.attached.postgresql.errors import advised, is_transient
from runtimedb_dagster.sources.attached.postgresql.session import (
    FORMS,
    Session,
    Surroundings,
    escaped,
    require_settable,
)
from runtimedb_dagster.sources.attached.postgresql.types import PostgreSQLColumn, Wishes, project
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.watch import SSL_REQUEST, Peer
from runtimedb_dagster.sources.url import SourceUrl, checked_host, host_and_port

__all__ = ["PostgreSQL", "PostgreSQLOptions"]

logger = logging.getLogger(__name__)

ALIAS = "postgresql"
# DuckDB's scan reads tasks of 1,000 pages; a smaller table has one, and no gain from it.
PARALLEL_FROM_PAGES = 1_000
LOCKABLE = ("r", "p", "v")
STARTUP_REFUSED = "unsupported startup parameter"


class PostgreSQLOptions(BaseModel):
    """What is particular to PostgreSQL. Times are seconds, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="as libpq's"
    )
    sslrootcert: str | None = Field(default=None, description="file with the certificates to trust")
    sslcert: str | None = Field(default=None, description="file with the client's certificate")
    sslkey: str | None = Field(default=None, description="file with its key")
    sslcrl: str | None = Field(default=None, description="file with revoked certificates")
    channel_binding: Literal["disable", "prefer", "require"] | None = Field(default=None, description="as libpq's")
    gssencmode: Literal["disable", "prefer", "require"] | None = Field(default=None, description="as libpq's")
    target_session_attrs: Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] | None = (
        Field(default=None, description="which of several hosts will do, as libpq's")
    )
    load_balance_hosts: Literal["disable", "random"] | None = Field(
        default=None, description="random: try several hosts in any order, as libpq's"
    )
    application_name: str = Field(default="runtimedb", description="the name that the server shows")
    socket: str | None = Field(default=None, description="directory of the server's Unix socket, instead of a host")
    replica: str | None = Field(default=None, description="host or host:port of a replica, which is read instead")
    connect_timeout: int = Field(default=10, ge=1, description="seconds to wait for the server")
    statement_timeout: int = Field(default=0, ge=0, description="seconds that one statement on the server may take")
    lock_timeout: int = Field(default=60, ge=0, description="seconds to wait for a table that is being altered")
    numerics: Literal["decimal", "text"] = Field(
        default="decimal", description="text: keep every numeric as exact text, NaN included"
    )
    arrays: Literal["list", "text"] = Field(
        default="list", description="text: keep arrays as text, for those whose number of dimensions or bounds varies"
    )
    jsons: Literal["json", "text"] = Field(
        default="json", description="text: keep json and jsonb as text, whatever other readers of JSON think of it"
    )
    row_security: Literal["refuse", "apply"] = Field(
        default="refuse", description="apply: read the rows that the login's policies leave, instead of failing"
    )
    session: dict[str, str] = Field(
        default={}, description='settings of the session, such as `{"app.tenant": "7"}` for what a view asks for'
    )

    @field_validator("replica")
    @classmethod
    def _is_a_host(cls, replica: str | None) -> str | None:
        return replica and checked_host(replica)

    @field_validator("session", mode="before")
    @classmethod
    def _settings(cls, given: Any) -> Any:
        try:
            return json.loads(given) if isinstance(given, str) else given
        except (json.JSONDecodeError, RecursionError):
            raise ValueError('write a JSON object, such as {"app.tenant": "7"}') from None

    @field_validator("session")
    @classmethod
    def _settable(cls, given: dict[str, str]) -> Mapping[str, str]:
        try:
            return require_settable(given)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class _Seen:
    """What the description of a table has to remember until after its reading."""

    kind: str
    oid: int
    locked: bool


class PostgreSQL(Dialect[PostgreSQLColumn]):
    """The dialect of a PostgreSQL server."""

    options = PostgreSQLOptions
    extensions: Sequence[str] = ("postgres_scanner",)

    def __init__(self, url: SourceUrl, options: PostgreSQLOptions, password: str | None) -> None:
        """Speak with the database that `url` names."""
        self._url = url
        self._options = options
        self._wishes = Wishes(options.numerics, options.arrays, options.jsons)
        self._password = password
        self._twins: set[tuple[str, str]] = set()
        self._shared = False
        self._any_bytes = False
        self._around: Surroundings | None = None
        # Whether a session's start takes options; a pooler may not.
        self._with_options = True
        limits = {
            "lock_timeout": f"{options.lock_timeout}s",
            "statement_timeout": f"{options.statement_timeout}s",
            "idle_in_transaction_session_timeout": "0",
        }
        row_security = "off" if options.row_security == "refuse" else "on"
        self._session = Session(limits, row_security, options.session)

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach by a temporary secret: a failing ATTACH repeats its own text."""
        hosts = self._hosts()
        secret = {
            "HOST": ",".join(host for host, _ in hosts) or None,
            "PORT": ",".join(str(port) for _, port in hosts) or "5432",
            "USER": self._url.user,
            "PASSWORD": self._password,
            "DATABASE": self._url.path or self._url.user,
        }
        given = ", ".join(f"{name} {literal(value)}" for name, value in secret.items() if value is not None)
        duck.execute(f"CREATE OR REPLACE TEMPORARY SECRET source (TYPE postgres, {given})")
        try:
            self._attach(duck)
        except duckdb.Error as error:
            if STARTUP_REFUSED not in str(error):
                raise
            self._with_options = False
            self._attach(duck)
        return ALIAS

    def _attach(self, duck: duckdb.DuckDBPyConnection) -> None:
        duck.execute(f"ATTACH {literal(self._parameters())} AS {ALIAS} (TYPE postgres, SECRET source, READ_ONLY)")

    def _hosts(self) -> list[tuple[str, int]]:
        if self._options.socket:
            return [(self._options.socket, self._url.port or 5432)]
        if self._options.replica:
            host, port = host_and_port(self._options.replica)
            return [(host, port or self._url.port or 5432)]
        return [(host, port or 5432) for host, port in self._url.hosts]

    def peer(self) -> Peer:
        """The server's hosts, or the socket in their place."""
        hosts = self._hosts() or [("/var/run/postgresql", 5432)]
        return Peer(
            tuple((f"{host}/.s.PGSQL.{port}", 0) if host.startswith("/") else (host, port) for host, port in hosts),
            SSL_REQUEST,
        )

    def _parameters(self) -> str:
        """What a secret can't carry, in libpq's key=value form."""
        start = self._session.at_start() if self._with_options else {}
        if self._options.target_session_attrs:
            # A read-only session would never be taken for one that may write; its transactions are read-only anyway.
            start.pop("default_transaction_read_only", None)
        parameters = {
            "connect_timeout": str(self._options.connect_timeout),
            # A server that is cut off in the middle of a reading is noticed in 90 seconds, not in two hours.
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "6",
            "client_encoding": "UTF8",
            "application_name": self._options.application_name,
            "options": " ".join(f"-c {name}={_option(value)}" for name, value in start.items()),
            **{name: getattr(self._options, name) for name in LIBPQ},
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in parameters.items() if value is not None)

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Have the server answer."""
        _ask(duck, alias, "SELECT 1 AS one")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All relations of all schemas but the system's, in one query of pg_catalog.

        Tables that the user may not read are listed too: a permission that was revoked must not look like a dropped
        table. Partitions are part of their parent.
        """
        around = self._look_around(duck, alias)
        unreadable = self._unreadable(duck, alias)
        chosen = f"c.oid NOT IN ({', '.join(unreadable)})" if unreadable else "TRUE"
        with transaction(duck) as aside:
            _run(aside, alias, self._session.in_transaction(around))
            rows = _ask(aside, alias, catalog.RELATIONS.format(chosen=chosen) + catalog.LISTED)
        return discovered([(*row[:5], json.loads(row[5]), json.loads(row[6] or "[]")) for row in rows])

    def _unreadable(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[str]:
        """The oids of relations whose names or comments are no UTF-8: they are left out, and the others discovered."""
        left_out = []
        for oid, *encoded in _ask(duck, alias, catalog.NAMES) if self._any_bytes else []:
            schema, table, rest = (bytes.fromhex(each) for each in encoded)
            try:
                (schema + b" " + table + b" " + rest).decode()
            except UnicodeDecodeError:
                left_out.append(str(oid))
                logger.warning("left out, for its name or comment is not UTF-8: %r.%r", schema, table)
        return left_out

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[PostgreSQLColumn]:
        """Lock the table, then take the snapshot and look at the table in it."""
        around = self._look_around(duck, alias)
        chosen = f"n.nspname = {escaped(ref.schema_name)} AND c.relname = {escaped(ref.table_name)}"
        locked = self._lock(duck, alias, ref, chosen, around)
        rows = _ask(duck, alias, catalog.BUILT_IN.format(chosen=chosen)) or _ask(
            duck, alias, catalog.RELATIONS.format(chosen=chosen) + catalog.DESCRIBED
        )
        if not rows:
            raise TableIsGone
        session, pages, kind, oid, columns = rows[0]
        if taken_back := self._session.as_the_login(around, forms=kind == "v"):
            _run(duck, alias, taken_back)
        twin = (ref.schema_name.lower(), ref.table_name.lower()) in self._twins
        large = kind in ("r", "m") and pages >= PARALLEL_FROM_PAGES and self._shared and not twin
        listed = tuple(PostgreSQLColumn.from_dict(column) for column in json.loads(columns))
        return Relation(listed, session, scannable=large and locked, state=_Seen(kind, oid, locked))

    def _lock(
        self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, chosen: str, around: Surroundings
    ) -> bool:
        """Set up the session, and lock the table; whether that could be done and the table can be read all the same."""
        setup = self._session.in_transaction(around)
        try:
            _run(duck, alias, f"{setup}; LOCK TABLE {qualified(ref.schema_name, ref.table_name)} IN ACCESS SHARE MODE")
        except duckdb.Error as error:
            try:
                duck.execute("ROLLBACK; BEGIN")
            except duckdb.Error:
                raise error from None  # the server is gone; what it said last tells more
            _run(duck, alias, setup)
            self._require_readable(_ask(duck, alias, catalog.READABLE.format(chosen=chosen)), ref, error)
            return False
        return True

    def _require_readable(self, rows: list[tuple[Any, ...]], ref: TableRef, error: duckdb.Error) -> None:
        """Raise unless what could not be locked can be read; by what the catalog says, whatever the message's words."""
        if not rows:
            raise TableIsGone
        kind, usage, whole, some = rows[0]
        if usage is None or some is None:
            raise duckdb.TransactionException("it was replaced by another one meanwhile; refresh it again")
        if not usage:
            raise duckdb.PermissionException(
                f"permission denied for schema {ref.schema_name}; "
                f"grant USAGE on schema {identifier(ref.schema_name)} to the login"
            )
        if not some:
            raise duckdb.PermissionException(
                f"permission denied for table {ref.table_name}; grant SELECT on it, or leave it out with the option "
                "exclude"
            )
        if kind in LOCKABLE and whole and kind != "v":
            raise error

    def _look_around(self, duck: duckdb.DuckDBPyConnection, alias: str) -> Surroundings:
        """Find what DuckDB's scan would get wrong here, and what the login has set; once per attached source."""
        if self._around is None:
            with duck.cursor() as aside:
                around = Surroundings.of(_ask(aside, alias, Surroundings.query())[0])
                shared, self._any_bytes = _ask(aside, alias, catalog.SNAPSHOTS)[0]
                self._twins = {(row[0], row[1]) for row in _ask(aside, alias, catalog.TWINS)}
                # A pooler may take the options of a session's start, and drop them.
                started = self._with_options and around.row_security == self._session.row_security
                self._shared = shared and started and not _receives(aside, alias)
            self._around = around
        if self._around.damaging:
            raise duckdb.InvalidInputException(
                f"the server's setting {self._around.damaging[0]} is on, which leaves damaged rows out in silence; "
                "set it off for this login, or ask who set it"
            )
        return self._around

    def project(self, column: PostgreSQLColumn) -> Projected:
        """As the server's types demand."""
        return project(column, self._wishes)

    def treatment(self, schema_name: str, table_name: str, column: SourceColumn) -> str | None:  # noqa: ARG002
        """What is to be kept as text."""
        return json.dumps(self._wishes.concerning(column.type)) if self._wishes != Wishes() else None

    def options_of_rows(self) -> Mapping[str, str]:
        """Policies, and what views ask the session for."""
        applied = {"row_security": "apply"} if self._options.row_security == "apply" else {}
        return {**applied, **{f"session.{name}": value for name, value in self._options.session.items()}}

    def is_native(self, scan: Scan[PostgreSQLColumn]) -> bool:
        """Whether DuckDB's scan reads every column right."""
        plain = not any(each.remote or each.parts for each in scan.projection)
        return scan.relation.scannable and scan.where is None and plain and _reads_as_described(scan)

    def guard(self, scan: Scan[PostgreSQLColumn]) -> None:
        """Look on the server, in the snapshot of the read, for values that would not arrive as they are."""
        if scan.relation.state.kind == "v":
            self._require_forms(scan.projection)
        _guard(scan)

    def from_clause(self, scan: Scan[PostgreSQLColumn]) -> str:
        """DuckDB's scan, or a query on the server."""
        if scan.native:
            return attached(scan.alias, scan.ref, None)
        condition = f" WHERE {scan.where}" if scan.where else ""
        query = f"SELECT {_listed(scan.projection)} FROM {_table(scan)}{condition}"
        return f"postgres_query({literal(scan.alias)}, {literal(query)})"

    def _require_forms(self, projection: Sequence[Projected]) -> None:
        """Refuse, in a view, text whose form depends on what the login has set otherwise."""
        other = self._around.other_forms if self._around else {}
        other = {name: value for name, value in other.items() if name not in ("TimeZone", *self._options.session)}
        for each in projection if other else ():
            if each.settings:
                name, value = next(iter(other.items()))
                setting = json.dumps(
                    {**self._options.session, **{other_name: FORMS[other_name] for other_name in other}}
                )
                raise TypeContractError(
                    f"column {identifier(each.column.name)} ({each.column.source_type}) is read as text, whose form "
                    f"the login's setting {name} = '{value}' changes, and with it perhaps what the view computes; set "
                    f"the option session='{setting}' to read the view under it, or leave the column out"
                )

    def confirm(self, scan: Scan[PostgreSQLColumn]) -> str | None:
        """What was not locked before the snapshot was taken must still be in the file that the snapshot knows.

        Else it may have been read as if it were empty.
        """
        seen: _Seen = scan.relation.state
        if seen.locked and scan.is_first:
            return None
        query = catalog.WHOLE.format(oid=seen.oid, name=escaped(_table(scan)))
        ((whole,),) = _ask(scan.duck, scan.alias, query)
        return None if whole else "the table was rewritten while it was read; refresh it again"

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """DuckDB waits for a query on the server, whatever interrupts it."""
        _ask(duck, alias, f"SELECT pg_catalog.pg_cancel_backend({session}) AS cancelled")

    def is_transient(self, error: str) -> bool:
        """A server that is unavailable, starting, full, or a replica that had to go on."""
        return is_transient(error)

    def explain(self, error: str) -> str:
        """The server's own words, without what DuckDB and libpq put around them, and what to do."""
        said = re.findall(r"(?:ERROR|FATAL|PANIC): +(.*)", error)
        told = said[-1] if said else re.sub(r'^Unable to connect to Postgres at ".*?": ', "", first_line(error))
        return advised(told, error)

    def detail(self, scan: Scan[PostgreSQLColumn], error: str) -> str | None:
        """The column that is meant, where neither the server nor DuckDB names it."""
        if "Expected an array" in error:
            return _of_other_dimensions(scan)
        if not self._any_bytes or "invalid byte sequence" not in error:
            return None
        for each in scan.projection:
            name = identifier(each.source_name)
            checked = f"pg_catalog.convert_from(pg_catalog.convert_to({name}::text, 'SQL_ASCII'), 'UTF8')"
            query = f"SELECT pg_catalog.max(pg_catalog.length({checked})) AS n FROM {_table(scan)}"
            try:
                _ask(scan.duck, scan.alias, query)
            except duckdb.Error:
                with contextlib.suppress(duckdb.Error):
                    scan.duck.execute("ROLLBACK")
                return (
                    f"column {name} ({each.column.source_type}) holds text that is not UTF-8, which a database of "
                    "encoding SQL_ASCII takes; leave it out with exclude_columns, or convert it in a view on the source"
                )
        return None


def _table(scan: Scan[PostgreSQLColumn]) -> str:
    return qualified(scan.ref.schema_name, scan.ref.table_name)


def _of_other_dimensions(scan: Scan[PostgreSQLColumn]) -> str | None:
    for each in scan.projection:
        name = identifier(each.source_name)
        found = f"SELECT 1 AS n FROM {_table(scan)} WHERE pg_catalog.array_ndims({name}) > 1 LIMIT 1"
        if (each.arrives or "").endswith("[]") and _ask(scan.duck, scan.alias, found):
            return (
                f"column {name} ({each.column.source_type}) holds arrays that differ in their number of dimensions; "
                "set the option arrays=text"
            )
    return None


def _receives(duck: duckdb.DuckDBPyConnection, alias: str) -> bool:
    """Whether the server is a replica by what it receives; so it is taken for one if it does not say."""
    try:
        return bool(_ask(duck, alias, catalog.WAL_RECEIVER)[0][0])
    except duckdb.Error:
        return True


def _listed(projection: Sequence[Projected]) -> str:
    """The select list on the server."""
    listed = [
        part
        for each in projection
        for part in (each.parts or [(each.source_name, each.remote or identifier(each.source_name))])
    ]
    return ", ".join(f"{sql} AS {identifier(name)}" for name, sql in listed)


def _reads_as_described(scan: Scan[PostgreSQLColumn]) -> bool:
    """Whether DuckDB's own idea of the table, which it may have made before a change, is that of the snapshot."""
    try:
        rows = scan.duck.execute(f"DESCRIBE {attached(scan.alias, scan.ref, None)}").fetchall()
    except duckdb.CatalogException:
        return False
    known = {row[0]: row[1] for row in rows}
    return all(known.get(each.source_name) == each.arrives for each in scan.projection)


def _guard(scan: Scan[PostgreSQLColumn]) -> None:
    guarded = [each for each in scan.projection if each.guard]
    if not guarded:
        return
    listed = ", ".join(f"coalesce({each.guard}, false) AS c{i}" for i, each in enumerate(guarded))
    found = " OR ".join(f"({each.guard})" for each in guarded)
    condition = f"({scan.where}) AND ({found})" if scan.where else found
    for row in _ask(scan.duck, scan.alias, f"SELECT {listed} FROM {_table(scan)} WHERE {condition} LIMIT 1"):
        each = guarded[row.index(True)]
        column = each.column
        raise TypeContractError(f"column {identifier(column.name)} ({column.source_type}): {each.because}")


def _ask(duck: duckdb.DuckDBPyConnection, alias: str, query: str) -> list[tuple[Any, ...]]:
    return duck.execute(f"SELECT * FROM postgres_query({literal(alias)}, {literal(query)})").fetchall()


def _run(duck: duckdb.DuckDBPyConnection, alias: str, statements: str) -> None:
    duck.execute(f"CALL postgres_execute({literal(alias)}, {literal(statements)}, use_transaction = true)")


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _option(value: str) -> str:
    """A value among libpq's `options`, which are split at spaces."""
    return re.sub(r"([\\\s])", r"\\\1", value)


LIBPQ = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode", "target_session_attrs",
    "load_balance_hosts",
)  # fmt: skip
