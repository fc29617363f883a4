"""PostgreSQL: `postgresql://user@host:port/database`.

A table is locked (ACCESS SHARE) before the snapshot of its read is taken: a table that is rewritten or truncated in
between would otherwise read as empty. Large tables are read by DuckDB's parallel scan over one exported snapshot;
others by one query on the server, which needs nothing of DuckDB's own catalog of the remote database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from runtimedb_dagster.duck import first_line
from runtimedb_dagster.errors import TypeContractError
from runtimedb_dagster.model import Column, DiscoveredTable, TableRef
from runtimedb_dagster.sources.adapter import Relation, TableIsGone
from runtimedb_dagster.sources.duckdb_file import attached, discovered
from runtimedb_dagster.sources.postgresql_types import project
from runtimedb_dagster.sources.projection import Projected
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster.sql import identifier, literal, qualified

__all__ = ["PostgreSQL", "PostgreSQLOptions"]

ALIAS = "postgresql"
# DuckDB's scan reads tasks of 1,000 pages; a smaller table has one, and no gain from it.
PARALLEL_FROM_PAGES = 1_000


class PostgreSQLOptions(BaseModel):
    """What is particular to PostgreSQL. Times are seconds, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="as libpq's"
    )
    sslrootcert: str | None = Field(default=None, description="file with the certificates to trust")
    sslcert: str | None = Field(default=None, description="file with the client's certificate")
    sslkey: str | None = Field(default=None, description="file with its key")
    socket: str | None = Field(default=None, description="directory of the server's Unix socket, instead of a host")
    replica: str | None = Field(default=None, description="host or host:port of a replica, which is read instead")
    connect_timeout: int = Field(default=10, ge=1, description="seconds to wait for the server")
    statement_timeout: int = Field(default=0, ge=0, description="seconds that one statement on the server may take")
    lock_timeout: int = Field(default=60, ge=0, description="seconds to wait for a table that is being altered")
    numerics: Literal["decimal", "text"] = Field(
        default="decimal", description="text: keep every numeric as exact text, NaN included"
    )
    arrays: Literal["list", "text"] = Field(
        default="list", description="text: keep arrays as text, for those whose number of dimensions varies"
    )


