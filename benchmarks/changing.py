"""As ours.py, for refreshes of what changed: the home in BENCH_HOME is kept between them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import perf_counter

import psycopg

from benchmarks.ours import connect_to, opened, print_seconds
from runtimedb_dagster import RefreshRequest, RuntimeDB
from runtimedb_dagster.domain.outcomes import Published, Unchanged

# By what is done to one row in a thousand before; each time to others.
CHANGES = {
    "full": "",
    "idle": "",
    # Else the server itself is unchanged, which takes no look at the table.
    "unchanged": "UPDATE elsewhere SET turn = {turn}",
    "appended": "INSERT INTO changing SELECT 10000000 + {turn} * 10000000 + row_number() OVER () AS l_orderkey, {rest} "
    "FROM (SELECT * FROM changing LIMIT (SELECT reltuples / 1000 FROM pg_class WHERE relname = 'changing')::int) t",
    "scattered": "UPDATE changing SET l_comment = left(l_comment, 20) || '{turn}' "
    "WHERE (l_orderkey * 7919 + l_linenumber) % 1000 = {turn}",
    "deleted": "DELETE FROM changing WHERE (l_orderkey * 7919 + l_linenumber) % 1000 = 500 + {turn}",
}


def refresh(direct: str, url: str, what: str, turns: str) -> float:
    """A refresh of `changing` after one kind of change, through `url`; the change itself is made directly."""
    turn = _next(turns)
    with psycopg.connect(direct, autocommit=True) as connection:
        found = connection.execute(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute "
            "WHERE attrelid = 'changing'::regclass AND attnum > 1 AND NOT attisdropped"
        ).fetchone()
        if statement := CHANGES[what]:
            connection.execute(statement.format(turn=turn, rest=found and found[0]).encode())
    with opened() as db:
        if not db.connections():
            connect_to(db, url, "changing")
            _outcome(db, full=False)
        started = perf_counter()
        outcome = _outcome(db, full=what == "full")
        seconds = perf_counter() - started
        mode = "full" if what == "full" else "unchanged" if what in ("idle", "unchanged") else "changes"
        if outcome.facts.mode != mode:
            raise SystemExit(f"it was read in another way than by {mode}: {outcome.facts}")
        return seconds


def _next(turns: str) -> int:
    with open(turns, "a+", encoding="utf-8") as file:  # noqa: PTH123 - read and extended at once
        file.seek(0)
        turn = len(file.read())
        file.write(".")
        return turn


def _outcome(db: RuntimeDB, table: str = "changing", *, full: bool) -> Published | Unchanged:
    request = RefreshRequest("source", "public", table, data=True, full=full)
    (outcome,) = [event for event in db.events(request) if isinstance(event, Published | Unchanged)]
    return outcome


def tables(direct: str, url: str, changed: str) -> float:
    """A refresh of many small tables of which so many changed."""
    with opened() as db:
        if not db.connections():
            connect_to(db, url, "*")
            db.refresh_connection("source")
        with psycopg.connect(direct, autocommit=True) as connection:
            for number in range(int(changed)):
                connection.execute(f"UPDATE t{number:05} SET a = a + 1 WHERE id = 3".encode())
        started = perf_counter()
        result = db.refresh_connection("source")
        seconds = perf_counter() - started
        if result.tables_failed or result.tables_refreshed - result.tables_unchanged != int(changed):
            raise SystemExit(f"not {changed} tables changed: {result}")
        return seconds


def month(direct: str, url: str, refreshes: str) -> float:
    """So many refreshes after one row in a thousand was updated; says what became of the files besides."""
    from runtimedb_dagster.query.live import live_rows

    most = written = folded = 0
    with opened() as db, psycopg.connect(direct, autocommit=True) as connection:
        connect_to(db, url, "month")
        first = _outcome(db, "month", full=False).version
        started = perf_counter()
        for turn in range(int(refreshes)):
            some = f"(l_orderkey * 7919 + l_linenumber) % 1000 = {turn % 1000}"
            connection.execute(f"UPDATE month SET l_tax = {turn} WHERE {some}".encode())
            outcome = _outcome(db, "month", full=False)
            most = max(most, len(outcome.version.files))
            written, folded = written + outcome.facts.bytes_written, folded + outcome.facts.rows_folded
        seconds = perf_counter() - started
        version = outcome.version
        whole = version.files[0]
        with db.engine.reader.stored() as duck:
            parts = " UNION ALL ".join(live_rows(version.files, db.engine.storage.location))
            file = db.settings.home / "whole.parquet"
            duck.execute(f"COPY ({parts}) TO '{file}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)")
            scans = [_scan(duck, f"({parts})"), _scan(duck, f"'{file}'")]
        about = {"files": most, "written": written, "folded": folded, "rows": version.rows, "bytes": first.bytes}
        print(json.dumps(about | {"scan": scans[0] / scans[1], "oldest": whole.rows}), file=sys.stderr)
        return seconds


def _scan(duck: object, relation: str) -> float:
    """The best of three whole scans."""
    best = float("inf")
    for _ in range(3):
        started = perf_counter()
        duck.execute(f"SELECT sum(hash(COLUMNS(*))) FROM {relation}").fetchall()  # type: ignore[attr-defined]
        best = min(best, perf_counter() - started)
    return best


COMMANDS: dict[str, Callable[..., float]] = {"refresh": refresh, "tables": tables, "month": month}

if __name__ == "__main__":
    name, *given = sys.argv[1:]
    print_seconds(COMMANDS[name](*given))
