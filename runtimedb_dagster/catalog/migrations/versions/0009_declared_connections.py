"""Connections know where they are declared, if they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from runtimedb_dagster.domain.errors import CatalogError

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Take what is there to the new form."""
    op.add_column("connections", sa.Column("declared_in", sa.Text))


def downgrade() -> None:
    """Refuse."""
    raise CatalogError(
        "The catalog can't be taken back to the schema of an earlier release; restore the backup of the catalog that "
        "was made before the upgrade, together with the storage"
    )
