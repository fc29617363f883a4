"""Data files have deletes files and an order, versions a position, tables what their last refresh did.

Processes of the release before would read rows that are deleted: they find no table of files by the name that they
know, and stop.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runtimedb_dagster.domain.errors import CatalogError

revision = "0008"
down_revision = "0007"

# Compared and ordered byte by byte, as SQLite does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Take what is there to the new form."""
    if op.get_bind().dialect.name == "postgresql":
        # In the order in which those who still use it take them.
        op.execute("LOCK TABLE connections, tables, pending_deletions, versions, version_files, leases, lake")
    op.create_table(
        "data_files",
        sa.Column("version_id", sa.String(32), nullable=False),
        sa.Column("path", NAME, nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sums", sa.Text),
        sa.Column("deletes_path", NAME, index=True),
        sa.Column("deletes_rows", sa.BigInteger),
        sa.Column("deletes_bytes", sa.BigInteger),
        sa.Column("deletes_sums", sa.Text),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_data_files"),
    )
    op.execute(
        "INSERT INTO data_files (version_id, path, number, rows, bytes) "
        "SELECT version_id, path, 0, rows, bytes FROM version_files"
    )
    op.drop_table("version_files")
    for column in (sa.Column("position", sa.JSON), sa.Column("hashed_by", sa.Text), sa.Column("trusts", sa.Text)):
        op.add_column("versions", column)
    for column in (
        sa.Column("refreshed", sa.JSON),
        sa.Column("audited_at", sa.BigInteger),
        sa.Column("distrusted", sa.Text),
    ):
        op.add_column("tables", column)


def downgrade() -> None:
    """Refuse."""
    raise CatalogError(
        "The catalog can't be taken back to the schema of an earlier release; restore the backup of the catalog that "
        "was made before the upgrade, together with the storage"
    )
