"""Moving a catalog, with its history, into another database."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, moved
from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["is_moving", "move_catalog"]

# A queue of processes that begin again in the new catalog; and what each catalog has one row of.
LEFT_BEHIND = {schema.refresh_slots, schema.lake}


def is_moving(source: Database, target: Database) -> bool:
    """Whether a move of `source` into `target` was begun and did not come to its end, which is an adopted storage."""
    with source.read() as here, target.read() as there:
        marked = there.execute(select(schema.lake.c.storage_marked)).scalar_one()
        return _is_to(here, target) and not (marked and _is_from(there, here))


def move_catalog(source: Database, target: Database) -> dict[str, int]:
    """Move every row of one catalog into another, which must hold nothing yet, in one transaction of each.

    The old catalog loses its clock, and with it the ability to change anything: whoever still uses it learns where the
    catalog went. Readers' leases go along, so what is being read stays until they expire. That commits first, so
    there are never two catalogs that can change; a move that ends before the rows are in the new one is begun again.
    Whether they are there is a fact of the new one, written with them.

    Returns:
        How many rows each table had.

    Raises:
        ConfigurationError: the target holds connections, or files to be deleted, already.
        CatalogMovedError: the source was moved before, elsewhere.
    """
    with target.write() as there, source.write() as here:
        # Whoever is about to take a number waits, and finds none.
        number = here.execute(select(schema.lake.c.sequence).with_for_update()).scalar()
        if number is None and not _is_to(here, target):
            raise moved(here)
        if _is_from(there, here):
            return _counted(here)
        _require_empty(there)
        copied = _copy(here, there)
        # It takes the storage over under its own name.
        sequence = _highest(here) if number is None else number
        begun = {"sequence": sequence, "storage_marked": False, "moved_from": _id_of(here)}
        there.execute(update(schema.lake).values(begun))
        here.execute(update(schema.lake).values(sequence=None, moved_to=target.url))
    return copied


def _is_to(here: Connection, target: Database) -> bool:
    return here.execute(select(schema.lake.c.moved_to)).scalar() == target.url


def _is_from(there: Connection, here: Connection) -> bool:
    return there.execute(select(schema.lake.c.moved_from)).scalar() == _id_of(here)


def _id_of(here: Connection) -> str:
    return str(here.execute(select(schema.lake.c.catalog_id)).scalar_one())


def _require_empty(there: Connection) -> None:
    for table, what, how in (
        (schema.connections, "connections", "`runtimedb remove` them there"),
        (schema.pending_deletions, "files to be deleted", "`runtimedb sweep` there, with the storage that they are in"),
    ):
        if there.execute(select(func.count()).select_from(table)).scalar_one():
            raise ConfigurationError(
                f"The new catalog holds {what} already; nothing was copied; {how}, or name an empty database, and "
                "give the command again"
            )


def _copy(here: Connection, there: Connection) -> dict[str, int]:
    copied = {}
    for table in schema.metadata.sorted_tables:
        if table not in LEFT_BEHIND:
            rows = [dict(row._mapping) for row in here.execute(select(table))]  # noqa: SLF001 - a public name
            if rows:
                there.execute(insert(table), rows)
            copied[table.name] = len(rows)
    return copied


def _counted(here: Connection) -> dict[str, int]:
    tables = [table for table in schema.metadata.sorted_tables if table not in LEFT_BEHIND]
    return {table.name: here.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


# All that the clock has given out and that is still known.
NUMBERS = (
    schema.tables.c.checked_sequence,
    schema.publications.c.from_sequence,
    schema.publications.c.until_sequence,
    schema.pending_deletions.c.retired_at_sequence,
    schema.leases.c.sequence,
    schema.connections.c.discovery_sequence,
)


def _highest(here: Connection) -> int:
    """The number after which the clock of a catalog goes on that has lost its own to a move."""
    return max(int(here.execute(select(func.coalesce(func.max(each), 0))).scalar_one()) for each in NUMBERS)
