"""What a source shows, against the rows of the catalog; and which versions would be made in another way today."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import Row, bindparam, delete, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import new_id
from runtimedb_dagster.catalog.publications import retire
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn, schema_changes
from runtimedb_dagster.domain.errors import DiscoveryRefusedError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import Connection, DiscoveredTable, DiscoveryChanges

__all__ = ["Address", "Difference", "change_recipes", "source_columns"]

Address = tuple[str, str]

# Of a version that was not made as it would be made today, though nobody knows how.
ANOTHER_RECIPE = "unknown"

SET_RECIPE = update(schema.tables).where(schema.tables.c.id == bindparam("row")).values(recipe=bindparam("new"))
LEARN_RECIPE = (
    update(schema.versions)
    .where(schema.versions.c.id == bindparam("version"), schema.versions.c.recipe.is_(None))
    .values(recipe=bindparam("made"))
)


class Difference:
    """The difference between what a source shows and the rows of a connection, which it locks."""

    def __init__(
        self, tx: Transaction, connection: Connection, found: Sequence[DiscoveredTable], recipes: Recipes
    ) -> None:
        """Look at the rows."""
        self.connection = connection
        self.found = {(table.schema_name, table.table_name): table for table in found}
        self.described = {address: _described(table, recipes) for address, table in self.found.items()}
        rows = _locked_rows(tx, connection, recipes)
        self.known: dict[Address, Row[Any]] = {(row.schema_name, row.table_name): row for row in rows}
        self.added = [address for address in self.found if address not in self.known]
        self.removed = [address for address in self.known if address not in self.found]
        self.updated = [a for a in self.found if a in self.known and self.described[a] != _shown(self.known[a])]
        self.modified = [address for address in self.found if self._is_modified(address)]

    def refuse_if_drastic(self) -> None:
        """Raise if this looks like a revoked permission.

        Raises:
            DiscoveryRefusedError
        """
        name = self.connection.name
        if not self.found:
            raise DiscoveryRefusedError(
                f"Connection '{name}': the source shows no tables at all, as if a permission was revoked; nothing "
                "was changed. If that is right, confirm it: `runtimedb refresh --confirm`."
            )
        if 2 * len(self.removed) > len(self.known):
            raise DiscoveryRefusedError(
                f"Connection '{name}': {len(self.removed)} of {len(self.known)} tables are no longer shown, as if a "
                "permission was revoked; nothing was changed. If that is right, confirm it: "
                "`runtimedb refresh --confirm`."
            )

    def apply(self, tx: Transaction, now: datetime, delete_after: datetime) -> None:
        """Write the difference; files of removed tables get pending deletions."""
        if self.added:
            tx.execute(insert(schema.tables), [self._row(address, now) for address in self.added])
        if self.updated:
            values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in self.described[self.updated[0]]}
            tx.execute(
                update(schema.tables).where(schema.tables.c.id == bindparam("row_id")).values(values),
                [
                    {"row_id": self.known[a].id} | {f"new_{k}": v for k, v in self.described[a].items()}
                    for a in self.updated
                ],
            )
        gone = [self.known[address] for address in self.removed]
        retire(tx, self.connection.name, gone, "table dropped", delete_after)
        if gone:
            tx.execute(
                delete(schema.tables).where(schema.tables.c.id == bindparam("row_id")),
                [{"row_id": row.id} for row in gone],
            )

    def changes(self) -> DiscoveryChanges:
        """The difference, for the caller."""

        def refs(addresses: list[Address]) -> tuple[TableRef, ...]:
            return tuple(TableRef(self.connection.name, *address) for address in addresses)

        return DiscoveryChanges(len(self.found), refs(self.added), refs(self.removed), refs(self.modified))

    def _is_modified(self, address: Address) -> bool:
        row, new = self.known.get(address), self.described[address]
        if row is None:
            return False
        if row.columns != new["columns"] and schema_changes(source_columns(row.columns), self.found[address].columns):
            return True
        return _is_modified(row, new["recipe"])

    def _row(self, address: Address, now: datetime) -> dict[str, Any]:
        return {
            "id": new_id(),
            "connection_id": self.connection.id,
            "schema_name": address[0],
            "table_name": address[1],
            "discovered_at": now,
        } | self.described[address]


def change_recipes(tx: Transaction, connection: Connection, before: Recipes, after: Recipes) -> list[TableRef]:
    """Have tables, as they were last discovered, be made by other recipes from now on.

    Returns:
        Those whose version is as it would have been made until now, and is not any more.
    """
    changed = []
    for row in _locked_rows(tx, connection, before):
        old, new = (_recipe(recipes, row) for recipes in (before, after))
        if row.recipe != new:
            tx.execute(SET_RECIPE, {"row": row.id, "new": new})
        if _is_modified(row, new) and not _is_modified(row, old):
            changed.append(TableRef(connection.name, row.schema_name, row.table_name))
    return sorted(changed)


def source_columns(kept: Sequence[dict[str, Any]]) -> tuple[SourceColumn, ...]:
    """Columns from what a row of `tables` keeps."""
    return tuple(SourceColumn.from_dict(column) for column in kept)


def _described(table: DiscoveredTable, recipes: Recipes) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "columns": [column.to_dict() for column in table.columns],
        "primary_key": list(table.primary_key),
        "comment": table.comment,
        "estimated_rows": table.estimated_rows,
        "recipe": recipes.of(table.schema_name, table.table_name, table.columns),
    }


def _shown(row: Row[Any]) -> dict[str, Any]:
    names = ("kind", "columns", "primary_key", "comment", "estimated_rows", "recipe")
    return {name: getattr(row, name) for name in names}


def _locked_rows(tx: Transaction, connection: Connection, recipes: Recipes) -> Sequence[Row[Any]]:
    """A connection's rows, locked, with what decides whether its versions are as they would be made today."""
    versions, mine = schema.versions, schema.tables.c.connection_id == connection.id
    # A statement of its own: what is joined to a row that had to be waited for is as it was before the wait.
    tx.execute(select(schema.tables.c.id).where(mine).order_by(schema.tables.c.id).with_for_update())
    query = (
        select(schema.tables, versions.c.recipe.label("version_recipe"))
        .outerjoin(versions, versions.c.id == schema.tables.c.version_id)
        .where(mine)
    )
    rows = tx.execute(query).all()
    unknown = [row for row in rows if row.version_id and row.version_recipe is None and row.recipe is None]
    for row in unknown:
        kept = tx.execute(select(versions.c.columns).where(versions.c.id == row.version_id)).scalar_one()
        made = _recipe_of_old(recipes, row, [VersionColumn.from_dict(column) for column in kept])
        tx.execute(LEARN_RECIPE, {"version": row.version_id, "made": made})
    return tx.execute(query).all() if unknown else rows


def _recipe(recipes: Recipes, row: Row[Any]) -> str:
    return recipes.of(row.schema_name, row.table_name, source_columns(row.columns))


def _recipe_of_old(recipes: Recipes, row: Row[Any], kept: Sequence[VersionColumn]) -> str:
    """By which recipe a version of a release that kept none was made, as far as its columns show."""
    fits = recipes.fits(row.schema_name, row.table_name, source_columns(row.columns), kept)
    return _recipe(recipes, row) if fits else ANOTHER_RECIPE


def _is_modified(row: Row[Any], recipe: str) -> bool:
    return row.version_id is not None and row.version_recipe not in (None, recipe)
