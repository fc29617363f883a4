"""The pages docs/types.md and docs/options.md, made from the code itself: `make docs`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from pydantic import BaseModel

from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.sources.attached import projection
from runtimedb_dagster.sources.attached.mysql import types as mysql_types
from runtimedb_dagster.sources.attached.mysql.types import MySQLColumn
from runtimedb_dagster.sources.attached.postgresql import types as postgresql_types
from runtimedb_dagster.sources.attached.postgresql.types import Form, PostgreSQLColumn
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.sqlite import types as sqlite_types
from runtimedb_dagster.sources.attached.sqlite.types import SQLiteColumn
from runtimedb_dagster.sources.registry import DIALECTS

__all__ = ["PAGES"]

INTRODUCTION = """\
# What becomes of each type

Every column is **exact**, or **declared**: what is different in the version is said here and in the version's own
metadata. A value without an exact form fails the refresh of its table, by the column's name. This page is made from
the code (`make docs`); a test keeps it true. The text below a table says what fails.
"""

DUCKDB = (
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "UHUGEINT", "BIGNUM", "FLOAT", "DOUBLE", "DECIMAL(18,3)", "VARCHAR", "JSON", "ENUM('a', 'b')", "BIT", "BLOB",
    "UUID", "DATE", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
    "TIMESTAMP WITH TIME ZONE", "INTERVAL", "INTEGER[]", "INTEGER[3]", "STRUCT(a INTEGER, b HUGEINT)",
    "MAP(VARCHAR, INTEGER)", "GEOMETRY", "UNION(a INTEGER, b VARCHAR)",
)  # fmt: skip
POSTGRESQL = (
    "boolean", "smallint", "integer", "bigint", "oid", "real", "double precision", "numeric(10,2)", "numeric(5,-2)",
    "numeric(2,5)", "numeric", "numeric(50,2)", "money", "text", "character varying(20)", "character(5)", '"char"',
    "name", "json", "jsonb", "uuid", "date", "timestamp without time zone", "timestamp with time zone",
    "time without time zone", "time with time zone", "interval", "bytea", "inet", "cidr", "macaddr", "xml", "bit(3)",
    "tsvector", "int4range", "point", "integer[]", "text[]", "numeric(10,2)[]", "numeric[]", "jsonb[]", "bytea[]",
    "interval[]",
)  # fmt: skip
MADE = {
    "an enum": Form("enum"),
    "an array of an enum": Form("enum", dimensions=1),
    "a composite type (integer, numeric(10,2))": Form("composite", fields=(("a", "integer"), ("b", "numeric(10,2)"))),
    "a composite type with an interval": Form("composite", fields=(("a", "interval"),)),
    "an array of a composite type": Form("other", dimensions=1),
    "a domain over integer": Form("domain", "integer"),
    "a domain over an array": Form("other"),
    "PostGIS geometry (not tried: no such server here)": Form("extension", "geometry"),
}
MYSQL = (
    "tinyint(1)", "tinyint(4)", "tinyint(3) unsigned", "smallint(6)", "mediumint(9)", "int(11)", "int(10) unsigned",
    "bigint(20)", "bigint(20) unsigned", "float", "double", "decimal(10,2)", "decimal(65,30)", "bit(3)", "char(5)",
    "varchar(20)", "longtext", "enum('a','b')", "set('a','b')", "json", "uuid", "inet4", "inet6", "date", "datetime(6)",
    "timestamp(6)", "time(6)", "year(4)", "binary(4)", "varbinary(20)", "longblob", "geometry",
)  # fmt: skip
SQLITE = (
    "INTEGER", "BIGINT", "BOOLEAN", "REAL", "DOUBLE", "NUMERIC", "DECIMAL(10,2)", "TEXT", "VARCHAR(20)", "BLOB", "DATE",
    "DATETIME", "TIMESTAMP", "TIMESTAMPTZ", "TIME", "JSON", "UUID", "",
)  # fmt: skip

NOTES = {
    "DuckDB, MotherDuck, DuckLake, Iceberg": """\
