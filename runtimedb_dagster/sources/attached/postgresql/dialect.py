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
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import first_line, transaction
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Dialect, Relation, Scan, TableIsGone, attached, discovered
from runtimedb_dagster.sources.attached.postgresql import catalog, changes, facts
from runtimedb_dagster.sources.attached.postgresql.asking import (
    ask,
    is_replica,
    other_dimensions,
    require_exact,
    run,
    select_list,
    table_name,
)
from runtimedb_dagster.sources.attached.postgresql.errors import advised, is_transient
from runtimedb_dagster.sources.attached.postgresql.facts import Facts, Moment
from runtimedb_dagster.sources.attached.postgresql.options import PostgreSQLOptions, hosts, parameters
from runtimedb_dagster.sources.attached.postgresql.session import (
    FORMS,
    Session,
    Surroundings,
    escaped,
)
from runtimedb_dagster.sources.attached.postgresql.types import PostgreSQLColumn, Wishes, project
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.watch import SSL_REQUEST, Peer
from runtimedb_dagster.sources.base import Base, Delta, State, Unknown
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["PostgreSQL", "PostgreSQLOptions"]

logger = logging.getLogger(__name__)

ALIAS = "postgresql"
# DuckDB's scan reads tasks of 1,000 pages; a smaller table has one, and no gain from it.
PARALLEL_FROM_PAGES = 1_000
LOCKABLE = ("r", "p", "v")
# What DuckDB puts before the words of libpq.
AROUND = re.compile(
    r"^([A-Z][\w ]* Error: )?"
    r'(Unable to connect to Postgres at ".*?": |Failed to (prepare|execute) (query|COPY) ".*": ?)',
    re.DOTALL,
)
STARTUP_REFUSED = "unsupported startup parameter"


