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
        Goal("postgresql-floor", "≤ 1.0 × psql, every guard on", f"{plain.ratio(OURS):.2f} ×", plain.ratio(OURS) <= 1),
        Goal("postgresql-memory", "≤ 300 MB", f"{ours.peak:.0f} MB", ours.peak <= 300),
    ]
    if world.peers:
        fastest = min(plain.of(each.name).median for each in (DLT, DLT_CONNECTORX)) / ours.median
        exact = plain.of(DLT.name).median / ours.median
        goals += [
            Goal("postgresql-dlt", "≥ 2 × as fast as dlt's fastest", f"{fastest:.1f} ×", fastest >= 2),
            Goal("postgresql-dlt-exact", "≥ 5 × as fast as dlt's exact backend", f"{exact:.1f} ×", exact >= 5),
        ]
    about = (
        f"{world.of(6_001_215):,} rows of TPC-H lineitem into one version: reserve, guard, read, write, verify, fingerprint, "
        "fsync, swap. No peer reserves, guards, verifies or syncs."
    )
    return Section("PostgreSQL", about, [plain, wide], goals)
