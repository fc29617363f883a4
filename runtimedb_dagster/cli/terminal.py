"""How the command line shows things: text for a person, JSON for a script, progress on a terminal only."""

from __future__ import annotations

import io
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from time import perf_counter
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from runtimedb_dagster.common.words import counted
from runtimedb_dagster.domain import outcomes
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.engine.audit import Audited
from runtimedb_dagster.engine.verify import Finding

__all__ = [
    "ShowProgress",
    "are_numbers",
    "ask",
    "connection_dict",
    "distinct",
    "files_dict",
    "grid_lines",
    "json_text",
    "plain",
    "print_json",
    "progress",
    "say",
    "show_audit",
    "show_connections",
    "show_error",
    "show_files",
    "show_findings",
    "show_grid",
    "show_result",
    "show_tables",
    "show_warnings",
    "take_any_encoding",
]

ShowProgress = Callable[[outcomes.Progress], None]
"""Shows how far a refresh is."""

# What is piped has no width to fold at.
out = Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 10_000)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


# What a terminal would obey: the control characters, and those that turn the direction of what follows.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """A text of a source as a terminal may have it: what it would obey is written down instead."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def take_any_encoding() -> None:
    """Have what the terminal's encoding lacks be written down by its number, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _OneLine(logging.Handler):
    """What goes wrong beside the way: a line each, as errors are; where it comes from is for --debug."""

    def emit(self, record: logging.LogRecord) -> None:
        """A line on standard error."""
        reason = f": {record.exc_info[1]}" if record.exc_info and record.exc_info[1] else ""
        err.print(f"[yellow]Warning:[/yellow] {escape(plain(' '.join((record.getMessage() + reason).split())))}")


def show_warnings() -> None:
    """Show our warnings, and none of the libraries', which become errors of whoever used them."""
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("runtimedb_dagster").addHandler(_OneLine(logging.WARNING))


def say(text: str) -> None:
    """A line of output."""
    out.print(escape(plain(text)))


def show_error(text: str) -> None:
    """An error, on one line."""
    err.print(f"[red]Error:[/red] {escape(plain(' '.join(text.split())))}")


def ask(question: str, yes: bool) -> None:
    """Have a person confirm; a script is not asked."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True)


def print_json(value: Any) -> None:
    """A value as JSON; what JSON does not know, as text."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that no terminal obeys, in ASCII where standard output is not UTF-8."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, indent=indent, default=_as_text, ensure_ascii=ascii_only, allow_nan=False)
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def show_result(fields: dict[str, Any], *, as_json: bool) -> None:
    """A result of the contract; its lists, a line each."""
    if as_json:
        print_json(fields)
        return
    for name, value in fields.items():
        if not isinstance(value, list):
            say(f"{name}: {value}")
    for name in ("errors", "warnings"):
        for entry in fields.get(name, []):
            text = entry if isinstance(entry, str) else entry.get("error") or entry.get("message")
            err.print(f"[red]{name.removesuffix('s')}:[/red] {escape(plain(str(text)))}")