class PostgreSQL:
    """The dialect of a PostgreSQL server."""

    options = PostgreSQLOptions
    extensions: Sequence[str] = ("postgres_scanner",)

    def __init__(self, url: SourceUrl, options: PostgreSQLOptions, password: str | None) -> None:
        """Speak with the database that `url` names."""
        self._url = url
        self._options = options
        self._password = password
        self._twins: set[tuple[str, str]] | None = None
        self._shared = False

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach by a temporary secret: a failing ATTACH repeats its own text."""
        host, port = self._address()
        secret = {
            "HOST": self._options.socket or host,
            "PORT": str(port or 5432),
            "USER": self._url.user,
            "PASSWORD": self._password,
            "DATABASE": self._url.path or self._url.user,
        }
        given = ", ".join(f"{name} {literal(value)}" for name, value in secret.items() if value is not None)
        duck.execute(f"CREATE TEMPORARY SECRET source (TYPE postgres, {given})")
        duck.execute(f"ATTACH {literal(self._parameters())} AS {ALIAS} (TYPE postgres, SECRET source, READ_ONLY)")
        return ALIAS

    def _address(self) -> tuple[str | None, int | None]:
        if not self._options.replica:
            return self._url.host, self._url.port
        host, _, port = self._options.replica.partition(":")
        return host, int(port) if port else self._url.port

    def _parameters(self) -> str:
        """What a secret can't carry, in libpq's key=value form."""
        session = {
            "default_transaction_read_only": "on",
            "TimeZone": "UTC",
            "DateStyle": "ISO",
            "IntervalStyle": "postgres",
            "bytea_output": "hex",
            "extra_float_digits": "1",
            "lock_timeout": f"{self._options.lock_timeout}s",
            "statement_timeout": f"{self._options.statement_timeout}s",
            "idle_in_transaction_session_timeout": "0",
        }
        parameters = {
            "connect_timeout": str(self._options.connect_timeout),
            # A server that is cut off in the middle of a reading is noticed in 90 seconds, not in two hours.
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "6",
            "client_encoding": "UTF8",
            "application_name": "runtimedb",
            "sslmode": self._options.sslmode,
            "sslrootcert": self._options.sslrootcert,
            "sslcert": self._options.sslcert,
            "sslkey": self._options.sslkey,
            "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
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
        rows = _ask(duck, alias, RELATIONS.format(chosen="TRUE") + LISTED)
        return discovered([(*row[:5], json.loads(row[5]), json.loads(row[6] or "[]")) for row in rows])

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
        """Lock the table, then take the snapshot and look at the table in it."""
        self._look_around(duck, alias)
        self._lock(duck, alias, qualified(ref.schema_name, ref.table_name))
        chosen = f"n.nspname = {literal(ref.schema_name)} AND c.relname = {literal(ref.table_name)}"
        rows = _ask(duck, alias, BUILT_IN.format(chosen=chosen)) or _ask(
            duck, alias, RELATIONS.format(chosen=chosen) + DESCRIBED
        )
        if not rows:
            raise TableIsGone
        session, pages, plain, columns = rows[0]
        twin = (ref.schema_name.lower(), ref.table_name.lower()) in (self._twins or ())
        large = plain and pages >= PARALLEL_FROM_PAGES and self._shared and not twin
        return Relation(tuple(Column(**column) for column in json.loads(columns)), session, native=large)

    def _lock(self, duck: duckdb.DuckDBPyConnection, alias: str, table: str) -> None:
        statement = literal(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        try:
            duck.execute(f"CALL postgres_execute({literal(alias)}, {statement}, use_transaction = true)")
        except duckdb.Error as error:
            if "does not exist" in str(error):
                raise TableIsGone from None
            if "cannot lock relation" not in str(error):
                raise
            # Materialized views and foreign tables can't be locked; their rewrites are visible to old snapshots.
            duck.execute("ROLLBACK; BEGIN")

    def _look_around(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Find what DuckDB's scan would get wrong here: names that differ by case only, one snapshot for all."""
        if self._twins is None:
            with duck.cursor() as aside:
                self._shared = bool(_ask(aside, alias, SNAPSHOTS)[0][0])
                self._twins = {(row[0], row[1]) for row in _ask(aside, alias, TWINS)}

    def project(self, column: Column) -> Projected:
        """As the server's types demand."""
        base = column.base or column.type
        if self._options.numerics == "text":
            base = re.sub(r"numeric\([^)]*\)", "numeric", base)
        if self._options.arrays == "text" and base.endswith("[]"):
            base = "array as text"
        return project(replace(column, base=base))

    def origin(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        ref: TableRef,
        relation: Relation,
        projection: Sequence[Projected],
        where: str | None,
    ) -> str:
        """DuckDB's scan where it reads every column right, else a query on the server."""
        table = qualified(ref.schema_name, ref.table_name)
        _guard(duck, alias, table, projection, where)
        native = relation.native and where is None and not any(each.remote for each in projection)
        if native and _reads_as_described(duck, alias, ref, projection):
            return attached(alias, ref, None)
        listed = ", ".join(
            f"{each.remote or identifier(each.source_name)} AS {identifier(each.source_name)}" for each in projection
        )
        condition = f" WHERE {where}" if where else ""
        return f"postgres_query({literal(alias)}, {literal(f'SELECT {listed} FROM {table}{condition}')})"

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """DuckDB waits for a query on the server, whatever interrupts it."""
        _ask(duck, alias, f"SELECT pg_cancel_backend({session}) AS cancelled")

    def is_passing(self, error: str) -> bool:
        """A server that is away, starting, full, or a replica that had to go on."""
        return any(sign in error for sign in PASSING)

    def explain(self, error: str) -> str:
        """The server's own words, without what DuckDB and libpq put around them."""
        said = re.findall(r"(?:ERROR|FATAL): +(.*)", error)
        told = said[-1] if said else re.sub(r'^Unable to connect to Postgres at ".*?": ', "", first_line(error))
        for sign, advice in ADVICE.items():
            if sign in error:
                return f"{told}; {advice}"
        return told


