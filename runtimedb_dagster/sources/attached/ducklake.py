"""DuckLake, with its catalog in a DuckDB file, an SQLite file or PostgreSQL.

`ducklake:///path/meta.ducklake`, `ducklake+sqlite:///path/meta.sqlite`, `ducklake+postgresql://user@host/database`. A
transaction of DuckDB sees one snapshot of the lake. A catalog in a DuckDB file can't be read while another process has
it open for writing, and one in SQLite can't be written while a table is read; PostgreSQL has neither limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import duckdb
from pydantic import Field

from runtimedb_dagster.common.duck import first_line, lock_holder
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached import ducklake_changes
from runtimedb_dagster.sources.attached.dialect import PlainDialect, Relation, Scan, is_table
from runtimedb_dagster.sources.attached.s3 import S3Options, create_s3_secret, s3_key
from runtimedb_dagster.sources.attached.watch import SSL_REQUEST, Peer, address_of
from runtimedb_dagster.sources.base import Base, Delta, State
from runtimedb_dagster.sources.secrets import redactor
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["DuckLake", "DuckLakeOptions"]

ALIAS = "ducklake"
SQLITE, POSTGRESQL = "ducklake+sqlite", "ducklake+postgresql"
CATALOG_EXTENSIONS = {SQLITE: ("sqlite_scanner",), POSTGRESQL: ("postgres_scanner",)}

# A server that is cut off in the middle of a reading is noticed in 90 seconds, not in two hours.
KEEPALIVES = "keepalives_idle=30 keepalives_interval=10 keepalives_count=6"


class DuckLakeOptions(S3Options):
    """What is particular to DuckLake."""

    data_path: str | None = Field(default=None, description="where the data files are, if not where the catalog says")
    metadata_schema: str | None = Field(default=None, description="schema of the catalog's own tables in PostgreSQL")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="as libpq's, for a catalog in PostgreSQL"
    )
    connect_timeout: int = Field(default=10, ge=1, description="seconds to wait for PostgreSQL")


class DuckLake(PlainDialect):
    """The dialect of a DuckLake."""

    options = DuckLakeOptions

    def __init__(self, url: SourceUrl, options: DuckLakeOptions, password: str | None) -> None:
        """Read the lake whose catalog `url` names."""
        self._url = url
        self._options = options
        self._password = password
        in_store = options.s3_key_id or "://" in (options.data_path or "")
        self.extensions: Sequence[str] = (
            *CATALOG_EXTENSIONS.get(url.scheme, ()),
            *(["httpfs"] if in_store else []),
            "ducklake",
        )

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach by temporary secrets: a failing ATTACH repeats its own text."""
        for statement in self.statements():
            duck.execute(statement)
        return ALIAS

    def statements(self) -> list[str]:
        """What attaches the lake: the secrets of its catalog and of its data, and ATTACH, which holds neither."""
        secrets = self._catalog_secrets() if self._url.scheme == POSTGRESQL else []
        if self._options.s3_key_id:
            secrets.append(create_s3_secret(self._options))
        return [*secrets, f"ATTACH {literal(self._catalog())} AS {ALIAS} ({self._parameters()})"]

    def _catalog(self) -> str:
        if self._url.scheme == POSTGRESQL:
            return "ducklake:lake"
        return f"ducklake:{'sqlite:' if self._url.scheme == SQLITE else ''}{self._url.path}"

    def _parameters(self) -> str:
        # A lake that is not there would be made, even by a reader.
        parameters = ["READ_ONLY", "CREATE_IF_NOT_EXISTS false"]
        if self._options.data_path:
            parameters += [f"DATA_PATH {literal(self._options.data_path)}", "OVERRIDE_DATA_PATH true"]
        if self._options.metadata_schema:
            parameters.append(f"METADATA_SCHEMA {literal(self._options.metadata_schema)}")
        return ", ".join(parameters)

    def options_of_rows(self) -> Mapping[str, str]:
        """Which of a database's lakes it is, and where its files are."""
        chosen = {"metadata_schema": self._options.metadata_schema, "data_path": self._options.data_path}
        return {name: value for name, value in chosen.items() if value}

    def _catalog_secrets(self) -> list[str]:
        given = {
            "HOST": self._url.host,
            "PORT": str(self._url.port or 5432),
            "USER": self._url.user,
            "PASSWORD": self._password,
            "DATABASE": self._url.path or self._url.user,
        }
        listed = ", ".join(f"{name} {literal(value)}" for name, value in given.items() if value is not None)
        # What a secret of PostgreSQL can't carry.
        path = f"sslmode={self._options.sslmode} connect_timeout={self._options.connect_timeout} {KEEPALIVES}"
        database = "METADATA_PARAMETERS MAP {'TYPE': 'postgres', 'SECRET': 'source'}"
        return [
            f"CREATE TEMPORARY SECRET source (TYPE postgres, {listed})",
            f"CREATE TEMPORARY SECRET lake (TYPE ducklake, METADATA_PATH {literal(path)}, {database})",
        ]

    def peer(self) -> Peer | None:
        """The server of the catalog, and the store of the data, where they are known."""
        store = address_of(self._options.s3_endpoint)
        if self._url.scheme == POSTGRESQL and self._url.host:
            return Peer(((self._url.host, self._url.port or 5432),), SSL_REQUEST, store)
        return Peer((), None, store) if store else None

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SourceColumn]:
        """The table in DuckDB's words, unless rows that its catalog holds itself would come back as others."""
        relation = super().describe(duck, alias, ref)
        nested = any("STRUCT" in column.type or "JSON[]" in column.type for column in relation.columns)
        if nested and self._url.scheme in (SQLITE, POSTGRESQL):
            self._require_whole_structs(duck, ref)
        return relation

    def position(self, scan: Scan[SourceColumn]) -> Position | None:
        """The lake's snapshot, and which table it is there."""
        return ducklake_changes.position(scan, self._place()) if is_table(scan) else None

    def delta(self, scan: Scan[SourceColumn], base: Base) -> tuple[Delta, str]:
        """By what the snapshots since the base's did to the table."""
        return ducklake_changes.delta(scan, self._place(), base) if is_table(scan) else super().delta(scan, base)

    def changed(self, scan: Scan[SourceColumn], what: str) -> Scan[SourceColumn]:
        """The rows that were inserted; all of them if nothing is said of them."""
        return replace(scan, origin=what or None, native=False)

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,  # noqa: ARG002 - as the others
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],  # noqa: ARG002
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """All tables at once, by what the snapshots since did."""
        return ducklake_changes.states(duck, self._place(), bases)

    def _place(self) -> str:
        """Where the lake's own tables are."""
        own_schema = self._options.metadata_schema
        return qualified(METADATA, own_schema) if own_schema else identifier(METADATA)

    def _require_whole_structs(self, duck: duckdb.DuckDBPyConnection, ref: TableRef) -> None:
        """Small inserts are kept in the catalog as text, of which DuckDB does not take every struct back.

        Raises:
            TypeContractError: a column holds one.
        """
        place = self._place()
        names = (literal(ref.schema_name), literal(ref.table_name))
        found = duck.execute(INLINED.format(place=place, schema=names[0], table=names[1])).fetchall()
        for inlined, columns in found:
            rows = f"{place}.{identifier(inlined)} WHERE end_snapshot IS NULL"
            for column, type_ in columns.items():
                name = identifier(column)
                lost = f"(contains({name}::VARCHAR, 'CAST(') OR regexp_matches({name}::VARCHAR, {literal(ESCAPED)}))"
                if duck.execute(f"SELECT 1 FROM {rows} AND {lost} LIMIT 1").fetchone():
                    raise TypeContractError(
                        f"column {name} ({type_}) holds, in rows that the lake's catalog keeps itself, values that "
                        "DuckDB does not take back as they were; have the lake write files, with "
                        "`CALL lake.set_option('data_inlining_row_limit', 0)`, and insert these rows again"
                    )

    def is_transient(self, error: str) -> bool:
        """A catalog that somebody writes, or whose server is unavailable."""
        return any(sign in error for sign in TRANSIENT)

    def explain(self, error: str) -> str:
        """What DuckDB's message means, and what to do where that is known."""
        if holder := lock_holder(error):
            return f"{holder} has the catalog open for writing; close it there, or keep the catalog in PostgreSQL"
        for sign, meaning in MEANINGS.items():
            if sign in error:
                return meaning
        found = re.findall(r"(?:ERROR|FATAL): +(.*)", error)
        message = found[-1] if found else _plain(error)
        advice = next((f"; {advice}" for sign, advice in ADVICE.items() if sign in error), "")
        return redactor(s3_key(self._options))(message) + advice


