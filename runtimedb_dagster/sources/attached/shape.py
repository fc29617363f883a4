"""Which tables, rows and columns of a connection are wanted, and which columns are masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.model import Column, DiscoveredTable, TableRef
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.patterns import matches_any, names_of_column, names_of_table
from runtimedb_dagster.sources.attached.projection import MASKED, Projected

__all__ = ["Shape"]


@dataclass(frozen=True)
class Shape:
    """The patterns of a connection's options.

    See `patterns` for how names are compared. A pattern of tables is held against `schema.table` and against the
    table's name alone; one of columns against `schema.table.column`, `table.column` and the column's name alone.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    rows: Mapping[str, str] | None = None
    columns: Sequence[str] = ()
    exclude_columns: Sequence[str] = ()
    masks: Mapping[str, str] | None = None

    @classmethod
    def of(cls, options: ConnectionOptions) -> Shape:
        """The patterns in a connection's options."""
        return cls(
            options.include, options.exclude, options.where, options.columns, options.exclude_columns, options.mask
        )

    def wants(self, schema_name: str, table_name: str) -> bool:
        """Whether a table is to be discovered."""
        names = names_of_table(schema_name, table_name)
        return (not self.include or matches_any(self.include, names)) and not matches_any(self.exclude, names)

    def idle_patterns(self, tables: Sequence[DiscoveredTable]) -> list[str]:
        """What of the patterns is of no table or column, as `option 'pattern'`: a typo, perhaps of a mask.

        Tables without columns are those that can't be described now; where there are any, nothing is said of columns.
        """
        names = [names_of_table(table.schema_name, table.table_name) for table in tables]
        of_tables = {"include": self.include, "exclude": self.exclude, "where": tuple(self.rows or ())}
        columns = [
            names_of_column(table.schema_name, table.table_name, column.name)
            for table in tables
            if self.wants(table.schema_name, table.table_name)
            for column in table.columns
        ]
        known = all(table.columns for table in tables)
        of_columns = {"columns": self.columns, "exclude_columns": self.exclude_columns, "mask": tuple(self.masks or ())}
        return [
            f"{option} '{pattern}'"
            for options, held_against in ((of_tables, names), (of_columns if known else {}, columns))
            for option, patterns in options.items()
            for pattern in patterns
            if not any(matches_any([pattern], each) for each in held_against)
        ]

    def where(self, ref: TableRef) -> str | None:
        """The condition that a table's rows must meet, in SQL of its source."""
        names = names_of_table(ref.schema_name, ref.table_name)
        conditions = [sql for pattern, sql in (self.rows or {}).items() if matches_any([pattern], names)]
        return " AND ".join(f"({sql}\n)" for sql in conditions) or None

    def apply(
        self, ref: TableRef, columns: Sequence[Column], project: Callable[[Column], Projected]
    ) -> tuple[Projected, ...]:
        """The select list: the wanted columns as `project` yields them, masked where a mask says so.

        Raises:
            TypeContractError: no column is left, or two names differ by case only.
        """
        wanted = self._wanted(ref, columns)
        if not wanted:
            raise TypeContractError("it has no columns" if not columns else "the patterns leave it no columns")
        _refuse_twins(wanted)
        if any(not column.name for column in wanted):
            raise TypeContractError(
                "it has a column without a name, which no query could ask for; leave it out with "
                f"exclude_columns={ref.table_name}. (with the dot), or name it in a view on the source"
            )
        return tuple(self._project(ref, column, project) for column in wanted)

    def _wanted(self, ref: TableRef, columns: Sequence[Column]) -> list[Column]:
        chosen = [
            column
            for column in columns
            if matches_any(self.columns, names_of_column(ref.schema_name, ref.table_name, column.name))
        ]
        return [
            column
            for column in chosen or columns
            if not matches_any(self.exclude_columns, names_of_column(ref.schema_name, ref.table_name, column.name))
        ]

    def _project(self, ref: TableRef, column: Column, project: Callable[[Column], Projected]) -> Projected:
        for pattern, mask in (self.masks or {}).items():
            if matches_any([pattern], names_of_column(ref.schema_name, ref.table_name, column.name)):
                return _masked(project(column), mask)
        return project(column)


def _masked(plain: Projected, mask: str) -> Projected:
    """A column whose values do not leave the select list."""
    name = identifier(plain.column.name)
    if mask == "null":
        masked = replace(plain.column, nullable=True, declared=f"{MASKED}null")
        return replace(plain, column=masked, expression=f"CAST(NULL AS {masked.type}) AS {name}", guard=None)
    masked = replace(plain.column, type="VARCHAR", declared=f"{MASKED}{mask}")
    text = f"CAST({plain.value} AS VARCHAR)"
    hidden = f"sha256({text})" if mask == "sha256" else f"CASE WHEN {text} IS NOT NULL THEN '***' END"
    return replace(plain, column=masked, expression=f"{hidden} AS {name}", converts=True)


def _refuse_twins(columns: Sequence[Column]) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        if (other := seen.setdefault(column.name.lower(), column.name)) != column.name:
            raise TypeContractError(
                f"columns {identifier(other)} and {identifier(column.name)} differ by case only, which no query could "
                "tell apart; leave one out with exclude_columns, or rename it in a view on the source"
            )
