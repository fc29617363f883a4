"""Every fault, many times, on every combination of catalog and storage: `make torture REPEAT=20`.

It prints one table, and ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from runtimedb_dagster_tests.core.s3 import ENVIRONMENT, ObjectStore, object_store_running
from runtimedb_dagster_tests.servers import Server, postgres
from runtimedb_dagster_tests.torture.children import Children, children
from runtimedb_dagster_tests.torture.faults import Case, cases
from runtimedb_dagster_tests.torture.system import COMBINATIONS, System, Verdict, made

LONGEST_DELAY_SECONDS = 0.05
DELAYED = ("after_reserve", "after_close", "inside_commit")


@dataclass
class Row:
    """What came of one fault."""

    injected: int = 0
    checked: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class Torture:
    """The servers that it needs, and what came of it."""

    directory: Path
    catalog: Server
    store: ObjectStore
    processes: Children
    lots: random.Random
    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    systems: dict[tuple[str, str], tuple[System, ExitStack]] = field(default_factory=dict)

    def inject(self, combination: tuple[str, str], case: Case) -> None:
        """Have a system suffer a fault; after a failure the next one gets a new system."""
        drawn = self._drawn(case)
        try:
            verdict = self._system(combination).suffer(drawn)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted, and the others follow
            verdict = Verdict(1, [f"{type(error).__name__}: {error}"])
        row = self.rows[case.name]
        row.injected += 1
        row.checked += verdict.checked
        if verdict.broken:
            row.failures.append(f"{'-'.join(combination)}, {drawn.faults}: {'; '.join(verdict.broken)}")
            self._forget(combination)

    def close(self) -> None:
        """Forget the systems."""
        for combination in list(self.systems):
            self._forget(combination)

    def _forget(self, combination: tuple[str, str]) -> None:
        if found := self.systems.pop(combination, None):
            found[1].close()

    def _system(self, combination: tuple[str, str]) -> System:
        if combination not in self.systems:
            stack = ExitStack()
            directory = self.directory / f"{'-'.join(combination)}-{self.lots.randrange(1 << 32):08x}"
            server = self.catalog if combination[0] == "postgresql" else None
            store = self.store if combination[1] == "s3" else None
            self.systems[combination] = stack.enter_context(made(directory, server, store, self.processes)), stack
        return self.systems[combination][0]

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
    with _torture(random.Random(arguments.seed)) as torture:  # noqa: S311
        for done in range(arguments.repeat):
            if time.monotonic() - started > 60 * arguments.minutes:
                console.print(f"the time is over after {done} of {arguments.repeat} repetitions")
                break
            for combination in COMBINATIONS:
                for case in cases(combination[1]):
                    torture.inject(combination, case)
            console.print(f"repetition {done + 1} after {time.monotonic() - started:.0f} s", style="dim")
    return _show(console, torture.rows)


@contextmanager
def _torture(lots: random.Random) -> Iterator[Torture]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdb-torture-")))
        catalog, store = stack.enter_context(postgres()), stack.enter_context(object_store_running())
        torture = Torture(directory, catalog, store, stack.enter_context(children(ENVIRONMENT)), lots)
        stack.callback(torture.close)
        yield torture


def _show(console: Console, rows: Mapping[str, Row]) -> int:
    table = Table("fault", *(Column(name, justify="right") for name in ("injected", "checked", "failures")))
    for name, row in rows.items():
        table.add_row(name, str(row.injected), str(row.checked), str(len(row.failures)))
    total = [sum(each.injected for each in rows.values()), sum(each.checked for each in rows.values())]
    failures = [failure for row in rows.values() for failure in row.failures]
    table.add_section()
    table.add_row("all", *map(str, total), str(len(failures)))
    console.print(table)
    for failure in failures:
        console.print(failure, style="red")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
