"""The path of a version: readable for plain names, safe for all."""

from __future__ import annotations

import hashlib
import re

__all__ = ["MARKER", "deletes_path", "is_safe", "version_path"]

# Beside the folders of connections; no path of a version begins with a point.
MARKER = ".runtimedb-catalog"
PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")
SAFE_PART = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,254}")


def version_path(connection_id: str, schema_name: str, table_name: str, version_id: str) -> str:
    """`{connection_id}/{schema}/{table}/{table}_v{version}.parquet`, every part of safe characters."""
    schema, table = _part(schema_name), _part(table_name)
    return f"{connection_id}/{schema}/{table}/{table}_v{version_id}.parquet"


def deletes_path(path: str, number: int) -> str:
    """The path of a deletes file of the version whose own data file is, or would be, at `path`."""
    return f"{path.removesuffix('.parquet')}.deletes{number}.parquet"


def is_safe(path: str) -> bool:
    """Whether a path from the catalog is relative and of safe parts only: no `..`, no glob, no scheme."""
    return all(SAFE_PART.fullmatch(part) for part in path.split("/"))


def _part(name: str) -> str:
    """A plain lower-case name as it is; else what is readable of it and a hash that keeps names distinct.

    Upper case gets the hash too: `T1` and `t1` are one directory on some file systems.
    """
    if PLAIN.fullmatch(name):
        return name
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40]
    return f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
