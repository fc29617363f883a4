"""Pending deletions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Compared byte by byte, as SQLite does.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "pending_deletions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("path", NAME, nullable=False, unique=True),
        sa.Column("delete_after", sa.BigInteger, nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("table_full_name", sa.Text, nullable=False),
        sa.Column("retired_at_sequence", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("claimed_by", sa.String(32)),
        sa.Column("claimed_until", sa.BigInteger),
    )
