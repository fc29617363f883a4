"""connectorx into Arrow, and pyarrow from there into Parquet; parallel where there is a column to divide by."""

from pathlib import Path

import connectorx
import pyarrow.parquet as pq
from peer import URL, run

DIVIDED = {"lineitem": {"partition_on": "l_orderkey", "partition_num": 2}}


def read(table: str, target: Path) -> None:
    """One table, whole in memory, as connectorx has it where it reads in parallel."""
    options = DIVIDED.get(table, {})
    protocol = {"protocol": "binary"} if URL.startswith(("postgresql", "mysql")) else {}
    found = connectorx.read_sql(URL, f"SELECT * FROM {table}", return_type="arrow", **protocol, **options)
    pq.write_table(found, target, compression="zstd", compression_level=1)


run(read)
