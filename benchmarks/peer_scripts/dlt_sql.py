"""dlt's sql_database into its filesystem destination, with the backend in BENCH_BACKEND."""

import os
from pathlib import Path

import dlt
from dlt.sources.sql_database import sql_database, sql_table
from peer import BATCH_ROWS, OUT, URL, run
from sqlalchemy import create_engine

BACKEND = os.environ["BENCH_BACKEND"]
DRIVERS = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql"}
SCHEME = URL.partition(":")[0]
CREDENTIALS = URL.replace(SCHEME, DRIVERS.get(SCHEME, SCHEME), 1)
OPTIONS = {
    "connectorx": {"backend_kwargs": {"conn": URL, "return_type": "arrow_stream", "batch_size": BATCH_ROWS}},
    "pyarrow": {},
}[BACKEND] | {"backend": BACKEND, "chunk_size": BATCH_ROWS, "reflection_level": "full_with_precision"}


def read(table: str, target: Path) -> None:
    """One table, or all of them in one pipeline if it is `*`."""
    pipeline = dlt.pipeline(
        f"bench_{table.replace('*', 'all')}",
        pipelines_dir=str(OUT / "pipelines"),
        destination=dlt.destinations.filesystem(f"file://{target.parent}/dlt"),
        dataset_name="tables",
    )
    # One engine, and one table after the other: left alone, dlt keeps a connection per table, and 1,000 are too many.
    os.environ["EXTRACT__NEXT_ITEM_MODE"] = "fifo"
    engine = create_engine(CREDENTIALS)
    source = sql_database(engine, **OPTIONS) if table == "*" else sql_table(engine, table, **OPTIONS)
    pipeline.run(source, loader_file_format="parquet", write_disposition="replace").raise_on_failed_jobs()


run(read)
