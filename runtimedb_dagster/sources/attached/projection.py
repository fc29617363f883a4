"""The type projection of what DuckDB holds: each column exact, declared, or refused by name.

DuckDB writes some of its own types to Parquet in a form that loses something (HUGEINT as DOUBLE, INTERVAL
in milliseconds, TIME WITH TIME ZONE without its zone); those are cast here to one that doesn't.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import duckdb
from duckdb.sqltypes import DuckDBPyType

from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.selection import Selected, TableSelection

__all__ = ["PROJECTED", "Projected", "project", "select_list"]

C = TypeVar("C", bound=SourceColumn)

# How many select-list entries are remembered: tables have many columns of the same names and types.
PROJECTED = 4096

EXACT = {
    "boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint",
    "float", "double", "decimal", "varchar", "blob", "uuid", "date", "time", "timestamp", "timestamp_ns",
    "timestamp with time zone", "geometry",
}  # fmt: skip
WIDENED = {"timestamp_s": "TIMESTAMP", "timestamp_ms": "TIMESTAMP", "null": "INTEGER"}
DECLARED = {
    "hugeint": "DECIMAL(38,0)",
    "uhugeint": "DECIMAL(38,0)",
    "enum": "VARCHAR",
    "bit": "VARCHAR",
    "interval": "VARCHAR",
    "bignum": "VARCHAR",
    "time with time zone": "VARCHAR",
    "time_ns": "VARCHAR",
}

# Parquet's time of day ends before 24:00:00, and most readers turn that into 00:00:00.
REFUSE_MIDNIGHT = "error('the time 24:00:00 has no place in Parquet, whose days end before it')"


@dataclass(frozen=True)
class Projected:
    """One column of a select list.

    Attributes:
        column: as the file will have it.
        expression: SQL that yields it from the source's column.
        converts: whether the expression can fail on a value.
        remote: SQL of the source that yields what `expression` starts from, where the bare column does not do.
        arrives: DuckDB's type of what `expression` starts from, where that is not in `column`.
        guard: SQL of the source that is true for a value without an exact form; `because` says why.
        scan_guards: whether DuckDB's own scan fails on such a value, so that nobody has to look for it before.
        parts: SQL of the source by the names of several columns that `expression` starts from, instead of one.
        advice: what to do about a value that the expression fails on.
        settings: whether the source's text of it depends on settings of the session.
    """

    column: VersionColumn
    expression: str
    converts: bool
    remote: str | None = None
    guard: str | None = None
    because: str = ""
    arrives: str | None = None
    scan_guards: bool = False
    parts: tuple[tuple[str, str], ...] = ()
    advice: str = ""
    settings: bool = False

    @property
    def source_name(self) -> str:
        """The column's name in the source."""
        return self.column.name

    @property
    def value(self) -> str:
        """The expression without its name."""
        return self.expression.removesuffix(f" AS {identifier(self.column.name)}")


def select_list(
    table: TableSelection, columns: Sequence[C], project_one: Callable[[C], Projected]
) -> tuple[Projected, ...]:
    """The wanted columns of a table as `project_one` yields them, masked where a mask says so.

    Raises:
        TypeContractError: no column is left, two names differ by case only, or a type has no exact form.
    """
    wanted = table.columns(columns)
    if not wanted:
        raise TypeContractError("it has no columns" if not columns else "the patterns leave it no columns")
    _refuse_twins([each.column.name for each in wanted])
    if any(not each.column.name for each in wanted):
        raise TypeContractError(
            "it has a column without a name, which no query could ask for; leave it out with "
            f"exclude_columns={table.table_name}. (with the dot), or name it in a view on the source"
        )
    return tuple(_selected(each, project_one) for each in wanted)


def _selected(selected: Selected[C], project_one: Callable[[C], Projected]) -> Projected:
    plain = project_one(selected.column)
    return plain if selected.mask is None else _masked(plain, selected.mask)


def _masked(plain: Projected, mask: str) -> Projected:
    """A column whose values do not leave the select list."""
    name = identifier(plain.column.name)
    if mask == "null":
        masked = replace(plain.column, nullable=True, declared=None, mask=mask)
        return replace(plain, column=masked, expression=f"CAST(NULL AS {masked.type}) AS {name}", guard=None)
    masked = replace(plain.column, type="VARCHAR", declared=None, mask=mask)
    text = f"CAST({plain.value} AS VARCHAR)"
    hidden = f"sha256({text})" if mask == "sha256" else f"CASE WHEN {text} IS NOT NULL THEN '***' END"
    return replace(plain, column=masked, expression=f"{hidden} AS {name}", converts=True)


