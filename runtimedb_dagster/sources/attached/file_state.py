"""What a database file is like, in so many bytes as any change of it would change.

The file itself is not opened here, see `elsewhere`; the log beside it is, for nobody locks that.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

from runtimedb_dagster.common.elsewhere import beginning_of
from runtimedb_dagster.domain.versions import Position

__all__ = ["duckdb_file", "sqlite_file"]

# Of a DuckDB file: its own header, and the two of the database, each with a number that counts checkpoints, of which
# the newer one is valid.
DUCKDB_HEADERS = 3 * 4096
# Of the log beside it, the end says what the last transaction was.
TAIL = 1 << 20

SQLITE_HEADER = 100
WRITE_VERSION, CHANGE_COUNTER = 18, slice(24, 28)
IN_WAL_MODE = 2
WAL_HEADER, FRAME_HEADER = 32, 24


def duckdb_file(path: Path) -> Position | None:
    """The state of a DuckDB file that is held open, so that nobody writes it; None if it can't be told.

    Whatever is committed is in the log beside it, or in a checkpoint, which changes a header.
    """
    try:
        found = path.stat()
        headers = beginning_of(path, DUCKDB_HEADERS)
        log = _log(path.with_name(path.name + ".wal"))
    except OSError:
        return None
    return {"by": "file", **_identity(found), "headers": _hashed(headers), "log": log}


def _log(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - TAIL, 0))
            return f"{size} {_hashed(file.read())}"
    except FileNotFoundError:
        return None


def sqlite_file(path: Path) -> Position | None:
    """The state of an SQLite file; None if it can't be told.

    With a rollback journal, each transaction counts itself in the header. With a log, the last of its frames has a
    checksum over all those before it; after the log is gone nothing in the header need tell of what it held, so
    `certain` is false there.
    """
    try:
        found = path.stat()
        header = beginning_of(path, SQLITE_HEADER)
        log = _frames(path.with_name(path.name + "-wal"), header)
    except OSError:
        return None
    if len(header) < SQLITE_HEADER:
        return None
    in_wal_mode = header[WRITE_VERSION] == IN_WAL_MODE
    return {
        "by": "sqlite",
        **_identity(found),
        "written": found.st_mtime_ns,
        "header": _hashed(header),
        "counter": int.from_bytes(header[CHANGE_COUNTER], "big"),
        "log": log,
        "certain": not in_wal_mode or log is not None,
    }


def _frames(path: Path, header: bytes) -> str | None:
    """Which frames of a log are valid, by its salts and the checksum of the last one; None without any."""
    try:
        with path.open("rb") as file:
            begins = file.read(WAL_HEADER)
            if len(begins) < WAL_HEADER:
                return None
            page = int.from_bytes(header[16:18], "big")
            step = FRAME_HEADER + (65_536 if page == 1 else page)
            number, last = 0, b""
            while len(frame := file.read(FRAME_HEADER)) == FRAME_HEADER and frame[8:16] == begins[16:24]:
                number, last = number + 1, frame
                file.seek(WAL_HEADER + number * step)
            # Frames without a commit after them are rolled back.
            return f"{number} {_hashed(begins + last)} {struct.unpack('>I', last[4:8])[0] if last else 0}"
    except FileNotFoundError:
        return None


def _identity(found: os.stat_result) -> dict[str, Any]:
    return {"device": found.st_dev, "inode": found.st_ino, "size": found.st_size}


def _hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