@dataclass(frozen=True)
class _Seen:
    """What the description of a table has to remember until after its reading."""

    kind: str
    oid: int
    locked: bool
    moment: Moment | None
    facts: Facts | None


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
        self._genuine = self._identified = False
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
        listed = hosts(self._url, self._options)
        secret = {
            "HOST": ",".join(host for host, _ in listed) or None,
            "PORT": ",".join(str(port) for _, port in listed) or "5432",
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
        start = self._session.at_start() if self._with_options else {}
        given = literal(parameters(self._options, start))
        duck.execute(f"ATTACH {given} AS {ALIAS} (TYPE postgres, SECRET source, READ_ONLY)")

    def peer(self) -> Peer:
        """The server's hosts, or the socket in their place."""
        listed = hosts(self._url, self._options) or [("/var/run/postgresql", 5432)]
        return Peer(
            tuple((f"{host}/.s.PGSQL.{port}", 0) if host.startswith("/") else (host, port) for host, port in listed),
            SSL_REQUEST,
        )

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Have the server answer."""
        ask(duck, alias, "SELECT 1 AS one")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All relations of all schemas but the system's, in one query of pg_catalog.

        Tables that the user may not read are listed too: a permission that was revoked must not look like a dropped
        table. Partitions are part of their parent.
        """
        around = self._look_around(duck, alias)
        unreadable = self._unreadable(duck, alias)
        chosen = f"c.oid NOT IN ({', '.join(unreadable)})" if unreadable else "TRUE"
        with transaction(duck) as aside:
            run(aside, alias, self._session.in_transaction(around))
            rows = ask(aside, alias, catalog.RELATIONS.format(chosen=chosen) + catalog.LISTED)
        return discovered([(*row[:5], json.loads(row[5]), json.loads(row[6] or "[]")) for row in rows])

    def _unreadable(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[str]:
        """The oids of relations whose names or comments are no UTF-8: they are left out, and the others discovered."""
        left_out = []
        for oid, *encoded in ask(duck, alias, catalog.NAMES) if self._any_bytes else []:
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
        rows = ask(duck, alias, catalog.BUILT_IN.format(chosen=chosen)) or ask(
            duck, alias, catalog.RELATIONS.format(chosen=chosen) + catalog.DESCRIBED
        )
        if not rows:
            raise TableIsGone
        session, pages, kind, oid, columns = rows[0]
        if taken_back := self._session.as_the_login(around, forms=kind == "v"):
            run(duck, alias, taken_back)
        twin = (ref.schema_name.lower(), ref.table_name.lower()) in self._twins
        large = kind in ("r", "m") and pages >= PARALLEL_FROM_PAGES and self._shared and not twin
        listed = tuple(PostgreSQLColumn.from_dict(column) for column in json.loads(columns))
        seen = _Seen(kind, oid, locked, *self._followed(duck, alias, ref))
        return Relation(listed, session, scannable=large and locked, state=seen)

    def _followed(
        self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef
    ) -> tuple[Moment | None, Facts | None]:
        """The snapshot, and what decides whether the rows of a table can be followed from it."""
        if not self._genuine:
            return None, None
        return facts.followed(duck, alias, (ref.schema_name, ref.table_name), identified=self._identified)

    def ask_of(self, scan: Scan[PostgreSQLColumn], *asked: str) -> Sequence[str | None]:
        """On the server, in the snapshot of the transaction."""
        listed = ", ".join(f"({each})::text AS a{number}" for number, each in enumerate(asked))
        condition = f" WHERE {scan.where}" if scan.where else ""
        return ask(scan.duck, scan.alias, f"SELECT {listed} FROM {table_name(scan)}{condition}")[0]

    def constant(self, text: str) -> str:
        """A literal, whatever the server's settings say of backslashes."""
        return escaped(text)

    def primary_key(self, scan: Scan[PostgreSQLColumn]) -> Sequence[str]:
        """The primary key, or another unique index over columns that are never NULL."""
        seen: _Seen = scan.relation.state
        return seen.facts.key if seen.facts else ()

    def position(self, scan: Scan[PostgreSQLColumn]) -> Position | None:
        """The horizon of the snapshot, and what it depends on."""
        seen: _Seen = scan.relation.state
        return changes.position_of(seen.moment, seen.facts) if seen.moment and seen.facts else None

    def delta(self, scan: Scan[PostgreSQLColumn], base: Base) -> tuple[Delta, str]:
        """By the transactions that wrote its rows."""
        seen: _Seen = scan.relation.state
        if seen.moment is None or seen.facts is None:
            return Unknown("the server is not PostgreSQL 13 or newer"), ""
        return changes.delta(scan, base, seen.moment, seen.facts, self._key(scan, seen.facts))

    def _key(self, scan: Scan[PostgreSQLColumn], found: Facts) -> tuple[str, ...]:
        """The columns by which rows are known in a version: none if one is left out, or masked to what is no key."""
        kept = {each.column.name: each.column for each in scan.projection}
        usable = all(name in kept and kept[name].mask in (None, "sha256") for name in found.key)
        return found.key if usable else ()

    def counts(self, scan: Scan[PostgreSQLColumn], number: str) -> dict[int | None, int] | None:
        """On the server, by its workers side by side."""
        return dict(ask(scan.duck, scan.alias, _counting(table_name(scan), number, scan.where)))

    def within(self, number: str, numbers: Sequence[int]) -> str:
        """By a list, which PostgreSQL 14 and later look up by hash."""
        return f"{number} = ANY ('{{{','.join(map(str, numbers))}}}'::bigint[])"

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],
        *,
        thorough: bool,
    ) -> Mapping[TableRef, State]:
        """By the transactions that wrote their rows, some hundred tables in a statement."""
        around = self._look_around(duck, alias)
        if not self._genuine:
            return {}
        run(duck, alias, self._session.in_transaction(around))
        listed = facts.facts_of(duck, alias, facts.chosen_by((ref.schema_name, ref.table_name) for ref in bases))
        made = any(found.made for found in listed.values())
        moment = facts.moment_of(duck, alias, identified=self._identified, types=made)
        return changes.states(duck, alias, bases, moment, listed, wheres, thorough=thorough)

    def _lock(
        self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, chosen: str, around: Surroundings
    ) -> bool:
        """Set up the session, and lock the table; whether that could be done and the table can be read all the same."""
        setup = self._session.in_transaction(around)
        try:
            run(duck, alias, f"{setup}; LOCK TABLE {qualified(ref.schema_name, ref.table_name)} IN ACCESS SHARE MODE")
        except duckdb.Error as error:
            try:
                duck.execute("ROLLBACK; BEGIN")
            except duckdb.Error:
                raise error from None  # the server is gone; its last words say more
            run(duck, alias, setup)
            self._require_readable(ask(duck, alias, catalog.READABLE.format(chosen=chosen)), ref, error)
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
            # In few transactions: by itself, each question takes more than twice as many messages. Those that a server
            # may refuse have one of their own, which ends with it.
            with transaction(duck) as aside:
                rows = ask(aside, alias, catalog.AROUND.format(surroundings=Surroundings.query()))
            *seen, shared, self._any_bytes, _, _ = rows[0]
            around = Surroundings.of(seen)
            self._twins = {(schema, table) for *_, schema, table in rows if table is not None}
            # A pooler may take the options of a session's start, and drop them.
            started = self._with_options and around.row_security == self._session.row_security
            with transaction(duck) as aside:
                self._genuine, self._identified = facts.is_genuine(aside, alias)
                if self._genuine:
                    self._shared = bool(shared) and started and not is_replica(aside, alias)
            if shared and started and not self._genuine:
                with transaction(duck) as aside:
                    self._shared = not is_replica(aside, alias)
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
        return scan.relation.scannable and scan.where is None and plain and scan.arrives_as_projected()

    def guard(self, scan: Scan[PostgreSQLColumn]) -> None:
        """Look on the server, in the snapshot of the read, for values that would not arrive as they are."""
        if scan.relation.state.kind == "v":
            self._require_forms(scan.projection)
        require_exact(scan)

    def from_clause(self, scan: Scan[PostgreSQLColumn]) -> str:
        """DuckDB's scan, or a query on the server."""
        if scan.native:
            return attached(scan.alias, scan.ref, None)
        condition = f" WHERE {scan.where}" if scan.where else ""
        query = f"SELECT {select_list(scan.projection)} FROM {table_name(scan)}{condition}"
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
        # Labels of enums, say, are shown as they are now, not as the snapshot knows them.
        made = seen.moment is not None and seen.facts is not None and seen.facts.made
        if made and seen.moment and facts.types_now(scan.duck, scan.alias) != seen.moment.types:
            return "a type of its columns was changed while it was read; refresh it again"
        if seen.locked and scan.is_first:
            return None
        query = catalog.WHOLE.format(oid=seen.oid, name=escaped(table_name(scan)))
        ((whole,),) = ask(scan.duck, scan.alias, query)
        return None if whole else "the table was rewritten while it was read; refresh it again"

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """DuckDB waits for a query on the server, whatever interrupts it."""
        ask(duck, alias, f"SELECT pg_catalog.pg_cancel_backend({session}) AS cancelled")

    def is_transient(self, error: str) -> bool:
        """A server that is unavailable, starting, full, or a replica that had to go on."""
        return is_transient(error)

    def explain(self, error: str) -> str:
        """The server's own words, without what DuckDB and libpq put around them, and what to do."""
        found = re.findall(r"(?:ERROR|FATAL|PANIC): +(.*)", error)
        message = found[-1] if found else first_line(AROUND.sub("", error)) or "the connection was lost"
        return advised(message, error)

    def detail(self, scan: Scan[PostgreSQLColumn], error: str) -> str | None:
        """The column that is meant, where neither the server nor DuckDB names it."""
        if "Expected an array" in error:
            return other_dimensions(scan)
        if not self._any_bytes or "invalid byte sequence" not in error:
            return None
        for each in scan.projection:
            name = identifier(each.source_name)
            checked = f"pg_catalog.convert_from(pg_catalog.convert_to({name}::text, 'SQL_ASCII'), 'UTF8')"
            query = f"SELECT pg_catalog.max(pg_catalog.length({checked})) AS n FROM {table_name(scan)}"
            try:
                ask(scan.duck, scan.alias, query)
            except duckdb.Error:
                with contextlib.suppress(duckdb.Error):
                    scan.duck.execute("ROLLBACK")
                return (
                    f"column {name} ({each.column.source_type}) holds text that is not UTF-8, which a database of "
                    "encoding SQL_ASCII takes; leave it out with exclude_columns, or convert it in a view on the source"
                )
        return None


def _counting(table: str, number: str, where: str | None) -> str:
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {number} AS number, pg_catalog.count(*) AS rows FROM {table}{condition} GROUP BY 1"
