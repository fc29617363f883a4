"""A version is content, a set of files; a publication says when it was a table's. Recipes, and one row about the whole.

Processes of the release before find the clock without its row, and stop: they are given what is in `identity.moved_to`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from runtimedb_dagster.domain.errors import CatalogError

revision = "0007"
down_revision = "0006"

BATCH = 500
# What a process of the release before says of where its catalog was moved to.
TOMBSTONE = "the form of a newer release, in the same place: upgrade RuntimeDB for this process and restart it; not"
MASKED = "masked: "
# Compared and ordered byte by byte, as SQLite does; of letters' case it knows ASCII's only.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

before = sa.table(
    "versions_before",
    *(sa.column(name) for name in ("id", "connection_id", "schema_name", "table_name", "path", "generation")),
    *(sa.column(name) for name in ("published_at_sequence", "retired_at_sequence", "previous_rows", "rows", "bytes")),
    sa.column("columns", sa.JSON),
    *(sa.column(name) for name in ("fingerprint", "created_at", "checked_at", "duration_ms")),
)
tables = sa.table("tables", sa.column("id"), sa.column("columns", sa.JSON))


def upgrade() -> None:
    """Take what is there to the new form."""
    if op.get_bind().dialect.name == "postgresql":
        # In the order in which those who still use it take them.
        op.execute("LOCK TABLE connections, tables, pending_deletions, versions, leases, clock, identity")
    op.rename_table("versions", "versions_before")
    op.drop_index("ix_versions_address", table_name="versions_before")
    versions, files, publications = _made()
    for rows in _batches(before):
        op.bulk_insert(versions, [_version(row) for row in rows])
        op.bulk_insert(files, [_file(row) for row in rows])
        op.bulk_insert(publications, [_publication(row) for row in rows])
    _extend_tables()
    op.drop_table("versions_before")
    _join_clock_and_identity()


def downgrade() -> None:
    """Refuse."""
    raise CatalogError(
        "The catalog can't be taken back to the schema of an earlier release; restore the backup of the catalog that "
        "was made before the upgrade, together with the storage"
    )


def _made() -> tuple[sa.Table, sa.Table, sa.Table]:
    versions = op.create_table(
        "versions",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("recipe", sa.String(32)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
    )
    files = op.create_table(
        "version_files",
        sa.Column("version_id", sa.String(32), nullable=False),
        sa.Column("path", NAME, nullable=False, index=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_files"),
    )
    publications = op.create_table(
        "publications",
        sa.Column("version_id", sa.String(32), nullable=False),
        sa.Column("connection_id", sa.String(32), nullable=False),
        sa.Column("schema_name", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("from_sequence", sa.BigInteger, nullable=False),
        sa.Column("until_sequence", sa.BigInteger),
        sa.Column("previous_rows", sa.BigInteger),
        sa.PrimaryKeyConstraint("version_id", "from_sequence", name="pk_publications"),
    )
    op.create_index("ix_publications_address", "publications", ["connection_id", "schema_name", "table_name"])
    return versions, files, publications


def _extend_tables() -> None:
    for name, kind in (("recipe", sa.String(32)), ("checked_at", sa.BigInteger), ("checked_sequence", sa.BigInteger)):
        op.add_column("tables", sa.Column(name, kind))
    op.execute(
        "UPDATE tables SET checked_at = (SELECT v.checked_at FROM versions_before v WHERE v.id = version_id), "
        "checked_sequence = (SELECT v.generation FROM versions_before v WHERE v.id = version_id)"
    )
    change = sa.update(tables).where(tables.c.id == sa.bindparam("row")).values(columns=sa.bindparam("new"))
    for rows in _batches(tables):
        op.get_bind().execute(change, [{"row": row["id"], "new": _source_columns(row["columns"])} for row in rows])
    op.execute("ALTER TABLE connections RENAME COLUMN discovery_generation TO discovery_sequence")


def _join_clock_and_identity() -> None:
    op.create_table(
        "lake",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("catalog_id", sa.String(32), nullable=False),
        sa.Column("storage_marked", sa.Boolean, nullable=False),
        sa.Column("moved_to", sa.Text),
        sa.Column("moved_from", sa.String(32)),
        sa.Column("sequence", sa.BigInteger),
    )
    op.execute(
        "INSERT INTO lake (id, catalog_id, storage_marked, moved_to, sequence) SELECT 1, catalog_id, storage_marked, "
        "moved_to, (SELECT value FROM clock) FROM identity"
    )
    op.execute("DELETE FROM clock")
    op.execute(
        sa.text("UPDATE identity SET moved_to = :tombstone WHERE moved_to IS NULL").bindparams(tombstone=TOMBSTONE)
    )


def _batches(table: Any) -> Iterator[list[dict[str, Any]]]:
    """Rows, some hundred at a time, by their ids."""
    last = ""
    while True:
        query = sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(BATCH)
        rows = [dict(row._mapping) for row in op.get_bind().execute(query)]  # noqa: SLF001 - a public name
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


def _version(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("id", "rows", "fingerprint", "created_at", "duration_ms")}
    return {**kept, "recipe": None, "columns": [_version_column(column) for column in row["columns"]]}


def _file(row: dict[str, Any]) -> dict[str, Any]:
    return {"version_id": row["id"], "path": row["path"], "rows": row["rows"], "bytes": row["bytes"]}


def _publication(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("connection_id", "schema_name", "table_name", "previous_rows")}
    sequences = {"from_sequence": row["published_at_sequence"], "until_sequence": row["retired_at_sequence"]}
    return {"version_id": row["id"], **kept, **sequences}


def _version_column(column: dict[str, Any]) -> dict[str, Any]:
    declared = column.get("declared") or ""
    mask = declared.removeprefix(MASKED) if declared.startswith(MASKED) else None
    kept = {name: column.get(name) for name in ("name", "type", "nullable", "comment", "source_type")}
    return {**kept, "declared": None if mask else column.get("declared"), "mask": mask}


def _source_columns(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: column[name] for name in ("name", "type", "nullable", "comment")} for column in columns]
