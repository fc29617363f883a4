"""ADBC's stream of batches, and pyarrow's writer."""

from pathlib import Path

import pyarrow.parquet as pq
from peer import URL, run

TABLES = """
    SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1
"""


def connect():  # noqa: ANN201 - of a library without types
    """As the URL says."""
    path = URL.partition(":///")[2]
    if URL.startswith("postgresql"):
        import adbc_driver_postgresql.dbapi as driver

        return driver.connect(URL)
    if URL.startswith("sqlite"):
        import adbc_driver_sqlite.dbapi as driver

        return driver.connect(path)
    import adbc_driver_duckdb.dbapi as driver

    return driver.connect(path)


def read(table: str, target: Path) -> None:
    """One table, or all of them one after the other if it is `*`."""
    with connect() as connection, connection.cursor() as cursor:
        names = [table]
        if table == "*":
            cursor.execute(TABLES)
            names = cursor.fetch_arrow_table().column(0).to_pylist()
        for name in names:
            cursor.execute(f"SELECT * FROM {name}")
            with cursor.fetch_record_batch() as batches:
                file = target.with_name(f"{name}.parquet")
                with pq.ParquetWriter(file, batches.schema, compression="zstd", compression_level=1) as writer:
                    for batch in batches:
                        writer.write_batch(batch)


run(read)
