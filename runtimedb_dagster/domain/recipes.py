"""Recipes: a hash of all that decides how a version is made of a source's rows.

A version whose recipe is not today's was made in another way than one would be made now: its table counts as modified
until it is refreshed, and is then read whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.selection import Selection

__all__ = ["Recipes"]

# To be raised when a release makes other versions than the one before of what is the same by options and types.
NUMBER = 1

Treatment = Callable[[str, str, SourceColumn], str | None]
"""What a dialect's options make of a column of a table (by schema and name) beyond its type; None: nothing."""


@dataclass(frozen=True)
class Recipes:
    """The recipes of a connection's tables, by its options of today.

    Attributes:
        selection: which columns and rows are wanted, and which columns are masked.
        treatment: see `Treatment`.
        of_rows: the dialect's options that decide which rows a source shows, where they are not the defaults.
    """

    selection: Selection
    treatment: Treatment
    of_rows: Mapping[str, str]

    def of(self, schema_name: str, table_name: str, columns: Sequence[SourceColumn]) -> str:
        """The recipe of a table with these columns."""
        table = self.selection.of(schema_name, table_name)
        wanted = [
            (each.column.name, each.column.type, each.mask, self.treatment(schema_name, table_name, each.column))
            for each in table.columns(columns)
        ]
        described = json.dumps([NUMBER, table.where, sorted(self.of_rows.items()), wanted])
        return hashlib.sha256(described.encode(errors="surrogatepass")).hexdigest()[:32]

    def fits(
        self, schema_name: str, table_name: str, columns: Sequence[SourceColumn], kept: Sequence[VersionColumn]
    ) -> bool:
        """Whether a version of unknown recipe may have been made of such columns by today's options."""
        wanted = self.selection.of(schema_name, table_name).columns(columns)
        return [(each.column.name, each.column.type, each.mask) for each in wanted] == [
            (column.name, column.source_type or column.type, column.mask) for column in kept
        ]
