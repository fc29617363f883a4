"""What came of faults that were injected, as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Column, Table

__all__ = ["Row", "Rows", "show", "together"]


@dataclass
class Row:
    """What came of one fault."""

    injected: int = 0
    checked: int = 0
    failures: list[str] = field(default_factory=list)


Rows = Mapping[str, Row]


def together(parts: Iterable[Rows]) -> dict[str, Row]:
    """The rows of several, by name."""
    rows: dict[str, Row] = defaultdict(Row)
    for part in parts:
        for name, row in part.items():
            rows[name].injected += row.injected
            rows[name].checked += row.checked
            rows[name].failures += row.failures
    return rows


def show(console: Console, rows: Rows) -> int:
    """Print the table, and each failure; returns the exit status."""
    table = Table("fault", *(Column(name, justify="right") for name in ("injected", "checked", "failures")))
    for name, row in rows.items():
        table.add_row(name, str(row.injected), str(row.checked), str(len(row.failures)))
    total = [sum(each.injected for each in rows.values()), sum(each.checked for each in rows.values())]
    failures = [failure for row in rows.values() for failure in row.failures]
    table.add_section()
    table.add_row("all", *map(str, total), str(len(failures)))
    console.print(table)
    for failure in failures:
        console.print(failure, style="red", markup=False)
    return 1 if failures else 0
