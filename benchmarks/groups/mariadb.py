"""A part of lineitem from MariaDB, against the client's own dump into nothing."""

from __future__ import annotations

import shlex

from benchmarks.exactness import verdicts
from benchmarks.measure import Goal, Section, Side, alternate
from benchmarks.peers import CONNECTORX, DLT, DLT_CONNECTORX, DUCKDB, DUCKDB_SAME, MYSQLCLIENT, SLING
from benchmarks.world import World

PEERS = (DUCKDB_SAME, DUCKDB, DLT_CONNECTORX, DLT, CONNECTORX, MYSQLCLIENT, SLING)
OURS = "RuntimeDB"


def measure(world: World) -> Section:
    """Against the dump, and the peers."""
    url = world.mariadb_lineitem
    said = verdicts(world, world.mariadb, PEERS)
    dump = shlex.join(["mariadb-dump", *world.client(), "--single-transaction", "--quick", "tpch", "lineitem"])
    query = shlex.join(["mariadb", *world.client(), "--quick", "--batch", "tpch", "-e", "SELECT * FROM lineitem"])
    sides = [
        Side("mariadb-dump into nothing", ["sh", "-c", f"exec {dump} > /dev/null"]),
        Side("mariadb --quick into nothing", ["sh", "-c", f"exec {query} > /dev/null"]),
        world.ours(OURS, "refresh", url, "lineitem"),
        *world.of_peers(*((peer, said.get(peer.name, "")) for peer in PEERS), url=url, table="lineitem"),
    ]
    trial = alternate("lineitem from MariaDB", sides, world.repeat)
    trial.of(OURS).wrong = said["RuntimeDB"]
    goal = Goal.at_most("mariadb", "refresh", trial.ratio(OURS), 1.15, "of the client's own dump")
    return Section("MariaDB", f"{world.of(1_800_000):,} rows of lineitem.", [trial], [goal])
