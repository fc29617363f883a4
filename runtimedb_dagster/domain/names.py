"""How things are called: a table's address, and every name that is derived from it or from a connection's.

Both sides of HTTP share these: the code location that defines jobs and sensors, and the command line that asks it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = [
    "AUDIT_JOB",
    "CONNECTION_NAME",
    "CONNECT_JOB",
    "DELETION_SWEEP",
    "PURGE_JOB",
    "REFRESH_JOB",
    "REMOVE_JOB",
    "RESERVED_NAMES",
    "RESULT",
    "ROW_COUNT",
    "VERIFY_JOB",
    "TableRef",
    "job_name",
    "sensor_name",
]

# What Dagster takes as part of a sensor's name and DuckDB, unquoted, as that of a database.
CONNECTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
# DuckDB has databases of these names itself.
RESERVED_NAMES = frozenset({"memory", "system", "temp"})

REFRESH_JOB, CONNECT_JOB, PURGE_JOB, REMOVE_JOB = "refresh", "connect", "purge", "remove"
AUDIT_JOB, VERIFY_JOB = "audit", "verify"
DELETION_SWEEP = "deletion_sweep"
# The label of the event that holds a run's result, and Dagster's own of a partition's rows.
RESULT = "result"
ROW_COUNT = "dagster/partition_row_count"


@dataclass(frozen=True, order=True, slots=True)
class TableRef:
    """A table's address: connection, schema and name, each to the letter."""

    connection: str
    schema_name: str
    table_name: str

    def __str__(self) -> str:
        """The full name as one writes it in SQL; parts that need it are quoted."""
        return ".".join(map(_as_written, (self.connection, self.schema_name, self.table_name)))

    @property
    def partition_key(self) -> str:
        """The key of this table among the connection's partitions.

        `schema.table`, where everything but letters, digits, `_` and `-` is percent-encoded UTF-8.
        Distinct tables have distinct keys, and `from_partition_key` takes it back.
        """
        return f"{_encode(self.schema_name)}.{_encode(self.table_name)}"

    @classmethod
    def from_partition_key(cls, connection: str, key: str) -> TableRef:
        """The table of a partition key.

        Raises:
            ValueError: the key is not of the form that `partition_key` makes.
        """
        schema, separator, table = key.partition(".")
        ref = cls(connection, unquote(schema, errors="strict"), unquote(table, errors="strict"))
        if not separator or ref.partition_key != key:
            raise ValueError(f"'{key}' is not a partition key of connection '{connection}'")
        return ref


def sensor_name(asset_prefix: str, connection: str) -> str:
    """The name of a connection's discovery sensor."""
    return f"{asset_prefix}_{connection}_discovery"


def job_name(asset_prefix: str, job: str) -> str:
    """The name of a job, such as `runtimedb_refresh`, of its op that takes the config, and of what starts it.

    Never the bare word: the project around has jobs of its own.
    """
    return f"{asset_prefix}_{job}"


def _as_written(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part) else '"' + part.replace('"', '""') + '"'


def _encode(part: str) -> str:
    # Of two names that look alike because they are composed differently, only one keeps its looks.
    composed = unicodedata.is_normalized("NFC", part)
    return "".join(char if _is_plain(char, composed=composed) else _percent(char) for char in part)


def _percent(char: str) -> str:
    # Not `quote`, which lets `.` and `~` stand.
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _is_plain(char: str, *, composed: bool) -> bool:
    if char.isascii():
        return char.isalnum() or char in "_-"
    return composed and char.isalnum()
