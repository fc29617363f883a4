"""PostgreSQL's own regression database: its SQL, run by psql on a server of our own; every value compared as text."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import duckdb
import psycopg
from duckdb.sqltypes import DuckDBPyType

from runtimedb_dagster import RuntimeDB, Settings, Table
from runtimedb_dagster_tests.stress.regress.judge import Judgement, Row, Tongue, judge
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, postgres

__all__ = ["run"]

BINARIES = Path("/usr/lib/postgresql/15/bin")
DATABASE = "regression"
PASSWORD_ENV = "REGRESS_PASSWORD"
FILE_SECONDS = 300
# What each table is read with; a view computes with its login's own settings.
FORMS = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1"
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf(?:inity)?|nan)(?![\w.])", re.IGNORECASE)
BOUNDS = re.compile(r"^(\[-?\d+:-?\d+\])+=")


def run(tests: Path, directory: Path) -> Judgement:
    """Build the database, and judge it."""
    os.environ[PASSWORD_ENV] = PASSWORD
    with postgres(binaries=BINARIES) as server:
        server.run(None, f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        _build(server, tests, directory)
        with RuntimeDB(Settings(home=directory / "home", grace_period=0)) as db:
            db.connect("pg", server.url(DATABASE), password_env=PASSWORD_ENV)
            return judge(db, "pg", Tongue(partial(_source_rows, server), _written, _alike))


def _build(server: Server, tests: Path, directory: Path) -> None:
    """Each file of the schedule in turn; what fails in it fails in PostgreSQL's own run, or lacks its C functions."""
    out = directory / "out"
    for each in ("results", "testtablespace"):
        (out / each).mkdir(parents=True)
    for place in (out, *out.rglob("*")):
        shutil.chown(place, server.run_as or os.getuid())
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": PASSWORD,
        "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": "-c intervalstyle=postgres_verbose",
        "PG_ABS_SRCDIR": str(tests), "PG_ABS_BUILDDIR": str(out), "PG_LIBDIR": str(tests), "PG_DLSUFFIX": ".so",
    }  # fmt: skip
    schedule = (tests / "parallel_schedule").read_text(encoding="utf-8")
    names = [name for line in schedule.splitlines() if line.startswith("test:") for name in line.split()[1:]]
    for name in names:
        command = [str(BINARIES / "psql"), "-X", "-q", "-d", DATABASE, "-f", str(tests / "sql" / f"{name}.sql")]
        subprocess.run(
            command, cwd=out, env=environment, check=False, timeout=FILE_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def _source_rows(server: Server, table: Table) -> list[Row]:
    assert table.version is not None
    listed = ", ".join(_asked(each.name, each.source_type or "") for each in table.version.columns)
    name = f"{_identifier(table.schema_name)}.{_identifier(table.table_name)}"
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        if table.kind != "view":
            cursor.execute(FORMS)
        try:
            with cursor.copy(f"COPY (SELECT {listed} FROM {name}) TO STDOUT") as copied:
                return [tuple(row) for row in copied.rows()]
        except psycopg.Error as error:
            return [(f"{type(error).__name__}: {error}",)]


def _asked(name: str, source_type: str) -> str:
    """A column, by its type's output function; where that and the cast to text differ, by the cast."""
    if not source_type.startswith(("inet", "character(", "bpchar")):
        return _identifier(name)
    return f"{_identifier(name)}::text" + ("[]" if source_type.endswith("[]") else "")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _written(name: str, type_: str, source_type: str) -> str:
    """SQL of DuckDB that writes a value as PostgreSQL's output function does."""
    return _text(_identifier(name), duckdb.sqltype(type_), ";" if source_type.startswith("box[") else ",")


def _text(value: str, type_: DuckDBPyType, delimiter: str = ",", depth: int = 0) -> str:
    if type_.id == "list":
        return _array(value, type_, delimiter, depth)
    if type_.id == "struct":
        fields = [_field(f"struct_extract({value}, {_literal(name)})", each) for name, each in _children(type_)]
        return f"CASE WHEN {value} IS NOT NULL THEN '(' || {' || chr(44) || '.join(fields)} || ')' END"
    plain = f"{value}::VARCHAR"
    if type_.id == "boolean":
        return f"CASE {value} WHEN true THEN 't' WHEN false THEN 'f' END"
    if type_.id == "blob":
        return f"'\\x' || lower(hex({value}))"
    if type_.id in ("date", "timestamp", "timestamp with time zone"):
        return rf"regexp_replace({plain}, '^(.*) \(BC\)(.*)$', '\1\2 BC')"
    return plain


def _children(type_: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, child) for name, child in type_.children if isinstance(child, DuckDBPyType)]


def _array(value: str, type_: DuckDBPyType, delimiter: str, depth: int) -> str:
    element, ((_, child),) = f"e{depth}", _children(type_)
    text = f"({_text(element, child, delimiter, depth + 1)})"
    if child.id != "list":
        special = rf"lower({text}) = 'null' OR {text} = '' OR regexp_matches({text}, '[{{}}\"\\\s{delimiter}]')"
        text = (
            f"CASE WHEN {text} IS NULL THEN 'NULL' WHEN {special} THEN {_in_quotes(text, BACKSLASHED)} ELSE {text} END"
        )
    return f"'{{' || array_to_string(list_transform({value}, lambda {element}: {text}), '{delimiter}') || '}}'"


def _field(value: str, type_: DuckDBPyType) -> str:
    text = f"({_text(value, type_)})"
    special = rf"{text} = '' OR regexp_matches({text}, '[()\",\\\s]')"
    return f"CASE WHEN {text} IS NULL THEN '' WHEN {special} THEN {_in_quotes(text, DOUBLED)} ELSE {text} END"


BACKSLASHED, DOUBLED = r"\"", '""'


def _in_quotes(text: str, quote: str) -> str:
    return rf"""'"' || replace(replace({text}, '\', '\\'), '"', '{quote}') || '"'"""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _alike(value: str | None, table: Table, place: int) -> str | None:
    """Without an array's bounds, and numbers of binary fractions by their value."""
    assert table.version is not None
    if value is None or place >= len(table.version.columns):
        return value
    column = table.version.columns[place]
    if "[]" in column.type:
        value = BOUNDS.sub("", value)
    if "DOUBLE" in column.type or "FLOAT" in column.type:
        value = NUMBER.sub(lambda found: repr(float(found[0])), value)
    return value
