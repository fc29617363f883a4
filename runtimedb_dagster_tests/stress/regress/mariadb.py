"""The tables of MariaDB's main test suite, each file in a database of its own; every value compared as text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pymysql

from runtimedb_dagster import RuntimeDB, Settings, Table
from runtimedb_dagster_tests.stress.regress.judge import Judgement, Row, Tongue, judge
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, mariadb

__all__ = ["run", "statements"]

PASSWORD_ENV = "REGRESS_PASSWORD"
# What makes a table or fills it. Users, servers, events and the like are of the server, not of a database.
WANTED = re.compile(
    r"\s*(CREATE\s+(OR\s+REPLACE\s+)?(TABLE|VIEW|SEQUENCE|FUNCTION|ALGORITHM|SQL\s+SECURITY)\b|INSERT\b|REPLACE\b"
    r"|ALTER\s+(TABLE|VIEW|SEQUENCE)\b)",
    re.IGNORECASE,
)
DELIMITER = re.compile(r"\s*(?:--\s*)?delimiter\s+(\S+?);?\s*$", re.IGNORECASE)
SECONDS = 20
TRAILING_ZEROS = re.compile(r"(\.\d*?)0+$")


def run(tests: Path, directory: Path) -> Judgement:
    """Make the databases, and judge them."""
    os.environ[PASSWORD_ENV] = PASSWORD
    with mariadb("--plugin-maturity=unknown") as server:
        for file in sorted(tests.glob("*.test")):
            _build(server, file)
        with RuntimeDB(Settings(home=directory / "home", grace_period=0)) as db:
            url = f"mysql://{server.user}@127.0.0.1:{server.port}/"
            db.connect("maria", url, options={"discovery_timeout": 600}, password_env=PASSWORD_ENV)
            return judge(db, "maria", Tongue(partial(_source_rows, server), _written, _alike))


def statements(text: str) -> Iterator[str]:
    """The statements of a file in the language of mysqltest that make tables or fill them."""
    delimiter, statement = ";", ""
    for line in text.splitlines():
        if not statement.strip() and (found := DELIMITER.match(line)):
            delimiter = found[1]
        elif not statement.strip() and line.lstrip().startswith(("#", "--")):
            continue
        else:
            statement += line + "\n"
            if line.rstrip().endswith(delimiter):
                done = statement.rstrip().removesuffix(delimiter)
                if WANTED.match(done) and "$" not in done and "mysql." not in done.lower():
                    yield done
                statement = ""


def _build(server: Server, file: Path) -> None:
    """What fails fails in MariaDB's own run, or needs a statement that was left out."""
    database = "t_" + re.sub(r"\W", "_", file.stem)[:60]
    server.run(None, f"CREATE DATABASE `{database}`")
    connection = server.connect(database)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(f"SET max_statement_time = {SECONDS}, lock_wait_timeout = {SECONDS}")
        for statement in statements(file.read_text(encoding="utf-8", errors="replace")):
            try:
                cursor.execute(statement)
                while cursor.nextset():
                    pass
            except pymysql.err.OperationalError as error:
                if error.args[0] in (2006, 2013):
                    raise RuntimeError(f"{file.name}: the server ended at {statement[:200]}") from error
            except (pymysql.err.MySQLError, UnicodeError):
                continue


def _source_rows(server: Server, table: Table) -> list[Row]:
    assert table.version is not None
    listed = ", ".join(_asked(each.name, each.source_type or "") for each in table.version.columns)
    name = f"`{_escaped(table.schema_name)}`.`{_escaped(table.table_name)}`"
    connection = server.connect(table.schema_name)
    with closing(connection), connection.cursor() as cursor:
        if table.kind != "view":
            cursor.execute("SET time_zone = '+00:00'")
        try:
            cursor.execute(f"SELECT {listed} FROM {name}")
            return [tuple(map(_plain, row)) for row in cursor.fetchall()]
        except pymysql.err.MySQLError as error:
            return [(f"{type(error).__name__}: {error}",)]


def _plain(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.hex().upper()
    return None if value is None else str(value)


def _asked(name: str, source_type: str) -> str:
    """SQL of MariaDB's that tells a value as text of ASCII."""
    value, kind = f"`{_escaped(name)}`", source_type.lower()
    if kind.startswith(("float", "double")):
        return f"CAST({value} AS DOUBLE)"
    if kind.startswith("bit"):
        return f"LPAD(BIN({value} + 0), {re.sub(r'[^0-9]', '', kind) or 1}, '0')"
    if kind.startswith(GEOMETRIES):
        return f"HEX(ST_AsWKB({value}))"
    if "binary" in kind or "blob" in kind:
        return value  # a function's result has an end
    if kind.startswith(TEXTS):
        return f"HEX(CONVERT({value} USING utf8mb4))"
    return f"CAST({value} AS CHAR)"


GEOMETRIES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
)  # fmt: skip
TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json")


def _written(name: str, type_: str, source_type: str) -> str:
    """The same in DuckDB's SQL, of a version's column."""
    value, kind = '"' + name.replace('"', '""') + '"', source_type.lower()
    if type_ == "GEOMETRY":
        return f"hex(ST_AsWKB({value}))"
    if type_ == "BOOLEAN":
        return f"{value}::INTEGER::VARCHAR"
    if type_ == "BLOB":
        return f"hex({value})"
    if type_ == "FLOAT":
        return f"{value}::DOUBLE::VARCHAR"
    if kind.startswith(TEXTS) and not kind.startswith("bit"):
        return f"hex(encode({value}::VARCHAR))"
    return f"{value}::VARCHAR"


def _alike(value: str | None, table: Table, place: int) -> str | None:
    """Numbers by their value, times without trailing zeros and without the zone, which is UTC."""
    assert table.version is not None
    if value is None or place >= len(table.version.columns):
        return value
    column = table.version.columns[place]
    if column.type in ("FLOAT", "DOUBLE"):
        return repr(float(value))
    if column.type.endswith("INTEGER") or column.type.endswith("INT"):
        return str(int(value))
    if column.type.startswith("TIMESTAMP"):
        value = value.removesuffix("+00")
        return TRAILING_ZEROS.sub(r"\1", value).removesuffix(".") if "." in value else value
    if (column.source_type or "").lower().startswith("time") and "." in value:
        return TRAILING_ZEROS.sub(r"\1", value).removesuffix(".")
    return value


def _escaped(name: str) -> str:
    return name.replace("`", "``")
