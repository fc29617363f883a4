"""What the command line shows: values as they are, valid JSON, nothing that a terminal would obey."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster_tests.support.command import COMMAND, Ran, run_command
from runtimedb_dagster_tests.support.parts import SourceFile, environment

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def ran(db: RuntimeDB, *arguments: str) -> Ran:
    return run_command(*arguments, env=environment(db))


def asked(db: RuntimeDB, sql: str) -> Any:
    """The rows that `query --json` prints, read by a parser that knows JSON alone."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    done = ran(db, "query", "--json", sql)
    assert done.status == 0, done.err
    return json.loads(done.out, parse_constant=refuse)


def test_values_are_shown_as_they_are(db: RuntimeDB) -> None:
    sql = """SELECT 'infinity'::TIMESTAMP AS till, '-infinity'::DATE AS since,
        '2024-01-01 00:00:00.123456789'::TIMESTAMP_NS AS ns, '0044-03-15 (BC)'::DATE AS bc, 1.10::DECIMAL(5,2) AS d,
        'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, 170141183460469231731687303715884105727::HUGEINT AS h,
        [1.5, 'nan'::DOUBLE] AS l, {'t': 'infinity'::TIMESTAMP, 'n': NULL} AS s, '\\xAA'::BLOB AS z, NULL AS n,
        true AS y, MAP {'k': 1} AS m, '24:00:00'::TIME AS night, INTERVAL 1 MONTH AS i"""
    assert asked(db, sql) == [{
        "till": "infinity", "since": "-infinity", "ns": "2024-01-01T00:00:00.123456789", "bc": "0044-03-15 (BC)",
        "d": "1.10", "a": "NaN", "b": "-Infinity", "h": 2**127 - 1, "l": [1.5, "NaN"],
        "s": {"t": "infinity", "n": None}, "z": "\\xAA", "n": None, "y": True, "m": {"k": 1}, "night": "24:00:00",
        "i": "1 month",
    }]  # fmt: skip
    shown = ran(db, "query", sql).out
    for value in ("infinity", "-infinity", "123456789", "0044-03-15 (BC)", "1.10", "nan", "-inf", "NULL"):
        assert value in shown


def test_numbers_within_values_keep_their_digits(db: RuntimeDB) -> None:
    sql = """SELECT [12345678901234567890.123456789::DECIMAL(38,9)] AS d,
        ['1e400'::JSON] AS h, [repeat('1', 5000)::JSON] AS n"""
    (row,) = asked(db, sql)
    assert row["d"] == ["12345678901234567890.123456789"]
    assert (row["h"], len(row["n"][0])) == (["1e400"], 5000)


def test_a_value_stays_in_its_cell(db: RuntimeDB) -> None:
    shown = ran(db, "query", "SELECT ':warning:' AS a, 'b\\' AS \"c\\\", chr(9) || 'd' || chr(10) || 'e' AS f").out
    assert shown.splitlines()[1].split() == ["a", "c\\", "f"]
    assert shown.splitlines()[3].split() == [":warning:", "b\\", "\\td\\ne"]


def test_columns_of_one_name_are_all_there(db: RuntimeDB) -> None:
    assert asked(db, "SELECT 1 AS id, 2 AS id, 3 AS id_2, 4 AS id") == [{"id": 1, "id_2": 2, "id_2_2": 3, "id_3": 4}]


@pytest.mark.parametrize("sql", ["SELECT 2 AS a ORDER BY 1;", "SELECT 2 AS a -- two", "VALUES (2)", "FROM (SELECT 2)"])
def test_statements_are_taken_as_they_are_written(db: RuntimeDB, sql: str) -> None:
    assert [list(row.values()) for row in asked(db, sql)] == [[2]]


def test_the_order_of_rows_is_kept(db: RuntimeDB) -> None:
    assert [row["i"] for row in asked(db, "SELECT range AS i FROM range(5000) ORDER BY i DESC")] == list(
        range(4999, -1, -1)
    )


def test_a_terminal_obeys_nothing_of_a_source(db: RuntimeDB, shop: SourceFile) -> None:
    name = f"a{ESCAPE}b".replace('"', '""')
    shop.run(f'CREATE TABLE "{name}" AS SELECT \'{ESCAPE}\' AS v, 1 AS "c{ESCAPE}"')
    db.discover("shop")
    commands = [
        ("tables",), ("tables", "--json"), ("refresh", "shop", "--data"),
        ("query", f'SELECT * FROM shop.main."{name}"'),
        ("query", "--json", f'SELECT * FROM shop.main."{name}"'), ("verify",), ("connections",),
        ("query", f'SELECT "{name}" FROM shop.main.orders'),
    ]  # fmt: skip
    for arguments in commands:
        done = ran(db, *arguments)
        for obeyed in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e"):
            assert obeyed not in done.out + done.err, arguments
    assert ran(db, "query", "--json", f'SELECT v FROM shop.main."{name}"').json == [{"v": ESCAPE}]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(db: RuntimeDB, encoding: str) -> None:
    sql = "SELECT '日本 é' AS v"
    variables = environment(db) | {"PYTHONIOENCODING": encoding}
    shown = subprocess.run([COMMAND, "query", sql], env=variables, capture_output=True, check=False)
    assert shown.returncode == 0
    done = subprocess.run([COMMAND, "query", "--json", sql], env=variables, capture_output=True, check=False)
    assert json.loads(done.stdout.decode(encoding)) == [{"v": "日本 é"}]


ENDLESS = "SELECT count(*) FROM range(100000000000) r(a) WHERE a % 7 = 3"


@pytest.mark.parametrize("what", ["query", "refresh"])
def test_an_interrupt_ends_it_at_once_with_one_line(db: RuntimeDB, shop: SourceFile, what: str) -> None:
    shop.run(f"CREATE VIEW endless AS {ENDLESS}")
    db.discover("shop")
    arguments = ["query", ENDLESS] if what == "query" else ["refresh", "shop", "main", "endless", "--data"]
    process = subprocess.Popen(
        [COMMAND, *arguments], env=environment(db), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        _await_work(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "Error: Interrupted")


def _await_work(process: subprocess.Popen[str]) -> None:
    """Until the process has used a second of processor beyond its start, which is DuckDB at work."""
    ticks = os.sysconf("SC_CLK_TCK")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        if (int(fields[11]) + int(fields[12])) / ticks > 4:
            return
        time.sleep(0.05)
    raise AssertionError("it never came to work")


LOGGED = """
import logging
from runtimedb_dagster.cli import terminal

terminal.show_warnings()
for name in ("sqlalchemy.pool", "runtimedb_dagster.engine.refresh", "runtimedb_dagster"):
    try:
        raise OSError("the disk\\n is full")
    except OSError:
        logging.getLogger(name).warning("the file of %s is left", "shop.main.t\\x1b[2J", exc_info=True)
logging.getLogger("runtimedb_dagster.engine.discovery").info("nothing to see")
"""


def test_a_warning_is_one_line_and_the_libraries_have_none() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOGGED], capture_output=True, text=True, check=True, timeout=60
    )
    line = "Warning: the file of shop.main.t\\x1b[2J is left: the disk is full"
    assert done.stderr.splitlines() == [line, line]
