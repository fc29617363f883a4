"""Alembic's entry: runs the revisions inside the transaction that `migrate` has begun."""

from __future__ import annotations

from alembic import context

# The transaction is the caller's, so Alembic must neither begin nor commit one.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
