"""mysqlclient's streaming cursor, batches of Arrow, and pyarrow's writer."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import MySQLdb
import MySQLdb.cursors
import pyarrow as pa
import pyarrow.parquet as pq
from peer import BATCH_ROWS, URL, run


def read(table: str, target: Path) -> None:
    """One table; its types are those that pyarrow finds in the first batch."""
    parts = urlsplit(URL)
    connection = MySQLdb.connect(
        host=parts.hostname, port=parts.port, user=parts.username, password=unquote(parts.password or ""),
        database=parts.path[1:], charset="utf8mb4", cursorclass=MySQLdb.cursors.SSCursor,
    )  # fmt: skip
    cursor = connection.cursor()
    cursor.execute(f"SELECT * FROM {table}")
    names, schema, writer = [each[0] for each in cursor.description], None, None
    while rows := cursor.fetchmany(BATCH_ROWS):
        arrays = [pa.array(column, None if schema is None else schema.field(i).type)
                  for i, column in enumerate(zip(*rows, strict=True))]  # fmt: skip
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
        if writer is None:
            schema, writer = batch.schema, pq.ParquetWriter(target, batch.schema, compression="zstd")
        writer.write_batch(batch)
    if writer:
        writer.close()
    connection.close()


run(read)