def show_grid(names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Rows of a query on a terminal, values as DuckDB writes them: infinity, nanoseconds and all.

    A value that is too long is cut, and columns that do not fit beside each other stand beneath.
    """
    cut = [[value if value is None else _cut(value, WIDEST) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i] or "NULL") for row in cut)]) for i, name in enumerate(names)]
    if sum(widths) + 3 * len(widths) <= out.width:
        _grid(names, cut, are_numbers(types))
        return
    longest = max(map(len, names))
    for number, row in enumerate(rows, 1):
        say(f"── {number} ──")
        for name, value in zip(names, row, strict=True):
            text = "NULL" if value is None else _cut(_cell(value).plain, max(out.width - longest - 3, 20))
            out.print(Text(f"{plain(name).ljust(longest)}  {text}"))


def grid_lines(
    names: Sequence[str], types: Sequence[str], batches: Iterable[Sequence[Sequence[str | None]]]
) -> Iterator[str]:
    """Rows of a query as the text of a grid, each value whole, a part for each batch; as wide as the first one is."""
    right, widths, head = are_numbers(types), list[int](), [_bare(name) for name in names]

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return f" {'   '.join(padded)}\n"

    for batch in batches:
        rows = [["NULL" if value is None else _bare(value) for value in row] for row in batch]
        if not widths:
            widths += (max(map(cell_len, column)) for column in zip(head, *rows, strict=True))
            yield f"\n{line(head)} {'─' * (sum(widths) + 3 * len(widths) - 2)}\n"
        yield "".join(map(line, rows))
    yield "\n"


def are_numbers(types: Sequence[str]) -> list[bool]:
    """Which of some of DuckDB's types are numbers'."""
    return [NUMBER.match(type_) is not None for type_ in types]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def grid_text(names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """A grid as text, as it is printed into a pipe."""
    with out.capture() as captured:
        _grid(names, rows, are_numbers(types))
    return captured.get()


def distinct(names: Sequence[str]) -> list[str]:
    """Names for an object of JSON, which has each but once: `id`, `id_2`."""
    taken: dict[str, None] = {}
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        taken[next(each for each in candidates if each not in taken)] = None
    return list(taken)


# Of a value on a terminal.
WIDEST = 60
NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$|DECIMAL|FLOAT|DOUBLE|BIGNUM")


def show_connections(connections: Sequence[Connection], *, as_json: bool) -> None:
    """A line per connection."""
    if as_json:
        print_json([connection_dict(connection) for connection in connections])
        return
    rows = [(c.name, c.source_type, c.url, _time(c.discovered_at), c.discovery_error or "") for c in connections]
    _grid(("name", "type", "url", "discovered", "error"), rows)


def show_tables(tables: Sequence[Table], *, as_json: bool) -> None:
    """A line per table."""
    if as_json:
        print_json([_table_dict(table) for table in tables])
        return
    rows = [
        (table.ref, table.kind, len(table.columns), v.rows, v.bytes, _refreshed(table))
        if (v := table.version)
        else (table.ref, table.kind, len(table.columns), "", "", "not cached")
        for table in tables
    ]
    _grid(("table", "kind", "columns", "rows", "bytes", "refreshed"), rows)


def show_files(version: Version, locations: Mapping[str, str], *, as_json: bool) -> None:
    """A line per data file, with where it is and which of its rows are deleted."""
    if as_json:
        print_json([file | {"location": locations[file["path"]]} for file in files_dict(version)])
        return
    rows = [
        (locations[file.path], file.rows, file.bytes, file.deletes.rows if file.deletes else 0,
         locations[file.deletes.path] if file.deletes else "")
        for file in version.files
    ]  # fmt: skip
    _grid(("file", "rows", "bytes", "deleted", "deletes file"), rows)


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """A line per finding, or that there is none."""
    if as_json:
        print_json([finding.to_dict() for finding in findings])
        return
    for finding in findings:
        say(f"{finding.invariant} {finding.subject}: {finding.message}")
    say(counted(len(findings), "finding") if findings else "All is well: no findings")


def show_audit(audited: Sequence[Audited], *, as_json: bool) -> None:
    """A line per table."""
    if as_json:
        print_json([each.to_dict() for each in audited])
        return
    for each in audited:
        say(f"{each.table}: {each.result}{f': {each.message}' if each.message else ''}")


def connection_dict(connection: Connection) -> dict[str, Any]:
    """A connection as JSON."""
    fields = asdict(connection)
    return {"options" if name == "given" else name: value for name, value in fields.items()}


@contextmanager
def progress(title: str) -> Iterator[ShowProgress]:
    """A bar with tables, rows and rate; on a terminal only."""
    if not err.is_terminal:
        yield lambda _progress: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "{task.completed}/{task.total} tables{task.fields[unchanged]}, {task.fields[rows]:,} rows, "
            "{task.fields[rate]:,} rows/s"
        ),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(escape(plain(title)), total=None, rows=0, rate=0, unchanged="")
        started = perf_counter()

        def update(state: outcomes.Progress) -> None:
            rate = round(state.rows / max(perf_counter() - started, 0.001))
            unchanged = f" ({state.unchanged} unchanged)" if state.unchanged else ""
            done, total = state.tables_done, state.tables
            bar.update(task, completed=done, total=total, rows=state.rows, rate=rate, unchanged=unchanged)

        yield update


def _grid(names: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[bool] | None = None) -> None:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    if numbers is None:
        numbers = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(names))]
    for name, is_number in zip(names, numbers, strict=True):
        grid.add_column(_cell(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*("NULL" if value is None else _cell(str(value)) for value in row))
    out.print(grid)


def _cell(text: str) -> Text:
    """A value in one line, without a meaning of its own to the terminal or to what draws the grid."""
    return Text(_bare(text))


def _bare(text: str) -> str:
    return plain(text.replace("\n", "\\n").replace("\t", "\\t"))


def _table_dict(table: Table) -> dict[str, Any]:
    return {
        "connection": table.connection,
        "schema_name": table.schema_name,
        "table_name": table.table_name,
        "partition_key": table.ref.partition_key,
        **{key: value for key, value in asdict(table).items() if key != "ref"},
        "version": _version_dict(table.version) if table.version else None,
        "modified": table.modified,
    }


def _version_dict(version: Version) -> dict[str, Any]:
    """A version as JSON, without what only its next refresh needs."""
    left_out = ("position", "hashed_by", "files")
    fields = {name: value for name, value in asdict(version).items() if name not in left_out}
    return fields | {"files": files_dict(version), "bytes": version.bytes}


def files_dict(version: Version) -> list[dict[str, Any]]:
    """The files of a version as JSON."""
    return [
        {
            "path": file.path,
            "rows": file.rows,
            "bytes": file.bytes,
            "deletes": {"path": file.deletes.path, "rows": file.deletes.rows, "bytes": file.deletes.bytes}
            if file.deletes
            else None,
        }
        for file in version.files
    ]


def _refreshed(table: Table) -> str:
    return _time(table.checked_at) + (", modified since" if table.modified else "")


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "never"
