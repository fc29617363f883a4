"""What the peers' scripts share. They run in environments of their own, which know nothing of this project."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

URL = os.environ["BENCH_URL"]
OUT = Path(sys.argv[1])
TABLES = sys.argv[2:]
BATCH_ROWS = 122_880


def _told(error: BaseException) -> str:
    if error.__cause__:
        return _told(error.__cause__)  # the first cause says most
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def run(read: Callable[[str, Path], None]) -> None:
    """Read each table into one Parquet file, and print the seconds and what failed."""
    OUT.mkdir(parents=True, exist_ok=True)
    errors, started = {}, perf_counter()
    for table in TABLES:
        try:
            read(table, OUT / f"{table}.parquet")
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            errors[table] = _told(error)
    print(json.dumps({"seconds": perf_counter() - started, "errors": errors}))
    for table, told in errors.items():
        print(f"{table}: {told}", file=sys.stderr)
    sys.exit(bool(errors))
