"""Run the benchmarks, or some groups of them: `python -m benchmarks.run --only postgresql --repeat 3 --scale 0.1`."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from datetime import date
from importlib import import_module

import duckdb
import psutil

from benchmarks import peers
from benchmarks.report import publish, store
from benchmarks.world import World

GROUPS = (
    "postgresql", "unchanged", "changes", "mariadb", "files", "small_tables", "discovery", "loading", "query", "swaps",
    "sweep", "s3", "growth",
)  # fmt: skip
PEERED = {"postgresql", "mariadb", "files", "small_tables", "discovery"}


def main() -> None:
    """Measure what is asked for; each group replaces its own part of the results."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the servers end with it
    groups = [group for group in GROUPS if not options.only or group in options.only]
    for name in [name for name in os.environ if name.startswith("RUNTIMEDB_") and name != "RUNTIMEDB_HOME"]:
        del os.environ[name]
    said = peers.install() if options.install and options.peers and PEERED & set(groups) else []
    print(*said, sep="\n", flush=True)
    world = World(options.scale, options.repeat, options.peers)
    with world.stack:
        for group in groups:
            section = import_module(f"benchmarks.groups.{group}").measure(world)
            section.notes += said if group == "postgresql" else []
            store(group, section, _machine(options.scale))
            publish(list(GROUPS))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="these groups; default: all")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; slow sides take part in fewer")
    parser.add_argument("--scale", type=float, default=1, help="of all numbers of rows and tables")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without other tools")
    parser.add_argument("--no-install", dest="install", action="store_false", help="the peers as they were installed")
    return parser.parse_args()


def _machine(scale: float) -> dict[str, object]:
    memory = round(psutil.virtual_memory().total / (1 << 30))
    on = f"{os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    return {"taken": date.today().isoformat(), "scale": scale, "on": on}  # noqa: DTZ011 - of the machine


if __name__ == "__main__":
    main()
