"""What each peer, and RuntimeDB, makes of values that are hard to keep: a small table for each kind."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Side
from benchmarks.peers import Peer
from benchmarks.world import PASSWORD, World
from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster_tests.support.parts import path_of
from runtimedb_dagster_tests.support.servers import Server

__all__ = ["verdicts"]

# A table per kind, so that one that fails does not hide the others: its type, and its values in SQL.
POSTGRESQL = {
    "decimal_15": ("numeric(15,2)", "'0.10'", "'9999999999999.99'", "NULL"),
    "decimal_38": ("numeric(38,10)", "'1234567890123456789012345678.0123456789'", "'-0.0000000001'", "NULL"),
    "decimal_any": ("numeric", "'123456789012345678901234567890123.000000000012345'", "'1e-20'", "NULL"),
    "bigint_null": ("bigint", "9223372036854775807", "-9223372036854775807", "NULL"),
    "time_stamp": ("timestamp", "'2024-02-29 23:59:59.123456'", "'0001-01-01 00:00:00.000001'", "NULL"),
    "instant": ("timestamptz", "'2024-02-29 23:59:59.123456+05:45'", "'9999-12-30 23:59:59.999999+00'", "NULL"),
    "text_null": ("text", "''", "U&'tab\\0009 and \\+01F600'", "NULL"),
}
MARIADB = {
    "decimal_15": ("decimal(15,2)", "'0.10'", "'9999999999999.99'", "NULL"),
    "decimal_38": ("decimal(38,10)", "'1234567890123456789012345678.0123456789'", "'-0.0000000001'", "NULL"),
    "decimal_65": ("decimal(65,10)", "'12345678901234567890123456789012345678901234567890.0123456789'", "'1'", "NULL"),
    "bigint_unsigned": ("bigint unsigned", "18446744073709551615", "0", "NULL"),
    "time_stamp": ("datetime(6)", "'2024-02-29 23:59:59.123456'", "'1000-01-01 00:00:00.000001'", "NULL"),
    "text_null": ("text", "''", "'tab\\t and \\U0001F600'", "NULL"),
}
KINDS = {"postgresql": POSTGRESQL, "mysql": MARIADB}


def verdicts(world: World, server: Server, peers: Sequence[Peer]) -> dict[str, str]:
    """What is wrong with each peer's output, by its name; `exact` where nothing is."""
    kinds, database = KINDS[server.scheme], "hard"
    server.run(None, f"CREATE DATABASE {database}")
    for name, (kind, *values) in kinds.items():
        rows = ", ".join(f"({number}, {_written(value)})" for number, value in enumerate(values, start=1))
        server.run(database, f"CREATE TABLE {name} (id integer, v {kind})", f"INSERT INTO {name} VALUES {rows}")
    expected = {name: _expected(server, database, name) for name in kinds}
    with tempfile.TemporaryDirectory(dir=world.directory) as out:
        said = {"RuntimeDB": _of_ours(world.url(server, database), Path(out) / "ours", expected)}
        for peer in peers if world.peers else ():
            said[peer.name] = _of_peer(peer, world.url(server, database), Path(out), expected)
    return said


def _written(value: str) -> str:
    return value.replace("\\U0001F600", "\N{GRINNING FACE}")


def _expected(server: Server, database: str, table: str) -> list[str | None]:
    """The values in the source's own words."""
    cast = "v::text" if server.scheme == "postgresql" else "CAST(v AS char)"
    setup = ["SET TimeZone = 'UTC'"] if server.scheme == "postgresql" else []
    return [row[0] for row in server.run(database, *setup, f"SELECT {cast} FROM {table} ORDER BY id")]


def _of_ours(url: str, home: Path, expected: dict[str, list[str | None]]) -> str:
    os.environ["BENCH_PASSWORD"] = PASSWORD
    with RuntimeDB(Settings(home=home)) as db:
        db.connect("hard", url.replace(f":{PASSWORD}@", "@"), password_env="BENCH_PASSWORD")
        db.refresh(RefreshRequest("hard", data=True))
        files = {table.table_name: f"{home}/storage/{path_of(table.version)}" for table in db.tables() if table.version}
    said = {name: _compared(files.get(name), wanted) for name, wanted in expected.items()}
    return _verdict({name: "as text, declared" if what == "as text" else what for name, what in said.items()})


def _of_peer(peer: Peer, url: str, out: Path, expected: dict[str, list[str | None]]) -> str:
    side = peer.side(url, out)
    if side.missing:
        return ""
    errors = _errors(side, list(expected))
    if len(set(errors.values())) == 1 and errors.keys() == expected.keys():
        return ""  # it does not run at all, which its figures say
    folder, said = Path(side.command[-1]), {}
    for name, wanted in expected.items():
        found = next((file for file in folder.rglob("*.parquet") if name in {file.stem, file.parent.name}), None)
        said[name] = f"fails ({errors[name][:120]})" if name in errors else _compared(found, wanted)
    return _verdict(said)


def _errors(side: Side, tables: list[str]) -> dict[str, str]:
    """Have the peer read tables: what failed, by table. Where it crashes, one by one."""
    done = subprocess.run(
        [*side.command, *tables], env={**os.environ, **side.environment}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    try:
        errors: dict[str, str] = json.loads(done.stdout.splitlines()[-1])["errors"]
    except (IndexError, ValueError):
        if len(tables) > 1:
            return {name: error for table in tables for name, error in _errors(side, [table]).items()}
        panic = next((line for line in done.stderr.splitlines() if "panicked" in line or "rror" in line), "")
        return {tables[0]: f"the process ends with {done.returncode}: {panic.partition(' at /')[0].strip()[:80]}"}
    return errors


def _verdict(said: dict[str, str | None]) -> str:
    return "; ".join(f"{name} {what}" for name, what in said.items() if what) or "exact"


def _compared(file: Path | str | None, wanted: list[str | None]) -> str | None:
    """What is different in a file; None if nothing is."""
    if file is None:
        return "leaves no file"
    try:
        # pyarrow: DuckDB makes a DOUBLE of the decimals of 256 bits that some write.
        column = pq.ParquetFile(file).read().sort_by("id").column("v")
        values = column.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        return f"can't be read back ({str(error).splitlines()[0][:80]})"
    kind = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
    for value, source in zip(values, wanted, strict=False):
        if (value is None) != (source is None):
            return f"has {value!r} for {source!r}"
        if value is not None and _plain(value) != _plain(source):
            return f"has {value!s:.60} ({kind}) for {source}"
    if len(values) != len(wanted):
        return f"has {len(values)} rows of {len(wanted)}"
    return "as text" if "string" in str(kind) and not isinstance(_plain(wanted[0]), str) else None


def _plain(value: Any) -> Any:
    """A value by which what looks different, but is the same, can be compared."""
    if isinstance(value, float):
        return Decimal(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, str):
        with suppress(InvalidOperation):
            return Decimal(value)
        with suppress(ValueError):
            return _plain(datetime.fromisoformat(value + ":00" if value.endswith("+00") else value))
    return Decimal(value) if isinstance(value, int) else value
