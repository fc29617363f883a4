"""A refresh into S3, against the same into a directory and the upload of the same file."""

from __future__ import annotations

import os
import subprocess

from benchmarks.measure import Goal, Section, alternate
from benchmarks.peers import DUCKDB_SAME
from benchmarks.world import World
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT, Bucket, object_store_running

READ, UPLOAD, OURS = "refresh into a directory", "upload of its file alone", "refresh into S3"


def measure(world: World) -> Section:
    """Lineitem from PostgreSQL into SeaweedFS."""
    url = world.postgres_lineitem
    copy = DUCKDB_SAME.side(url, world.directory / "uploaded", "lineitem")
    subprocess.run(copy.command, env={**os.environ, **copy.environment}, check=True, stdout=subprocess.DEVNULL)
    (file,) = (world.directory / "uploaded").rglob("lineitem.parquet")
    with object_store_running() as store:
        storage = Bucket(store, "bench").url()
        sides = [
            world.ours(READ, "refresh", url, "lineitem"),
            world.ours(UPLOAD, "upload", file, store.endpoint),
            world.ours(OURS, "refresh", url, "lineitem", BENCH_STORAGE=storage, **ENVIRONMENT),
        ]
        trial = alternate("lineitem into S3", sides, world.repeat)
    ratio = trial.of(OURS).median / (trial.of(READ).median + trial.of(UPLOAD).median)
    goal = Goal.at_most("s3", "refresh", ratio, 1.15, "of read + upload")
    return Section(
        "S3", f"From PostgreSQL into SeaweedFS; its file has {file.stat().st_size >> 20} MB.", [trial], [goal]
    )
