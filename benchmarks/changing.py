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
        change(direct, int(changed))
        started = perf_counter()
        result = db.refresh_connection("source")
        seconds = perf_counter() - started
        if result.tables_failed or result.tables_refreshed - result.tables_unchanged != int(changed):
            raise SystemExit(f"not {changed} tables changed: {result}")
        return seconds


def change(url: str, tables: int) -> None:
    """Change a row of so many of the small tables, and of one that nobody follows: else the whole server is idle."""
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(tables):
            connection.execute(f"UPDATE t{number:05} SET a = a + 1 WHERE id = 3".encode())
        connection.execute("CREATE SCHEMA IF NOT EXISTS elsewhere")
        connection.execute("COMMENT ON SCHEMA elsewhere IS 'where nobody looks'")


def losing(url: str, rows: str) -> None:
    """A table that is followed while it changes, as the peers' scripts have it."""
    from benchmarks.peer_scripts.writers import follow

    with opened() as db:

        def refresh() -> None:
            if not db.connections():
                connect_to(db, url, "followed_ours")
            _outcome(db, "followed_ours", full=False)

        def held() -> dict[int, str]:
            with db.query() as query:
                return dict(query.sql("SELECT id, l_comment FROM source.public.followed_ours").fetchall())

        follow(url, "followed_ours", int(rows), refresh, held)


def month(direct: str, url: str, refreshes: str) -> None:
    """So many refreshes after one row in a thousand was updated, and what became of the files."""
    from runtimedb_dagster.query.live import live_rows

    count, files, folded, written = int(refreshes), 0, 0, [0]
    with opened() as db, psycopg.connect(direct, autocommit=True) as connection:
        connect_to(db, url, "month")
        first = _outcome(db, "month", full=False).version
        started = perf_counter()
        for turn in range(count):
            some = f"(l_orderkey * 7919 + l_linenumber) % 1000 = {turn % 1000}"
            connection.execute(f"UPDATE month SET l_tax = {turn} WHERE {some}".encode())
            outcome = _outcome(db, "month", full=False)
            files = max(files, len(outcome.version.files))
            written.append(written[-1] + outcome.facts.bytes_written)
            folded += outcome.facts.rows_folded
        seconds = perf_counter() - started
        with db.engine.reader.stored() as duck:
            parts = " UNION ALL ".join(live_rows(outcome.version.files, db.engine.storage.location))
            file = db.settings.home / "whole.parquet"
            duck.execute(f"COPY ({parts}) TO '{file}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)")
            scan = _scan(duck, f"({parts})") / _scan(duck, f"'{file}'")
    quarters = [written[count * quarter // 4] / first.bytes for quarter in (1, 2, 3, 4)]
    said = (
        f"at most {files} files; a whole scan takes {scan:.2f} of one file's; after each quarter "
        f"{', '.join(f'{each:.2f}' for each in quarters)} times the first file's bytes were written, and "
        f"{folded / first.rows:.2f} times its rows folded"
    )
    figures = {"files": files, "scan": scan, "growth": quarters[3] / quarters[0] / 4}
    print(json.dumps({"seconds": seconds, "said": said, "figures": figures}))


def _scan(duck: object, relation: str) -> float:
    """The best of three whole scans."""
    best = float("inf")
    for _ in range(3):
        started = perf_counter()
        duck.execute(f"SELECT sum(hash(COLUMNS(*))) FROM {relation}").fetchall()  # type: ignore[attr-defined]
        best = min(best, perf_counter() - started)
    return best


COMMANDS: dict[str, Callable[..., float]] = {"refresh": refresh, "tables": tables}
# These say more than their seconds.
SAYING: dict[str, Callable[..., None]] = {"losing": losing, "month": month}

if __name__ == "__main__":
    name, *given = sys.argv[1:]
    if name in SAYING:
        SAYING[name](*given)
    else:
        print_seconds(COMMANDS[name](*given))
