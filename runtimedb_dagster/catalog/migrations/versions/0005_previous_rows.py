"""How many rows the version before had, to notice a table that collapses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("versions", sa.Column("previous_rows", sa.BigInteger))
