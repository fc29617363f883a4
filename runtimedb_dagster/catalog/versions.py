"""Versions in the catalog: content that never changes, as rows and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Label, Row, Select, bindparam, delete, exists, insert, select
from sqlalchemy import Connection as Transaction

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.versions import DataFile, Version

__all__ = ["add_version", "forget_versions", "get_version", "paths_of", "selected_columns", "version_of"]

_versions, _files = schema.versions.c, schema.version_files.c
ADD = insert(schema.versions)
ADD_FILE = insert(schema.version_files)
PATHS: Select[Any] = select(_files.path).where(_files.version_id == bindparam("version"))

VERSION, FILE = "version_row_", "file_"


def selected_columns() -> list[Label[Any]]:
    """What a SELECT over both tables of versions needs for `version_of`, by names that no other table has."""
    return [*_labelled(_versions, VERSION), *_labelled((_files.path, _files.rows, _files.bytes), FILE)]


def version_of(rows: Sequence[Row[Any]]) -> Version:
    """A version from its rows, one for each file."""
    first = rows[0]
    return Version(
        id=first.version_row_id,
        files=tuple(DataFile(row.file_path, row.file_rows, row.file_bytes) for row in rows),
        rows=first.version_row_rows,
        columns=tuple(VersionColumn.from_dict(column) for column in first.version_row_columns),
        fingerprint=first.version_row_fingerprint,
        recipe=first.version_row_recipe,
        created_at=first.version_row_created_at,
        duration_ms=first.version_row_duration_ms,
    )


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
        },
    )
    for file in version.files:
        row = {"version_id": version.id, "path": file.path, "rows": file.rows, "bytes": file.bytes}
        tx.execute(ADD_FILE, row)


def get_version(tx: Transaction, version_id: str) -> Version:
    """A version, by its id."""
    versions, files = schema.versions, schema.version_files
    query = select(*selected_columns()).join_from(versions, files, files.c.version_id == versions.c.id)
    return version_of(tx.execute(query.where(versions.c.id == version_id).order_by(files.c.path)).all())


def paths_of(tx: Transaction, version_id: str) -> list[str]:
    """The paths of a version's files."""
    return list(tx.execute(PATHS, {"version": version_id}).scalars())


def forget_versions(tx: Transaction, paths: Sequence[str]) -> None:
    """Forget the versions of files that are gone, unless they are current, with their publications."""
    versions, files, publications = schema.versions, schema.version_files, schema.publications
    mine = publications.c.version_id == files.c.version_id
    current = exists().where(mine, publications.c.until_sequence.is_(None))
    having = select(files.c.version_id).where(files.c.path.in_(paths), ~current)
    gone = tx.execute(having).scalars().all()
    if gone:
        tx.execute(delete(publications).where(publications.c.version_id.in_(gone)))
        tx.execute(delete(files).where(files.c.version_id.in_(gone)))
        tx.execute(delete(versions).where(versions.c.id.in_(gone)))


def _labelled(columns: Iterable[Column[Any]], prefix: str) -> list[Label[Any]]:
    return [column.label(prefix + column.name) for column in columns]