Fail: a `HUGEINT` beyond 38 digits; the time 24:00:00, which Parquet's day does not have.""",
    "PostgreSQL": """\
Fail: `NaN` in a `numeric(p,s)` (or `numerics=text`, which keeps every numeric as exact text); the time 24:00:00; an
instant after 294247-01-10; arrays whose number of dimensions differs from row to row (or `arrays=text`). BC dates and
infinity are kept. Trailing blanks of `character(n)` are not part of its value, and do not come along.

PostgreSQL 15's own regression database (`make regress`): 474 relations with 2,370 columns and 417,277 rows came
through exact, every value compared as text; 10 were refused by name (5 without columns, 4 hidden by row-level
security, one with `NaN` in a `numeric(p,s)`); none came out as something else.""",
    "MySQL and MariaDB": """\
Fail: a `tinyint(1)` that holds something else than 0 and 1 (or `tinyint1=int8`); dates with a zero month or day (or
`zero_dates=null`, which is declared); types that are unknown here. MariaDB's `json` is `longtext` by its own word.

The tables of MariaDB 10.11's main test suite (`make regress`), each file in a database of its own: 2,540 relations
with 5,982 columns and 27,329,285 rows came through exact, every value compared as text; 83 were refused by name (54 of
which the server itself can't read, 22 zero dates); 4 views differ from one look at the source to the next; none came
out as something else.""",
    "SQLite": """\
SQLite keeps any value in any column; a value that does not fit its column's declared type fails (or `as_text=…`,
which keeps the columns of its patterns as text, whatever they hold). Dates and times are ISO text; a column without a
type has the type of the values that it holds now, or fails if they are mixed. A `NUMERIC` is a double, as SQLite stores
it, so integers in it beyond 2^53 fail.""",
}


def types() -> str:
    """What becomes of each type, in Markdown."""
    made = [(name, PostgreSQLColumn("c", name, made_of=form)) for name, form in MADE.items()]
    built_in = [(name, PostgreSQLColumn("c", name)) for name in POSTGRESQL]
    sections = [
        _section("DuckDB, MotherDuck, DuckLake, Iceberg", _of(projection.project, SourceColumn, DUCKDB)),
        _section("PostgreSQL", [(name, partial(postgresql_types.project, column)) for name, column in built_in + made]),
        _section("MySQL and MariaDB", _of(mysql_types.project, MySQLColumn, MYSQL)),
        _section("SQLite", _of(sqlite_types.project, SQLiteColumn, SQLITE)),
    ]
    return "\n".join([INTRODUCTION, *sections])


def _of(
    project: Callable[[Any], Projected], column: Callable[[str, str], SourceColumn], types: Sequence[str]
) -> list[tuple[str, Callable[[], Projected]]]:
    return [(name or "(none)", partial(project, column("c", name))) for name in types]


def _section(title: str, columns: Sequence[tuple[str, Callable[[], Projected]]]) -> str:
    rows = [_row(name, project) for name, project in columns]
    head = "| type | in the version | Arrow | |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}", head, *rows, "", NOTES[title], ""])


def _row(name: str, project: Callable[[], Projected]) -> str:
    shown = name if name in MADE else f"`{name}`"
    try:
        kept = project().column
    except TypeContractError:
        return f"| {shown} | refused by name | | |"
    arrow = _arrow(kept.type)
    return f"| {shown} | `{kept.type}` | `{arrow}` | {'declared' if kept.declared else 'exact'} |"


def _arrow(duckdb_type: str) -> str:
    """The type that pyarrow finds in a file that DuckDB wrote."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as duck:
        duck.execute(f"COPY (SELECT CAST(NULL AS {duckdb_type}) AS c) TO '{file.name}' (FORMAT parquet)")
        return str(pq.read_schema(file.name).field("c").type)


OPTIONS = """\
# The options of a connection

Given with `runtimedb connect … --option name=value` (also behind the `?` of the URL), changed with `runtimedb
configure`. Lists have commas between their entries, or are JSON; times are seconds. This page is made from the code
(`make docs`); a test keeps it true.
"""

OWN = {
    "PostgreSQL": "postgresql",
    "MySQL and MariaDB": "mysql",
    "SQLite": "sqlite",
    "DuckLake": "ducklake",
    "Iceberg": "iceberg+https",
}


def options() -> str:
    """Every option of every source, in Markdown."""
    sections: list[tuple[str, type[BaseModel]]] = [("Every connection", ConnectionOptions)]
    sections += [(title, DIALECTS[scheme].options) for title, scheme in OWN.items()]
    return "\n".join([OPTIONS, *(_options(title, model) for title, model in sections)])


def _options(title: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_shown(field.default)} | {field.description} |" for name, field in model.model_fields.items()
    ]
    return "\n".join([f"## {title}", "| option | default | |\n| --- | --- | --- |", *rows, ""])


def _shown(default: object) -> str:
    return "" if default in (None, (), "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"


PAGES = {"types.md": types, "options.md": options}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")
