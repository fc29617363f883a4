"""Connections and their tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Compared and ordered byte by byte, as SQLite does; of letters' case it knows ASCII's only.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "connections",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        sa.Column("source_type", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("password_env", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("discovered_at", sa.BigInteger),
        sa.Column("discovery_error", sa.Text),
        sa.Column("discovery_generation", sa.BigInteger, nullable=False),
    )
    # Names that differ by case only are one name to DuckDB.
    op.create_index("uq_connections_name_folded", "connections", [sa.text("lower(name)")], unique=True)
    op.create_table(
        "tables",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("connection_id", sa.String(32), sa.ForeignKey("connections.id"), nullable=False),
        sa.Column("schema_name", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("primary_key", sa.JSON, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("estimated_rows", sa.BigInteger),
        sa.Column("discovered_at", sa.BigInteger, nullable=False),
        sa.Column("version_id", sa.String(32), unique=True),
        sa.UniqueConstraint("connection_id", "schema_name", "table_name", name="uq_tables_address"),
    )
