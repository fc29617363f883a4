"""Other projects' own test databases, refreshed whole and compared value by value: `make regress`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from runtimedb_dagster_tests.stress.regress import mariadb, postgresql
from runtimedb_dagster_tests.stress.regress.debian import mariadb_tests, postgresql_tests

RUNS = {"postgresql": (postgresql_tests, postgresql.run), "mariadb": (mariadb_tests, mariadb.run)}


def main() -> int:
    """Run one or both; exit status 1 if any value is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", default=list(RUNS), help="postgresql, mariadb or both")
    parser.add_argument("--cache", type=Path, required=True, help="where the suites are kept once they were fetched")
    given = parser.parse_args()
    status = 0
    for which in given.which:
        fetch, run = RUNS[which]
        print(f"{which}:", flush=True)
        with TemporaryDirectory(prefix="rdb-regress-") as directory:
            Path(directory).chmod(0o755)  # the server's user has to get there
            status |= run(fetch(given.cache / which), Path(directory)).show()
    return status


if __name__ == "__main__":
    sys.exit(main())
