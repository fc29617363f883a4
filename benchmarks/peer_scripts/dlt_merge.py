"""dlt's sql_table, incremental by `updated_at`, merged by key into a DuckDB file."""

import sys
from pathlib import Path

import dlt
import duckdb
from dlt.sources.sql_database import sql_table
from peer import OUT, URL
from sqlalchemy import create_engine
from writers import follow

TABLE, ROWS = sys.argv[2], int(sys.argv[3])
FILE = Path(OUT) / "followed.duckdb"


def refresh() -> None:
    """Load what has a newer time."""
    OUT.mkdir(parents=True, exist_ok=True)
    pipeline = dlt.pipeline(
        "followed",
        pipelines_dir=str(OUT / "pipelines"),
        destination=dlt.destinations.duckdb(str(FILE)),
        dataset_name="tables",
    )
    engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg2:", 1))
    newer = dlt.sources.incremental("updated_at")
    table = sql_table(engine, TABLE, incremental=newer, backend="pyarrow", reflection_level="full_with_precision")
    table.apply_hints(primary_key="id", write_disposition="merge")
    pipeline.run(table).raise_on_failed_jobs()


def held() -> dict[int, str]:
    """What the file has."""
    with duckdb.connect(str(FILE)) as duck:
        return dict(duck.execute(f"SELECT id, l_comment FROM tables.{TABLE}").fetchall())


follow(URL, TABLE, ROWS, refresh, held)
