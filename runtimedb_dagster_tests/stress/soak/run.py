"""The run of a soak: starts the processes, restarts the servers, watches, stops."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runtimedb_dagster_tests.stress.soak.errors import SKEWED, Met, Outage
from runtimedb_dagster_tests.stress.soak.watch import Watch
from runtimedb_dagster_tests.support.parts import await_that
from runtimedb_dagster_tests.support.servers import Server

__all__ = ["Soak"]

PROCESSES = {
    "source": ["mutator"],
    "refreshers": ["refresher", "refresher", "pair refresher", "discoverer", "discoverer"],
    "readers": ["reader", "reader", "reader", "long reader", "verifier"],
    "upkeep": ["sweeper", "sweeper", "purger"],
    SKEWED: ["clock", "refresher", "sweeper"],
}
# Which server restarts after which share of the time, and whether as after a crash.
RESTARTS = [(0.15, "source", False), (0.3, "catalog", False), (0.55, "source", True), (0.7, "catalog", True)]
INTERVAL_SECONDS = 1
STOP_SECONDS = 180


@dataclass
class Soak:
    """A run, and what came of it."""

    directory: Path
    servers: Mapping[str, Server]
    catalog: str
    seed: int
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    errors: list[Met] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    watch: Watch = field(init=False)

    def run(self, seconds: float) -> None:
        """Run for a time."""
        with self._processes() as processes:
            self.watch = Watch({name: each.pid for name, each in processes.items()}, self.servers, self.catalog)
            self._watch(seconds)
            for process in processes.values():
                assert process.stdin is not None
                process.stdin.close()
            for name, process in processes.items():
                self._hear(name, process)

    @contextmanager
    def _processes(self) -> Iterator[dict[str, subprocess.Popen[str]]]:
        started: dict[str, subprocess.Popen[str]] = {}
        try:
            for number, (name, roles) in enumerate(PROCESSES.items()):
                started[name] = self._start(name, roles, self.seed + 100 * number)
            outs = [self._out(name) for name in started]
            await_that(lambda: all(out.stat().st_size for out in outs), "all to open the catalog", STOP_SECONDS)
            yield started
        finally:
            for process in started.values():
                process.kill()
                process.wait()

    def _start(self, name: str, roles: list[str], seed: int) -> subprocess.Popen[str]:
        self.logs += [self.directory / f"{name}.log", self._out(name)]
        with self.logs[-2].open("w") as log, self.logs[-1].open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "runtimedb_dagster_tests.stress.soak.worker"],
                stdin=subprocess.PIPE, stdout=out, stderr=log, text=True,
            )  # fmt: skip
        order = {"roles": roles, "seed": seed, "source_port": self.servers["source"].port}
        assert process.stdin is not None
        print(json.dumps(order), file=process.stdin, flush=True)
        return process

    def _out(self, name: str) -> Path:
        return self.directory / f"{name}.out"

    def _watch(self, seconds: float) -> None:
        started, restarts = time.monotonic(), list(RESTARTS)
        while (passed := time.monotonic() - started) < seconds:
            if restarts and passed > restarts[0][0] * seconds:
                _, name, at_once = restarts.pop(0)
                self._restart(name, at_once=at_once)
            self.watch.sample()
            time.sleep(INTERVAL_SECONDS)

    def _restart(self, name: str, *, at_once: bool) -> None:
        start = time.time()
        self.servers[name].stop(at_once=at_once)
        self.servers[name].start()
        self.outages.append(Outage(name, start, time.time()))

    def _hear(self, name: str, process: subprocess.Popen[str]) -> None:
        status = process.wait(STOP_SECONDS)
        if status:
            self.errors.append(Met(name, time.time(), "", "exit status", str(status)))
            return
        told = json.loads(self._out(name).read_text(encoding="utf-8").splitlines()[-1])
        self.counts.update({(name, role, what): count for role, what, count in told["counts"]})
        self.errors += [Met(name, *each) for each in told["errors"]]
