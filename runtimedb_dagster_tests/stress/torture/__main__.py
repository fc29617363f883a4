"""Every fault, many times, on every combination of catalog and storage: `make torture REPEAT=20`.

The combinations suffer side by side. It prints one table, and ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from runtimedb_dagster_tests.stress.torture.children import Children, children
from runtimedb_dagster_tests.stress.torture.faults import Case, cases
from runtimedb_dagster_tests.stress.torture.report import Row, show, together
from runtimedb_dagster_tests.stress.torture.system import COMBINATIONS, System, Verdict, made
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, ObjectStore, object_store_running
from runtimedb_dagster_tests.support.servers import Server, postgres

LONGEST_DELAY_SECONDS = 0.05
DELAYED = ("after_reserve", "after_close", "inside_commit")


@dataclass
class Lane:
    """One combination of catalog and storage, what it needs, and what came of it."""

    combination: tuple[str, str]
    directory: Path
    catalog: Server
    store: ObjectStore
    processes: Children
    lots: random.Random
    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    system: System | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def repetition(self) -> None:
        """Every fault once."""
        for case in cases(self.combination[1]):
            self.inject(case)

    def inject(self, case: Case) -> None:
        """Have the system suffer a fault; after a failure the next one gets a new system."""
        drawn = self._drawn(case)
        try:
            verdict = self._system().suffer(drawn)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted, and the others follow
            verdict = Verdict(1, [f"{type(error).__name__}: {error}"])
        row = self.rows[case.name]
        row.injected += 1
        row.checked += verdict.checked
        if verdict.broken:
            row.failures.append(f"{'-'.join(self.combination)}, {drawn.faults}: {'; '.join(verdict.broken)}")
            self.close()

    def close(self) -> None:
        """Forget the system."""
        self.system = None
        self.stack.close()

    def _system(self) -> System:
        if self.system is None:
            directory = self.directory / f"{'-'.join(self.combination)}-{self.lots.randrange(1 << 32):08x}"
            server = self.catalog if self.combination[0] == "postgresql" else None
            store = self.store if self.combination[1] == "s3" else None
            self.system = self.stack.enter_context(made(directory, server, store, self.processes))
        return self.system

    def _drawn(self, case: Case) -> Case:
        """The case with delays, and moments to kill, that were drawn by lot."""
        if case.swept:
            return case
        if case.seconds is not None:
            case = replace(case, seconds=round(self.lots.uniform(0, 5 * case.seconds), 5))
        point, seconds = self.lots.choice(DELAYED), self.lots.uniform(0, LONGEST_DELAY_SECONDS)
        return replace(case, more=f"{point}=delay@{seconds:.4f}:{self.lots.choice((1, 2, 3))}")


def main() -> int:
    """Torture it, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further repetition after these")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - delays, no secrets
    arguments = parser.parse_args()
    console = Console(width=120)
    console.print(f"seed {arguments.seed}")
    os.environ.update(ENVIRONMENT)
    started = time.monotonic()
    with _lanes(arguments.seed) as lanes, ThreadPoolExecutor(len(lanes)) as pool:
        for done in range(arguments.repeat):
            if time.monotonic() - started > 60 * arguments.minutes:
                console.print(f"the time is over after {done} of {arguments.repeat} repetitions")
                break
            for _ in pool.map(Lane.repetition, lanes):
                pass
            console.print(f"repetition {done + 1} after {time.monotonic() - started:.0f} s", style="dim")
    return show(console, together(lane.rows for lane in lanes))


@contextmanager
def _lanes(seed: int) -> Iterator[list[Lane]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdb-torture-")))
        catalog, store = stack.enter_context(postgres()), stack.enter_context(object_store_running())
        lanes = []
        for combination in COMBINATIONS:
            processes = stack.enter_context(children(ENVIRONMENT))
            lots = random.Random(f"{seed}-{'-'.join(combination)}")  # noqa: S311 - delays, no secrets
            lanes.append(Lane(combination, directory, catalog, store, processes, lots))
            stack.callback(lanes[-1].close)
        yield lanes


if __name__ == "__main__":
    sys.exit(main())
