"""A table under steady writing, refreshed every 10 seconds: what that costs, and how old what is served gets.

`python -m benchmarks.steady postgresql changes --minutes 10`; `full` reads the table whole each time instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic, process_time, sleep
from typing import Any

import psutil

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.domain.outcomes import Published, Unchanged
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.servers import PASSWORD, Server, mariadb, postgres

ROWS, PER_SECOND, EVERY_SECONDS = 1_000_000, 200, 10.0
TABLE = {
    "postgresql": "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz NOT NULL DEFAULT clock_timestamp())",
    "mariadb": "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT, at TIMESTAMP(6) NOT NULL DEFAULT NOW(6))",
}
FILL = {
    "postgresql": f"INSERT INTO t SELECT i, md5(i::text), now() FROM generate_series(1, {ROWS}) i",
    "mariadb": f"INSERT INTO t SELECT seq, MD5(seq), NOW(6) FROM seq_1_to_{ROWS}",
}
NOW = {"postgresql": "clock_timestamp()", "mariadb": "NOW(6)"}
OF_TEN = ["update"] * 7 + ["insert"] * 2 + ["delete"]
# What can be said of each without reading it whole.
OPTIONS = {
    "postgresql": {},
    "mariadb": {"changes": "cursor", "cursor": "t.at", "lookback": "PT2S"},
}


def write(kind: str, port: int) -> None:
    """Change so many rows a second, for as long as it lives."""
    server = Server("mysql" if kind == "mariadb" else "postgresql", "owner", port, Path(), Path(), [], None)
    connection, begun, done = server.connect("bench"), monotonic(), 0
    with connection.cursor() as cursor:
        while True:
            what, key = OF_TEN[done % 10], (done * 7919) % ROWS + 1
            if what == "update":
                cursor.execute(f"UPDATE t SET v = 'changed {done}', at = {NOW[kind]} WHERE id = {key}")
            elif what == "insert":
                cursor.execute(f"INSERT INTO t VALUES ({ROWS + done}, 'new', {NOW[kind]})")
            else:
                cursor.execute(f"DELETE FROM t WHERE id = {key}")
            done += 1
            if (ahead := done / PER_SECOND - (monotonic() - begun)) > 0:
                sleep(ahead)


def measure(kind: str, how: str, minutes: float) -> dict[str, Any]:
    """Refresh it every so many seconds, and say what that took."""
    with ExitStack() as stack:
        server = stack.enter_context(mariadb() if kind == "mariadb" else postgres())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steady-")))
        server.run(None, "CREATE DATABASE bench")
        server.run("bench", TABLE[kind], FILL[kind])
        db = stack.enter_context(RuntimeDB(Settings(home=home, grace_period=0)))
        os.environ[PASSWORD_ENV] = PASSWORD
        options = {"changes": "full"} if how == "full" else OPTIONS[kind]
        db.connect("s", server.url("bench"), options=options, password_env=PASSWORD_ENV)
        schema = db.tables("s")[0].schema_name
        outcomes = [_refresh(db, schema)]
        writer = stack.enter_context(
            subprocess.Popen([sys.executable, "-m", "benchmarks.steady", kind, "write", "--port", str(server.port)])
        )
        stack.callback(writer.kill)
        return _steady(db, schema, server, outcomes, minutes)


def _steady(
    db: RuntimeDB, schema: str, server: Server, outcomes: list[Published | Unchanged], minutes: float
) -> dict[str, Any]:
    took, stale, begun = list[float](), list[float](), monotonic()
    cpu, server_cpu = process_time(), _cpu_of(server)
    while (started := monotonic()) < begun + 60 * minutes:
        outcomes.append(_refresh(db, schema))
        took.append(monotonic() - started)
        sleep(max(0.0, EVERY_SECONDS - took[-1]))
        with db.query() as query:
            ((newest,),) = query.sql(f'SELECT max("at") FROM s.{schema}.t').fetchall()
        stale.append((datetime.now(timezone.utc) - newest.astimezone(timezone.utc)).total_seconds())
        db.sweep()
    rounds = len(took)
    return {
        "rounds": rounds,
        "refresh, s (median)": round(statistics.median(took), 2),
        "oldest that was served, s (median, most)": [round(statistics.median(stale), 1), round(max(stale), 1)],
        "rows read a refresh": round(sum(each.facts.rows_read for each in outcomes[1:]) / rounds),
        "modes": {mode: sum(each.facts.mode == mode for each in outcomes[1:]) for mode in ("full", "changes")},
        "files": max(each.facts.files for each in outcomes),
        "CPU of the reader, s a refresh": round((process_time() - cpu) / rounds, 2),
        "CPU of the server, s a refresh, writing included": round((_cpu_of(server) - server_cpu) / rounds, 2),
    }


def _refresh(db: RuntimeDB, schema: str) -> Published | Unchanged:
    request = RefreshRequest("s", schema, "t", data=True)
    (outcome,) = [event for event in db.events(request) if isinstance(event, Published | Unchanged)]
    return outcome


def _cpu_of(server: Server) -> float:
    """Of the server's process and its children, those that ended included as far as they were seen."""
    if server.process is None:
        raise RuntimeError("the server does not run")
    main = psutil.Process(server.process.pid)
    # What ended is counted with its parent.
    own = main.cpu_times()
    children = [child.cpu_times() for child in main.children(recursive=True)]
    return own.user + own.system + own.children_user + own.children_system + sum(c.user + c.system for c in children)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("postgresql", "mariadb"))
    parser.add_argument("how", choices=("changes", "full", "write"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    if given.how == "write":
        write(given.kind, given.port)
    else:
        print(json.dumps(measure(given.kind, given.how, given.minutes), indent=1))
