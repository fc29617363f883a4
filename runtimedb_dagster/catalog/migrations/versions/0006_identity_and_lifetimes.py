"""Which catalog this is, so that its storage can know it; and how long claims were meant to last."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table with its row, and add the columns."""
    identity = op.create_table(
        "identity",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("catalog_id", sa.String(32), nullable=False),
        sa.Column("storage_marked", sa.Boolean, nullable=False),
        sa.Column("moved_to", sa.Text),
    )
    op.bulk_insert(identity, [{"id": 1, "catalog_id": uuid.uuid4().hex, "storage_marked": False, "moved_to": None}])
    op.add_column("leases", sa.Column("lifetime", sa.BigInteger))
    op.add_column("pending_deletions", sa.Column("lifetime", sa.BigInteger))