def _plain(error: str) -> str:
    """DuckDB's message without what DuckLake puts before that of the catalog."""
    return re.sub(r'^Failed to attach DuckLake MetaData ".*?" at path \+ ".*?"', "", first_line(error))


METADATA = f"__ducklake_metadata_{ALIAS}"

# Quotation marks and backslashes within a value, and values that are written as casts.
ESCAPED = r"\\|[^ ]''|''[^,}]"
INLINED = """
    SELECT i.table_name, map_from_entries(list((c.column_name, c.column_type)))
    FROM {place}.ducklake_inlined_data_tables i
    JOIN {place}.ducklake_table t USING (table_id) JOIN {place}.ducklake_schema s USING (schema_id)
    JOIN {place}.ducklake_column c USING (table_id)
    WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND c.end_snapshot IS NULL AND c.parent_column IS NULL
        AND c.column_type = 'struct' AND s.schema_name = {schema} AND t.table_name = {table} GROUP BY ALL
"""

TRANSIENT = (
    "Could not set lock", "already attached", "database is locked", "Connection refused", "timeout expired",
    "the database system is", "too many clients", "remaining connection slots", "terminating connection",
    "server closed the connection", "could not translate host name",
)  # fmt: skip

MEANINGS = {
    "database does not exist": "there is no such file",
    "unable to open database file": "there is no such file, or it may not be read",
    "creating a new DuckLake is explicitly disabled": "there is no DuckLake in it; check the database, and the option "
    "metadata_schema",
    "already attached": "this process has the catalog open for writing; close it first",
    "database is locked": "somebody writes the catalog; try again, or keep the catalog in PostgreSQL",
    "requires the extension httpfs": "its data files are in an object store; set the option s3_key_id, or data_path if "
    "they need no key",
}

ADVICE = {
    "password authentication failed": "set the right password in the variable of --password-env, or the password_file",
    "no password supplied": "name the variable that holds the password with --password-env",
    "permission denied": "grant SELECT on the catalog's tables",
    "HTTP 403": "set the options s3_key_id and s3_key_env to a key that may read the data files",
    "No files found that match": "a data file is gone; refresh the table again, or set the option data_path",
}
