"""Moving a catalog, with its history, into another database."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, require_here
from runtimedb_dagster.errors import ConfigurationError

__all__ = ["move_catalog"]

# A queue of processes that begin again in the new catalog; and what each catalog has one row of.
LEFT_BEHIND = {schema.refresh_slots, schema.clock, schema.identity}


def move_catalog(source: Database, target: Database) -> dict[str, int]:
    """Move every row of one catalog into another, which must hold nothing yet, in one transaction of each.

    The old catalog loses its clock, and with it the ability to change anything: whoever still uses it is told where to
    the catalog went. Readers' leases go along, so what is being read stays until they expire.

    Returns:
        How many rows each table had.

    Raises:
        ConfigurationError: the target holds connections already.
        CatalogMovedError: the source was moved before.
    """
    copied = {}
    with target.write() as there:
        if there.execute(select(func.count()).select_from(schema.connections)).scalar_one():
            raise ConfigurationError("The new catalog holds connections already; nothing was copied")
        with source.write() as here:
            # Whoever is about to take a number waits, and finds none.
            here.execute(select(schema.clock.c.value).with_for_update())
            number = require_here(here)
            for table in schema.metadata.sorted_tables:
                if table not in LEFT_BEHIND:
                    rows = [dict(row._mapping) for row in here.execute(select(table))]  # noqa: SLF001 - a public name
                    if rows:
                        there.execute(insert(table), rows)
                    copied[table.name] = len(rows)
            there.execute(update(schema.clock).values(value=number))
            # It takes the storage over under its own name.
            there.execute(update(schema.identity).values(storage_marked=False))
            here.execute(delete(schema.clock))
            here.execute(update(schema.identity).values(moved_to=target.url))
    return copied
