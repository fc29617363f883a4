"""What must hold when a soak has ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.catalog import schema
from runtimedb_dagster.domain.outcomes import Failed
from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.stress.soak.readers import number_in
from runtimedb_dagster_tests.stress.soak.source import SHOP
from runtimedb_dagster_tests.stress.torture.system import Verdict
from runtimedb_dagster_tests.support.parts import long_after, path_of, refreshed
from runtimedb_dagster_tests.support.s3 import Bucket
from runtimedb_dagster_tests.support.servers import PASSWORD, Server

__all__ = ["check_contents", "check_secrets", "check_swept"]

CANARY = PASSWORD.split("!", maxsplit=1)[0]  # the part that no quoting changes


def check_swept(db: RuntimeDB, bucket: Bucket | None, verdict: Verdict) -> None:
    """I1 to I3, and I5 after a sweep past the write lease."""
    verdict.require("I1, I2, I3 at the end", db.verify(deep=True), [])
    db.sweep(long_after(db.settings))
    verdict.require("I1, I2, I3 after the sweep", db.verify(deep=True), [])
    live = {path_of(table.version) for table in db.tables() if table.version}
    root = db.settings.home / "storage"
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()} - {MARKER}
    found = bucket.keys() if bucket else files
    verdict.require("I5, orphans", sorted(found - live), [])
    verdict.require("I5, lost files", sorted(live - found), [])
    verdict.require("I5, unfinished uploads", bucket.uploads() if bucket else set(), set())
    verdict.require("I5, pending deletions", db.pending_deletions(), [])
    staged = [path for path in (db.settings.home / "staging").rglob("*") if path.is_file()]
    verdict.require("I5, staged files", staged, [])
    verdict.require("rows of versions", _count(db, "versions"), len(live))
    verdict.require("rows of leases", _count(db, "leases"), 0)


def check_contents(db: RuntimeDB, source: Server, verdict: Verdict) -> None:
    """I8: whatever was suffered, each table can be discovered, refreshed and read now, and is the source's."""
    db.discover(SHOP)
    outcomes = refreshed(db, db.tables(SHOP), SHOP)
    verdict.require("the last refresh", [str(each.error) for each in outcomes if isinstance(each, Failed)], [])
    with db.query() as query:
        for outcome in outcomes:
            table = f"{outcome.ref.schema_name}.{outcome.ref.table_name}"
            ((number,),) = source.run(SHOP, f"SELECT min(n)::bigint FROM {table}")
            verdict.require(f"the rows of {table}", number_in(query, table), number)


def check_secrets(catalog: Server, database: str, logs: Iterable[Path], verdict: Verdict) -> None:
    """I7: the password is neither in a log, nor in the catalog."""
    for log in logs:
        verdict.require(f"I7, {log.name}", CANARY in log.read_text(encoding="utf-8", errors="replace"), False)
    for table in schema.metadata.tables:
        rows = catalog.run(database, f"SELECT t::text FROM {table} t")
        verdict.require(f"I7, the catalog's table {table}", [row for (row,) in rows if CANARY in row], [])


def _count(db: RuntimeDB, table: str) -> int:
    with db.engine.catalog._database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(schema.metadata.tables[table])).scalar_one())