def _reads_as_described(
    duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, projection: Sequence[Projected]
) -> bool:
    """Whether DuckDB's own idea of the table, which it may have made before a change, is that of the snapshot."""
    try:
        rows = duck.execute(f"DESCRIBE {attached(alias, ref, None)}").fetchall()
    except duckdb.CatalogException:
        return False
    known = {row[0]: row[1] for row in rows}
    return all(known.get(each.source_name) == each.arrives for each in projection)


def _guard(
    duck: duckdb.DuckDBPyConnection, alias: str, table: str, projection: Sequence[Projected], where: str | None
) -> None:
    """Look on the server, in the snapshot of the read, for values that would not arrive as they are."""
    guarded = [each for each in projection if each.guard]
    if not guarded:
        return
    listed = ", ".join(f"coalesce({each.guard}, false) AS c{i}" for i, each in enumerate(guarded))
    found = " OR ".join(f"({each.guard})" for each in guarded)
    condition = f"({where}) AND ({found})" if where else found
    for row in _ask(duck, alias, f"SELECT {listed} FROM {table} WHERE {condition} LIMIT 1"):
        each = guarded[row.index(True)]
        column = each.column
        raise TypeContractError(f"column {identifier(column.name)} ({column.source_type}): {each.because}")


def _ask(duck: duckdb.DuckDBPyConnection, alias: str, query: str) -> list[tuple[Any, ...]]:
    return duck.execute(f"SELECT * FROM postgres_query({literal(alias)}, {literal(query)})").fetchall()


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


PASSING = (
    "Connection refused", "No such file or directory", "timeout expired", "the database system is",
    "too many clients", "remaining connection slots", "conflict with recovery", "terminating connection",
    "server closed the connection", "could not translate host name", "lock timeout", "SSL SYSCALL",
    "during SSL exchange", "deadlock detected",
)  # fmt: skip

ADVICE = {
    "password authentication failed": "set the right password in the variable of --password-env, or the password_file",
    "no password supplied": "name the variable that holds the password with --password-env",
    "permission denied": "grant SELECT on it, or leave it out with the option exclude",
    "statement timeout": "raise the option statement_timeout",
    "lock timeout": "somebody alters or locks the table; try again, or raise the option lock_timeout",
    "Expected an array with": "its arrays differ in their number of dimensions; set the option arrays=text",
}

# Where DuckDB's connections would share no snapshot: on a replica, and on Amazon's servers, as it believes.
SNAPSHOTS = """
    SELECT NOT pg_catalog.pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name LIKE 'rds%') AS shared
"""

TWINS = """
    SELECT lower(n.nspname) AS schema_name, lower(c.relname) AS table_name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') GROUP BY 1, 2 HAVING count(*) > 1
"""

