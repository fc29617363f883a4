"""What must not grow while a soak runs: memory, open files, connections, the catalog."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
import psycopg

from runtimedb_dagster_tests.support.servers import Server

__all__ = ["Flatness", "Watch"]

# By how much the last quarter's median may exceed the second's: a share of it, and so much beside.
TOLERANCES = {
    "MB resident": (0.15, 32),
    "open files": (0.10, 8),
    "connections to": (0.10, 6),
    "rows of the catalog": (0.25, 50),
    "MB of the catalog": (0.10, 4),
}
CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
# A version that is retired while a query is open stays until it ends, by design: the long reader holds all of them.
HELD = "SELECT count(*) FROM pending_deletions WHERE retired_at_sequence > (SELECT min(sequence) FROM leases)"
KEPT = ("connections", "tables", "versions", "pending_deletions", "leases", "refresh_slots")
MB_OF_HELD = 3 / 1024  # two rows and their indexes


@dataclass(frozen=True)
class Flatness:
    """One figure in two quarters of the run."""

    name: str
    second: float
    last: float

    @property
    def limit(self) -> float:
        """What the last quarter may have."""
        share, more = next(each for name, each in TOLERANCES.items() if name in self.name)
        return self.second * (1 + share) + more

    @property
    def broken(self) -> bool:
        return self.last > self.limit


@dataclass
class Watch:
    """Samples, each with its moment."""

    processes: Mapping[str, int]
    servers: Mapping[str, Server]
    database: str
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    held: int = 0

    def sample(self) -> None:
        """Look at everything once."""
        now = time.monotonic()
        for name, pid in self.processes.items():
            process = psutil.Process(pid)
            self.samples[f"{name}: MB resident"].append((now, process.memory_info().rss / 2**20))
            self.samples[f"{name}: open files"].append((now, process.num_fds()))
        for name, server in self.servers.items():
            self.samples[f"connections to the {name}"].append((now, server.run(None, CLIENTS)[0][0]))
        self._sample_catalog(now)

    def _sample_catalog(self, now: float) -> None:
        counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in KEPT)
        query = f"SELECT {counts}, ({HELD}), pg_database_size(current_database()) / 1048576.0"
        with psycopg.connect(self.servers["catalog"].catalog_url(self.database)) as connection:
            ((rows, self.held, size),) = connection.execute(query).fetchall()
        self.samples["rows of the catalog, but those that the long reader holds"].append((now, rows - 2 * self.held))
        self.samples["MB of the catalog, but 3 kB for each held version"].append(
            (now, float(size) - MB_OF_HELD * self.held)
        )

    def flatness(self) -> list[Flatness]:
        """Each figure's medians in the second and in the last quarter."""
        return [Flatness(name, *_quarters(samples)) for name, samples in self.samples.items()]


def _quarters(samples: list[tuple[float, float]]) -> tuple[float, float]:
    first, last = samples[0][0], samples[-1][0]
    quarter = (last - first) / 4
    second = [value for at, value in samples if first + quarter <= at <= first + 2 * quarter]
    return statistics.median(second), statistics.median([value for at, value in samples if at >= last - quarter])
