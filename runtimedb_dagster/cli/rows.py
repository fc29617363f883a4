"""The rows of a query on their way out, to a terminal or into a file; never all of them in memory at once."""

from __future__ import annotations

import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow.parquet as pq
from typing_extensions import Buffer

from runtimedb_dagster.cli import terminal
from runtimedb_dagster.domain.errors import RequestError, StorageError
from runtimedb_dagster.query.result import Result

__all__ = ["FORMATS", "Format", "show", "write"]

Format = Literal["table", "csv", "jsonl", "json", "markdown", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "csv", "jsonl", "json", "markdown", "parquet")
ENDINGS: dict[str, Format] = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".md": "markdown", ".parquet": "parquet",
    ".txt": "table",
}  # fmt: skip
# On a terminal, unless more are asked for.
SHOWN = 40
NEW_LINE = re.compile(r"\r\n|\r|\n")
# What is drawn as a grid is drawn in parts, each as wide as it needs to be.
GRID_ROWS = 10_000


def show(result: Result, form: Format, limit: int | None) -> None:
    """Print rows; on a terminal a grid of the first ones, if no limit says else (0: all)."""
    if form == "parquet" and terminal.out.is_terminal:
        raise RequestError("Parquet is nothing for a terminal: name a file with --output")
    if form != "table":
        _to(_Shown() if terminal.out.is_terminal else sys.stdout.buffer, result, form, limit)
        return
    if not terminal.out.is_terminal:
        for part in _plain(result, limit):
            sys.stdout.write(part.decode())
        return
    limit = SHOWN if limit is None else limit
    seen = 0
    for batch in _limited(result.texts(limit or GRID_ROWS), limit or None):
        terminal.show_grid(result.columns, result.types, batch)
        seen += len(batch)
    more = result.count() - seen if seen and seen == limit else 0
    if more:
        terminal.say(f"… {more:,} more row{'s' if more > 1 else ''} (--limit 0 for all)")


def write(result: Result, file: Path, form: Format | None, limit: int | None) -> None:
    """Write rows into a new file, whose ending says in which form unless that is given.

    Raises:
        RequestError: neither does.
        StorageError: it is there already, or can't be written.
    """
    form = form or ENDINGS.get(file.suffix.lower())
    if form is None:
        raise RequestError(f"{file}: say with --format what is to be in it: {', '.join(FORMATS)}")
    with _new(file) as out:
        _to(out, result, form, limit)


class _Shown(io.BytesIO):
    """Standard output that is a terminal: what it would obey is written down instead."""

    def write(self, part: Buffer) -> int:
        """Print some text."""
        sys.stdout.write(terminal.plain(bytes(part).decode()))
        return len(bytes(part))


def _to(out: BinaryIO, result: Result, form: Format, limit: int | None) -> None:
    writers: dict[Format, Callable[[Result, int | None], Iterable[bytes]]] = {
        "csv": lambda rows, most: rows.csv(most),
        "jsonl": _jsonl,
        "json": _json,
        "markdown": _markdown,
        "table": _plain,
    }
    if form == "parquet":
        _parquet(out, result, limit)
        return
    out.writelines(writers[form](result, limit or None))
    out.flush()


def _jsonl(result: Result, limit: int | None) -> Iterator[bytes]:
    for rows in _objects(result, limit):
        yield "".join(f"{row}\n" for row in rows).encode()


def _json(result: Result, limit: int | None) -> Iterator[bytes]:
    """A list, an object on each line."""
    yield b"["
    before = "\n"
    for rows in _objects(result, limit):
        yield (before + ",\n".join(rows)).encode()
        before = ",\n"
    yield b"\n]\n" if before != "\n" else b"]\n"


def _objects(result: Result, limit: int | None) -> Iterator[list[str]]:
    names = terminal.distinct(result.columns)
    for rows in result.jsons(limit):
        yield [terminal.json_text(dict(zip(names, row, strict=True))) for row in rows]


def _markdown(result: Result, limit: int | None) -> Iterator[bytes]:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(NEW_LINE.sub('<br>', cell.replace('|', chr(92) + '|')) for cell in cells)} |\n"

    numbers = terminal.are_numbers(result.types)
    yield line(result.columns).encode() + line("---:" if each else "---" for each in numbers).encode()
    for rows in _limited(result.texts(GRID_ROWS), limit):
        yield "".join(line("NULL" if cell is None else cell for cell in row) for row in rows).encode()


def _plain(result: Result, limit: int | None) -> Iterator[bytes]:
    """As it is printed into a pipe."""
    batches = _limited(result.texts(GRID_ROWS), limit or None)
    for part in terminal.grid_lines(result.columns, result.types, itertools.chain(batches, ([],))):
        yield part.encode(errors="backslashreplace")


def _parquet(out: BinaryIO, result: Result, limit: int | None) -> None:
    reader = result.reader()
    left = limit or None
    with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in reader:
            part = batch if left is None else batch.slice(0, left)
            writer.write_batch(part)
            left = None if left is None else left - part.num_rows
            if left == 0:
                break


def _limited(
    batches: Iterable[list[tuple[str | None, ...]]], limit: int | None
) -> Iterator[list[tuple[str | None, ...]]]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        yield batch[:left]
        left -= min(left, len(batch))
        if not left:
            return


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """A file that is there when all is in it."""
    if file.exists():
        raise StorageError(f"{file} is there already, and nothing is overwritten")
    part = file.with_name(f"{file.name}.partial")
    try:
        out = part.open("xb")
    except OSError as error:
        raise StorageError(f"{part} can't be written: {error.strerror or error}") from error
    try:
        with out:
            yield out
        part.rename(file)
    except OSError as error:
        raise StorageError(f"{file} can't be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
