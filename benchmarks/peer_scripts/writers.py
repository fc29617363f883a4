"""What happens to a source between two refreshes, for whoever follows it; runs where its follower runs."""

import json
import statistics
from collections.abc import Callable
from time import perf_counter

import psycopg2

ROUNDS = 3

FILL = """
    CREATE TABLE {table} AS SELECT row_number() OVER () AS id, l.*, now() AS updated_at FROM lineitem l LIMIT {rows};
    ALTER TABLE {table} ADD PRIMARY KEY (id);
    CREATE INDEX ON {table} (updated_at);
"""
# Some begin early and commit late: their time is that of their begin.
BEGIN_LATE = "UPDATE {table} SET l_comment = 'late {turn}', updated_at = now() WHERE id % 5000 = {turn} AND id <= 50000"
CHANGE = """
    UPDATE {table} SET l_comment = 'changed {turn}', updated_at = clock_timestamp() WHERE id % 1000 = 100 + {turn};
    DELETE FROM {table} WHERE id % 1000 = 500 + {turn};
"""


def follow(url: str, table: str, rows: int, refresh: Callable[[], None], held: Callable[[], dict[int, str]]) -> None:
    """Have a table change and be followed, and print the seconds of a refresh and what is wrong in the end.

    Args:
        url: of the source.
        table: is made, of so many rows.
        rows: how many.
        refresh: is called after each round.
        held: what the follower has in the end, by id.
    """
    with psycopg2.connect(url) as writer, psycopg2.connect(url) as late:
        _run(writer, f"DROP TABLE IF EXISTS {table}; {FILL.format(table=table, rows=rows)} ANALYZE {table}")
        refresh()
        took = []
        for turn in range(ROUNDS):
            late.cursor().execute(BEGIN_LATE.format(table=table, turn=turn))
            _run(writer, CHANGE.format(table=table, turn=turn))
            took.append(_timed(refresh))
            late.commit()
        took.append(_timed(refresh))
        with writer.cursor() as cursor:
            cursor.execute(f"SELECT id, l_comment FROM {table}")
            there = dict(cursor.fetchall())
    print(json.dumps({"seconds": statistics.median(took), "said": _wrong(there, held())}))


def _run(connection: psycopg2.extensions.connection, statements: str) -> None:
    connection.cursor().execute(statements)
    connection.commit()


def _timed(refresh: Callable[[], None]) -> float:
    started = perf_counter()
    refresh()
    return perf_counter() - started


def _wrong(there: dict[int, str], held: dict[int, str]) -> str:
    lost = sum(1 for key, comment in there.items() if held.get(key) != comment)
    kept = len(held.keys() - there.keys())
    if not lost and not kept:
        return "nothing"
    return f"{lost} changes of transactions that committed late are missing; {kept} deleted rows are still there"