def _refuse_twins(names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise TypeContractError(
                f"columns {identifier(other)} and {identifier(name)} differ by case only, which no query could "
                "tell apart; leave one out with exclude_columns, or rename it in a view on the source"
            )


@lru_cache(PROJECTED)
def project(column: SourceColumn) -> Projected:
    """The select-list entry of a column whose `type` is DuckDB's.

    Raises:
        TypeContractError: the type has no exact form in a version.
    """
    source_type = duckdb.sqltype(column.type)
    try:
        target = str(duckdb.sqltype(_target(source_type)))
        written = str(duckdb.sqltype(_target(source_type, within="BLOB")))
    except TypeContractError as error:
        raise TypeContractError(f"column {identifier(column.name)} of type {column.type}: {error}") from None
    name = identifier(column.name)
    midnight = _holds_midnight(name, source_type)
    changed = target != str(source_type)
    differs = written != str(source_type)
    declared = f"{column.type} kept as {written}" if differs and _is_declared(source_type) else None
    source_name = column.type if differs else None
    kept = VersionColumn(column.name, written, column.nullable, column.comment, source_name, declared)
    value = name if midnight is None else f"CASE WHEN {midnight} THEN {REFUSE_MIDNIGHT} ELSE {name} END"
    if changed:
        value = f"CAST({value} AS {target})"
    return Projected(kept, name if value == name else f"{value} AS {name}", converts=value != name)


def _target(source: DuckDBPyType, within: str | None = None) -> str:
    """The type that `source` is cast to, in DuckDB's words, at any depth.

    With `within`, the type that a version then holds: to a geometry within another type DuckDB gives no other name than
    that of its bytes.
    """
    if source.id in EXACT:
        return str(source)
    for targets in (WIDENED, DECLARED):
        if source.id in targets:
            return targets[source.id]

    def part(type_: DuckDBPyType) -> str:
        return within if within and type_.id == "geometry" else _target(type_, within)

    parts = _parts(source)
    if source.id in ("list", "array"):
        return f"{part(parts['child'])}[]"
    if source.id == "struct":
        return f"STRUCT({', '.join(f'{identifier(name)} {part(type_)}' for name, type_ in parts.items())})"
    if source.id == "map":
        return f"MAP({part(parts['key'])}, {part(parts['value'])})"
    raise TypeContractError("no exact form in a version; cast it in a view on the source, and refresh that")


def _is_declared(source: DuckDBPyType) -> bool:
    if source.id in DECLARED:
        return True
    parts = _parts(source).values()
    return any(part.id == "geometry" or _is_declared(part) for part in parts)


def _parts(source: DuckDBPyType) -> dict[str, DuckDBPyType]:
    """The types that a nested type is made of, by name; those of other types are no parts."""
    if source.id not in ("list", "array", "struct", "map"):
        return {}
    return {name: part for name, part in source.children if isinstance(part, DuckDBPyType)}


def _holds_midnight(value: str, source: DuckDBPyType, depth: int = 0) -> str | None:
    """SQL that is true where `value` holds the time 24:00:00, at any depth; None if its type holds no times."""
    if source.id == "time":
        return f"{value} = TIME '24:00:00'"
    parts = _parts(source)
    if source.id == "struct":
        tests = [
            _holds_midnight(f"struct_extract({value}, {literal(name)})", part, depth) for name, part in parts.items()
        ]
    elif source.id == "map":
        tests = [
            _any_midnight(f"map_keys({value})", parts["key"], depth),
            _any_midnight(f"map_values({value})", parts["value"], depth),
        ]
    elif parts:
        tests = [_any_midnight(f"CAST({value} AS {parts['child']}[])", parts["child"], depth)]
    else:
        return None
    return " OR ".join(f"({test})" for test in tests if test) or None


def _any_midnight(values: str, element: DuckDBPyType, depth: int) -> str | None:
    item = f"item{depth}"
    test = _holds_midnight(item, element, depth + 1)
    return test and f"len(list_filter({values}, lambda {item}: {test})) > 0"
