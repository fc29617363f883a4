"""TPC-H lineitem from PostgreSQL into one version, against psql reading the same into nothing."""

from __future__ import annotations

from benchmarks.exactness import verdicts
from benchmarks.measure import Goal, Section, alternate
from benchmarks.peers import ADBC, CONNECTORX, DLT, DLT_CONNECTORX, DUCKDB, DUCKDB_SAME, SLING
from benchmarks.world import World

PEERS = (DUCKDB_SAME, DUCKDB, DLT_CONNECTORX, DLT, CONNECTORX, ADBC, SLING)
FLOOR, OURS = "psql, COPY binary into nothing", "RuntimeDB"


def measure(world: World) -> Section:
    """Lineitem against all; the same with unconstrained decimals, which the server casts, against psql alone."""
    url = world.postgres_lineitem
    said = verdicts(world, world.postgres, PEERS)
    sides = [
        world.psql(FLOOR, url, "COPY lineitem TO STDOUT (FORMAT binary)"),
        world.ours(OURS, "refresh", url, "lineitem"),
        *world.of_peers(*((peer, said.get(peer.name, "")) for peer in PEERS), url=url, table="lineitem"),
    ]
    plain = alternate("lineitem", sides, world.repeat)
    plain.of(OURS).wrong = said["RuntimeDB"]
    wide = alternate(
        "lineitem_wide: its decimals are unconstrained",
        [
            world.psql(FLOOR, url, "COPY lineitem_wide TO STDOUT (FORMAT binary)"),
            world.ours(OURS, "refresh", url, "lineitem_wide"),
        ],
        min(world.repeat, 3),
    )
    ours = plain.of(OURS)
    goals = [
        Goal.at_most("postgresql-floor", "every guard on", plain.ratio(OURS), 1, "of psql's time"),
        Goal.at_most("postgresql-memory", "memory", ours.peak, 300, "MB"),
    ]
    if world.peers:
        fastest = min(plain.of(each.name).median for each in (DLT, DLT_CONNECTORX)) / ours.median
        exact = plain.of(DLT.name).median / ours.median
        goals += [
            Goal.at_least("postgresql-dlt", "dlt's fastest backend takes", fastest, 2, "times as long"),
            Goal.at_least("postgresql-dlt-exact", "dlt's exact backend takes", exact, 5, "times as long"),
        ]
    about = (
        f"{world.of(6_001_215):,} rows of TPC-H lineitem into one version: reserve, guard, read, write, verify, "
        "fingerprint, fsync, swap. No peer reserves, guards, verifies or syncs."
    )
    return Section("PostgreSQL", about, [plain, wide], goals)
