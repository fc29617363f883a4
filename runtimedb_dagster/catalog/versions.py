"""Versions in the catalog: content that never changes, as rows and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Label, Row, Select, bindparam, delete, exists, insert, or_, select
from sqlalchemy import Connection as Transaction

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.versions import DataFile, DeletesFile, Sums, Version

__all__ = ["add_version", "forget_versions", "get_version", "having_any", "paths_of", "selected_columns", "version_of"]

_versions, _files = schema.versions.c, schema.data_files.c
ADD = insert(schema.versions)
ADD_FILE = insert(schema.data_files)
PATHS: Select[Any] = select(_files.path, _files.deletes_path).where(_files.version_id == bindparam("version"))

VERSION, FILE = "version_row_", "file_"


def selected_columns() -> list[Label[Any]]:
    """What a SELECT over both tables of versions needs for `version_of`, by names that no other table has."""
    return [
        *_labelled(_versions, VERSION),
        *_labelled((column for column in _files if column.name not in ("version_id", "number")), FILE),
    ]


def version_of(rows: Sequence[Row[Any]]) -> Version:
    """A version from its rows, one for each data file, the oldest first."""
    first = rows[0]
    return Version(
        id=first.version_row_id,
        files=tuple(_file_of(row) for row in rows),
        rows=first.version_row_rows,
        columns=tuple(VersionColumn.from_dict(column) for column in first.version_row_columns),
        fingerprint=first.version_row_fingerprint,
        recipe=first.version_row_recipe,
        created_at=first.version_row_created_at,
        duration_ms=first.version_row_duration_ms,
        position=first.version_row_position,
        hashed_by=first.version_row_hashed_by,
        trusts=first.version_row_trusts,
    )


def _file_of(row: Row[Any]) -> DataFile:
    deletes = None
    if row.file_deletes_path is not None:
        sums = Sums.parse(row.file_deletes_sums)
        deletes = DeletesFile(row.file_deletes_path, row.file_deletes_rows, row.file_deletes_bytes, sums)
    return DataFile(row.file_path, row.file_rows, row.file_bytes, Sums.parse(row.file_sums), deletes)


def add_version(tx: Transaction, version: Version) -> None:
    """Add a version with its files."""
    tx.execute(
        ADD,
        {
            "id": version.id,
            "rows": version.rows,
            "columns": [column.to_dict() for column in version.columns],
            "fingerprint": version.fingerprint,
            "recipe": version.recipe,
            "created_at": version.created_at,
            "duration_ms": version.duration_ms,
            "position": version.position,
            "hashed_by": version.hashed_by,
            "trusts": version.trusts,
        },
    )
    tx.execute(ADD_FILE, [_row_of(version, number, file) for number, file in enumerate(version.files)])


def _row_of(version: Version, number: int, file: DataFile) -> dict[str, Any]:
    deletes = file.deletes
    return {
        "version_id": version.id,
        "path": file.path,
        "number": number,
        "rows": file.rows,
        "bytes": file.bytes,
        "sums": str(file.sums) if file.sums else None,
        "deletes_path": deletes and deletes.path,
        "deletes_rows": deletes and deletes.rows,
        "deletes_bytes": deletes and deletes.bytes,
        "deletes_sums": str(deletes.sums) if deletes and deletes.sums else None,
    }


def get_version(tx: Transaction, version_id: str) -> Version:
    """A version, by its id."""
    versions, files = schema.versions, schema.data_files
    query = select(*selected_columns()).join_from(versions, files, files.c.version_id == versions.c.id)
    return version_of(tx.execute(query.where(versions.c.id == version_id).order_by(files.c.number)).all())


def paths_of(tx: Transaction, version_id: str) -> list[str]:
    """The paths of a version's files."""
    return [path for row in tx.execute(PATHS, {"version": version_id}) for path in row if path is not None]


def having_any(paths: Sequence[str]) -> ColumnElement[bool]:
    """SQL that is true for a row of `data_files` that has one of some files."""
    return or_(_files.path.in_(paths), _files.deletes_path.in_(paths))


def forget_versions(tx: Transaction, paths: Sequence[str]) -> None:
    """Forget the versions of files that are gone, unless they are current, with their publications."""
    versions, files, publications = schema.versions, schema.data_files, schema.publications
    mine = publications.c.version_id == files.c.version_id
    current = exists().where(mine, publications.c.until_sequence.is_(None))
    gone = tx.execute(select(files.c.version_id).where(having_any(paths), ~current)).scalars().all()
    if gone:
        tx.execute(delete(publications).where(publications.c.version_id.in_(gone)))
        tx.execute(delete(files).where(files.c.version_id.in_(gone)))
        tx.execute(delete(versions).where(versions.c.id.in_(gone)))


def _labelled(columns: Iterable[Column[Any]], prefix: str) -> list[Label[Any]]:
    return [column.label(prefix + column.name) for column in columns]
