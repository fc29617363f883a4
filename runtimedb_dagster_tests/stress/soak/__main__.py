"""Everything at once, for a time: `make soak SECONDS=600 STORAGE=s3`.

Refreshers, discoverers, readers, sweepers, purges and removals in processes of their own, while the source's tables
change, the servers restart and some clocks are wrong. Prints what was done, and ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.stress.soak.ending import check_contents, check_secrets, check_swept
from runtimedb_dagster_tests.stress.soak.errors import sort
from runtimedb_dagster_tests.stress.soak.role import Setting
from runtimedb_dagster_tests.stress.soak.roles import PASSWORD_ENV, connect
from runtimedb_dagster_tests.stress.soak.run import Soak
from runtimedb_dagster_tests.stress.soak.source import OTHER, SHOP, prepare
from runtimedb_dagster_tests.stress.torture.system import Verdict
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, object_store_running
from runtimedb_dagster_tests.support.servers import PASSWORD, postgres

CATALOG = "soak"


def main() -> int:
    """Soak it, and show what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--storage", choices=("files", "s3"), default="files")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - no secrets
    parser.add_argument("--logs", type=Path, help="an existing directory where to leave the logs of the processes")
    arguments = parser.parse_args()
    console = Console(width=120)
    console.print(f"seed {arguments.seed}, {arguments.seconds:g} s, storage: {arguments.storage}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdb-soak-")))
        soak, bucket = _prepared(stack, directory, arguments)
        soak.run(arguments.seconds)
        verdict = _verdict(soak, bucket)
    return _show(console, soak, verdict)


def _prepared(stack: ExitStack, directory: Path, arguments: argparse.Namespace) -> tuple[Soak, Bucket | None]:
    source, catalog = stack.enter_context(postgres()), stack.enter_context(postgres())
    prepare(source)
    catalog.run(None, f"CREATE DATABASE {CATALOG}")
    bucket = Bucket(stack.enter_context(object_store_running()), CATALOG) if arguments.storage == "s3" else None
    environment = {
        "RUNTIMEDB_HOME": str(directory / "home"),
        "RUNTIMEDB_CATALOG_URL": catalog.catalog_url(CATALOG),
        "RUNTIMEDB_STORAGE_URL": bucket.url() if bucket else "",
        "RUNTIMEDB_GRACE_PERIOD": "1",
        # A sweep whose clock is a minute ahead must not end a lease that is renewed each minute.
        "RUNTIMEDB_READER_LEASE": "180",
        "RUNTIMEDB_THREADS": "1",
        "RUNTIMEDB_MEMORY_LIMIT": "1GB",
        PASSWORD_ENV: PASSWORD,
    }
    os.environ.update({**ENVIRONMENT, **environment})
    (directory / "beside").write_text("untouched", encoding="utf-8")
    with RuntimeDB(Settings()) as db:
        for name in (SHOP, OTHER):
            connect(Setting(db, source, random.Random(), threading.Event()), name)  # noqa: S311
            db.refresh_connection(name)
    return Soak(arguments.logs or directory, {"source": source, "catalog": catalog}, CATALOG, arguments.seed), bucket


def _verdict(soak: Soak, bucket: Bucket | None) -> Verdict:
    verdict, found = Verdict(), sort(soak.errors, soak.outages)
    verdict.checked += len(soak.errors)
    verdict.broken += [f"not expected: {met}" for met in found.unexpected]
    for flat in soak.watch.flatness():
        verdict.require(f"{flat.name} grows from {flat.second:.1f} to {flat.last:.1f}", flat.broken, False)
    opened = (
        soak.counts["readers", "long reader", "block opened"],
        soak.counts["readers", "long reader", "block ended well"],
    )
    verdict.require("I4, blocks that the long reader opened and ended", opened, (1, 1))
    with RuntimeDB(Settings()) as db:
        check_swept(db, bucket, verdict)
        check_contents(db, soak.servers["source"], verdict)
        beside = db.settings.home.parent / "beside"
        verdict.require("I6, the file beside", beside.read_text(encoding="utf-8"), "untouched")
    check_secrets(soak.servers["catalog"], CATALOG, soak.logs, verdict)
    return verdict


def _show(console: Console, soak: Soak, verdict: Verdict) -> int:
    table = Table("process", "role", "what", Column("count", justify="right"))
    for (process, role, what), count in sorted(soak.counts.items()):
        table.add_row(process, role, what, str(count))
    table.add_section()
    for (process, role, what), count in sorted(sort(soak.errors, soak.outages).expected.items()):
        table.add_row(process, role, f"error: {what}", str(count))
    table.add_section()
    for outage in soak.outages:
        table.add_row("", "", f"restart of the {outage.server}, {outage.end - outage.start:.1f} s", "1")
    table.add_row("", "", "versions that the long reader held in the end", str(soak.watch.held))
    table.add_row("", "", "errors and invariants checked", str(verdict.checked))
    table.add_row("", "", "violations", str(len(verdict.broken)))
    console.print(table)
    flat = Table(
        "median of a quarter of the run", *(Column(name, justify="right") for name in ("second", "last", "limit"))
    )
    for each in soak.watch.flatness():
        flat.add_row(each.name, f"{each.second:.1f}", f"{each.last:.1f}", f"{each.limit:.1f}")
    console.print(flat)
    for broken in verdict.broken:
        console.print(broken[:1000], style="red", markup=False)
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
