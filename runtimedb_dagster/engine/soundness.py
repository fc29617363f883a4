"""Whether the files of a version are still there, and what was written."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import StorageError
from runtimedb_dagster.domain.versions import NO_SUMS, DataFile, DeletesFile, Version
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.fingerprint import content, fingerprint, is_comparable, scan
from runtimedb_dagster.query.live import live_rows, scan_of
from runtimedb_dagster.storage import Storage

__all__ = ["difference", "lost_or_torn", "problem"]

logger = logging.getLogger(__name__)


def lost_or_torn(storage: Storage, versions: Sequence[Version]) -> set[str]:
    """The ids of those versions of which a file is not there, or of another size; asked of all at once."""
    sizes = storage.sizes([path for version in versions for path in version.paths])
    return {version.id for version in versions for file in version.all_files if sizes.get(file.path) != file.bytes}


def problem(storage: Storage, reader: FileReader, version: Version) -> str | None:
    """What is wrong with a version's files by their sizes and footers; None if nothing is."""
    try:
        with reader.stored() as duck:
            found = next(filter(None, (_problem(duck, storage, file) for file in version.all_files)), None)
    except StorageError as error:
        return str(error)
    live = sum(file.live_rows for file in version.files)
    if found is None and live != version.rows:
        return f"its files hold {live} rows that are part of it, the catalog says {version.rows}"
    return found


def difference(storage: Storage, reader: FileReader, version: Version) -> str | None:
    """What a version, read whole, has that was not written; None if nothing, or if that is unknown."""
    rows, total, writers = 0, NO_SUMS, set[str]()
    with reader.stored() as duck:
        for file in version.files:
            location = storage.location(file.path)
            try:
                writers.add(_footer(duck, location)[0])
                (live,) = live_rows([file], storage.location)
                found, sums = content(duck.sql(live), version.columns)
                if file.deletes and (what := _misplaced(duck, storage, file, file.deletes)):
                    return what
            except duckdb.Error as error:
                return f"{location} can't be read: {first_line(error)}"
            if found != file.live_rows:
                return f"{location} holds {found} rows, the catalog says {file.live_rows}"
            rows, total = rows + found, total + sums
        made = fingerprint(scan(duck, storage.location(version.files[0].path)), version.columns, rows, total)
    return None if made == version.fingerprint else _other_values(storage, version, writers)


def _other_values(storage: Storage, version: Version, writers: Collection[str]) -> str | None:
    locations = " and ".join(storage.location(path) for path in version.paths)
    hashed_by = version.hashed_by and f"DuckDB {version.hashed_by}"
    other = "an earlier release" if not is_comparable(version.fingerprint) else None
    if version.hashed_by not in (None, duckdb.__version__):
        other = hashed_by
    elif version.hashed_by is None:
        other = other or next(filter(None, map(_other_version, sorted(writers))), None)
    if other:
        logger.warning("%s was read whole, but its values can't be compared: %s wrote it", locations, other)
        return None
    verb = "hold" if len(version.paths) > 1 else "holds"
    return f"{locations} {verb} other values or columns than were written"


def _misplaced(duck: duckdb.DuckDBPyConnection, storage: Storage, file: DataFile, deletes: DeletesFile) -> str | None:
    """What a deletes file has beside positions of its data file, each once."""
    query = f"SELECT count(DISTINCT pos), min(pos), max(pos) FROM {scan_of([storage.location(deletes.path)])}"
    ((distinct, first, last),) = duck.execute(query).fetchall()
    if distinct == deletes.rows and first >= 0 and last < file.rows:
        return None
    return f"{storage.location(deletes.path)} does not hold {deletes.rows} positions of {file.rows} rows"


def _problem(duck: duckdb.DuckDBPyConnection, storage: Storage, file: DataFile | DeletesFile) -> str | None:
    location = storage.location(file.path)
    try:
        _, size, rows = _footer(duck, location)
    except duckdb.Error as error:
        return f"{location} is not a readable Parquet file: {first_line(error)}"
    if size != file.bytes:
        return f"{location} is of {size} bytes, the catalog says {file.bytes}"
    return None if rows == file.rows else f"{location} holds {rows} rows, the catalog says {file.rows}"


def _footer(duck: duckdb.DuckDBPyConnection, location: str) -> tuple[str, int, int]:
    """Who wrote a file, its size in bytes, and the rows that its footer promises."""
    asked = f"SELECT created_by, file_size_bytes, num_rows FROM parquet_file_metadata({literal(location)})"
    ((writer, size, rows),) = duck.execute(asked).fetchall()
    return str(writer), int(size), int(rows)


def _other_version(writer: str) -> str | None:
    """The writer of a file, if it is another version of DuckDB."""
    return writer if writer.startswith("DuckDB version ") and f"v{duckdb.__version__} " not in writer else None
