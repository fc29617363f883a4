"""Moving a catalog, with its history, into another database."""

from __future__ import annotations

from sqlalchemy import func, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database
from runtimedb_dagster.errors import ConfigurationError

__all__ = ["copy_catalog"]

# What other processes have in hand; they begin again in the new catalog.
LEFT_BEHIND = {schema.leases, schema.refresh_slots, schema.clock}


def copy_catalog(source: Database, target: Database) -> dict[str, int]:
    """Copy every row of one catalog into another, which must hold nothing yet, in one transaction of each.

    Returns:
        How many rows each table had.

    Raises:
        ConfigurationError: the target holds connections already.
    """
    copied = {}
    with source.read() as here, target.write() as there:
        if there.execute(select(func.count()).select_from(schema.connections)).scalar_one():
            raise ConfigurationError("The new catalog holds connections already; nothing was copied")
        for table in schema.metadata.sorted_tables:
            if table not in LEFT_BEHIND:
                rows = [dict(row._mapping) for row in here.execute(select(table))]  # noqa: SLF001 - a public name
                if rows:
                    there.execute(insert(table), rows)
                copied[table.name] = len(rows)
        there.execute(update(schema.clock).values(value=here.execute(select(schema.clock.c.value)).scalar_one()))
    return copied
