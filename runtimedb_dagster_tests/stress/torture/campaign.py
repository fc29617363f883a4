"""What is drawn by lot, for as long as it is given: `make campaign OF=signals MINUTES=15`.

It prints one table, and ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import random
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from rich.console import Console

from runtimedb_dagster_tests.stress.torture.report import Row, show, together

__all__ = ["main"]

CAMPAIGNS = ("signals", "store", "mute")


class Lane(Protocol):
    """One of several that suffer side by side."""

    name: str
    rows: dict[str, Row]
    longest: float

    def repetition(self) -> None:
        """Suffer for a while."""


def main() -> int:
    """Go through a campaign, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", default="", help="those whose names begin so")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - no secret
    given = parser.parse_args()
    logging.getLogger("runtimedb_dagster").addHandler(logging.NullHandler())
    console = Console(width=120)
    console.print(f"{given.campaign}, seed {given.seed}")
    lanes = importlib.import_module(f"{__package__}.{given.campaign}").lanes
    with tempfile.TemporaryDirectory(prefix="rdb-campaign-") as name, lanes(Path(name), given.seed) as all_of_them:
        running = [lane for lane in all_of_them if lane.name.startswith(given.only)]
        until = time.monotonic() + 60 * given.minutes
        with ThreadPoolExecutor(len(running)) as pool:
            list(pool.map(lambda lane: _suffer(lane, until), running))
    console.print(f"the longest that was to end in time took {max(lane.longest for lane in running):.1f} s")
    return show(console, dict(sorted(together(lane.rows for lane in running).items())))


def _suffer(lane: Lane, until: float) -> None:
    while time.monotonic() < until:
        try:
            lane.repetition()
        except Exception:  # noqa: BLE001 - whatever it is, it is counted, and the others go on
            row = lane.rows["the campaign itself"]
            row.injected += 1
            row.failures.append(f"{lane.name}: {traceback.format_exc()}")
            if len(row.failures) > 20:
                return


if __name__ == "__main__":
    sys.exit(main())