# `base` is the built-in type of a column's domain, or how a type of the source's own making is read.
RELATIONS = """
    WITH RECURSIVE relation AS (
        SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relpages
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT c.relispartition
            AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND {chosen}
    ), made AS (
        SELECT t.oid, t.typtype, t.typbasetype AS base, t.typtypmod AS modifier, t.typnotnull AS needed, t.typelem,
            t.typndims AS dimensions
        FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
        UNION ALL
        SELECT made.oid, t.typtype, t.typbasetype,
            CASE WHEN made.modifier >= 0 THEN made.modifier ELSE t.typtypmod END, made.needed OR t.typnotnull,
            t.typelem, t.typndims
        FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype = 'd'
    ), domain AS (
        SELECT made.oid, made.base, made.modifier, made.needed FROM made
        JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype <> 'd'
    ), attribute AS (
        SELECT a.attrelid, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
            NOT (a.attnotnull OR coalesce(domain.needed, false)) AS nullable,
            pg_catalog.col_description(a.attrelid, a.attnum) AS comment,
            CASE
                WHEN domain.oid IS NOT NULL AND b.typtype = 'b' AND b.typelem = 0
                    THEN 'domain ' || pg_catalog.format_type(domain.base, domain.modifier)
                WHEN domain.oid IS NOT NULL THEN 'other'
                WHEN b.typtype = 'e' THEN 'enum'
                WHEN b.typcategory = 'A' AND element.typtype = 'e' THEN 'enum[]'
                WHEN b.typcategory = 'A' AND (element.typtype <> 'b' OR n.nspname <> 'pg_catalog') THEN 'other[]'
                WHEN b.typcategory = 'A' AND a.attndims > 1
                    THEN pg_catalog.format_type(a.atttypid, a.atttypmod) || repeat('[]', a.attndims - 1)
                WHEN b.typtype = 'c' THEN 'record ' || (
                    SELECT json_agg(json_build_array(f.attname, pg_catalog.format_type(f.atttypid, f.atttypmod))
                        ORDER BY f.attnum)
                    FROM pg_catalog.pg_attribute f
                    WHERE f.attrelid = b.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
                WHEN b.typtype <> 'b' THEN 'other'
                WHEN n.nspname <> 'pg_catalog' THEN b.typname
            END AS base
        FROM relation JOIN pg_catalog.pg_attribute a ON a.attrelid = relation.oid
        LEFT JOIN domain ON domain.oid = a.atttypid
        JOIN pg_catalog.pg_type b ON b.oid = coalesce(domain.base, a.atttypid)
        LEFT JOIN pg_catalog.pg_type element ON element.oid = b.typelem
        JOIN pg_catalog.pg_namespace n ON n.oid = CASE
            WHEN b.typcategory = 'A' THEN element.typnamespace ELSE b.typnamespace END
        WHERE a.attnum > 0 AND NOT a.attisdropped
    ), listed AS (
        SELECT attrelid, json_agg(json_build_object(
            'name', attname, 'type', type, 'nullable', nullable, 'comment', comment, 'base', base
        ) ORDER BY attnum) AS columns FROM attribute GROUP BY attrelid
    )
"""

LISTED = """
    SELECT relation.nspname::text AS schema_name, relation.relname::text AS table_name,
        CASE relation.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
            WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS kind,
        pg_catalog.obj_description(relation.oid, 'pg_class') AS comment,
        CASE WHEN relation.reltuples >= 0 AND relation.relkind <> 'v' THEN relation.reltuples::bigint END AS rows,
        coalesce(listed.columns, '[]')::text AS columns,
        (SELECT json_agg(a.attname ORDER BY array_position(k.conkey, a.attnum))::text FROM pg_catalog.pg_constraint k
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)
            WHERE k.conrelid = relation.oid AND k.contype = 'p') AS primary_key
    FROM relation LEFT JOIN listed ON listed.attrelid = relation.oid
    ORDER BY 1, 2
"""

# Plain is what has pages of its own, by which DuckDB's scan divides it.
DESCRIBED = """
    SELECT pg_catalog.pg_backend_pid() AS session, relation.relpages AS pages,
        relation.relkind IN ('r', 'm') AS plain,
        coalesce(listed.columns, '[]')::text AS columns
    FROM relation LEFT JOIN listed ON listed.attrelid = relation.oid
"""

# The same for a table of built-in types alone, no row for others: it is planned in half the time, which is most of
# what describing a small table takes.
BUILT_IN = """
    SELECT pg_catalog.pg_backend_pid() AS session, c.relpages AS pages, c.relkind IN ('r', 'm') AS plain,
        coalesce((
            SELECT json_agg(json_build_object(
                'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                'nullable', NOT a.attnotnull, 'comment', pg_catalog.col_description(c.oid, a.attnum)
            ) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ), '[]')::text AS columns
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT c.relispartition AND {chosen} AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (t.typtype <> 'b' OR t.typcategory = 'A' OR t.typnamespace <> 'pg_catalog'::regnamespace))
"""
