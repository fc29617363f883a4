"""Which tables, rows and columns of a connection are wanted, and which columns are masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.patterns import Matcher, names_of_column, names_of_table

__all__ = ["Selected", "Selection", "TableSelection"]

C = TypeVar("C", bound=SourceColumn)
NONE: Matcher[bool] = Matcher.of(())
NOTHING: Matcher[str] = Matcher(())


@dataclass(frozen=True)
class Selection:
    """What the options of a connection say by pattern.

    See `patterns` for how names are compared. A pattern of tables is held against `schema.table` and against the
    table's name alone; one of columns against `schema.table.column`, `table.column` and the column's name alone.
    """

    include: Matcher[bool] = NONE
    exclude: Matcher[bool] = NONE
    where: Matcher[str] = NOTHING
    columns: Matcher[bool] = NONE
    exclude_columns: Matcher[bool] = NONE
    mask: Matcher[str] = NOTHING

    def wants(self, schema_name: str, table_name: str) -> bool:
        """Whether a table is to be discovered."""
        names = names_of_table(schema_name, table_name)
        return (not self.include or bool(self.include.first(names))) and not self.exclude.first(names)

    def of(self, schema_name: str, table_name: str) -> TableSelection:
        """What it says of one table."""
        return TableSelection(self, schema_name, table_name)

    def unmatched(self, tables: Sequence[tuple[str, str]], columns: Sequence[tuple[str, str, str]] | None) -> list[str]:
        """What of the patterns is of no table or column, as `option 'pattern'`: a typo, perhaps of a mask.

        Args:
            tables: all of the source, by schema and name.
            columns: of those that are wanted, by schema, table and name; None if not all are known.
        """
        of_tables = [names_of_table(*table) for table in tables]
        of_columns = [names_of_column(*column) for column in columns or ()]
        against = {"include": of_tables, "exclude": of_tables, "where": of_tables}
        if columns is not None:
            against |= {"columns": of_columns, "exclude_columns": of_columns, "mask": of_columns}
        return [
            f"{option} '{pattern}'"
            for option, listed in against.items()
            for pattern in getattr(self, option).unmatched(listed)
        ]


@dataclass(frozen=True)
class Selected(Generic[C]):
    """A column that is wanted, with its mask if it has one."""

    column: C
    mask: str | None


@dataclass(frozen=True)
class TableSelection:
    """What a connection's options say of one table."""

    selection: Selection
    schema_name: str
    table_name: str

    @property
    def where(self) -> str | None:
        """The condition that its rows must meet, in SQL of its source."""
        conditions = self.selection.where.all(names_of_table(self.schema_name, self.table_name))
        return " AND ".join(f"({sql}\n)" for sql in conditions) or None

    def columns(self, columns: Sequence[C]) -> list[Selected[C]]:
        """Those of its columns that are wanted."""
        listed = self.selection.columns
        chosen = [column for column in columns if listed.first(self._names(column.name))] if listed else []
        return [
            Selected(column, self.mask(column.name)) for column in chosen or columns if not self._left_out(column.name)
        ]

    def mask(self, column: str) -> str | None:
        """What hides a column's values, if anything does."""
        return self.selection.mask.first(self._names(column)) if self.selection.mask else None

    def exposed(self, columns: Sequence[VersionColumn]) -> list[str]:
        """The columns of a version that today's options would leave out, or mask in another way."""
        return [
            column.name
            for column in columns
            if self._left_out(column.name) or self.mask(column.name) not in (None, column.mask)
        ]

    def _left_out(self, column: str) -> bool:
        excluded = self.selection.exclude_columns
        return bool(excluded) and bool(excluded.first(self._names(column)))

    def _names(self, column: str) -> tuple[str, ...]:
        return names_of_column(self.schema_name, self.table_name, column)
