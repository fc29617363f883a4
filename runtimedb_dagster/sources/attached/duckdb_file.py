"""DuckDB files: `duckdb:///path/to/file.duckdb`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
from pydantic import BaseModel, ConfigDict

from runtimedb_dagster.common.duck import first_line, lock_holder
from runtimedb_dagster.common.elsewhere import beginning_of
from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import PlainDialect, Relation, Scan, is_table, same_everywhere
from runtimedb_dagster.sources.attached.file_state import duckdb_file
from runtimedb_dagster.sources.base import Base, State
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["DuckDBFile", "NoOptions"]

SQLITE_HEADER = b"SQLite format 3\0"


class NoOptions(BaseModel):
    """A source without options of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class DuckDBFile(PlainDialect):
    """The dialect of a DuckDB file. It is opened read-only, so a process that writes it locks it.

    The connection's password is the key of an encrypted file.
    """

    options = NoOptions
    extensions: Sequence[str] = ()

    def __init__(self, url: SourceUrl, options: NoOptions, password: str | None) -> None:  # noqa: ARG002 - as the others
        """Read the file that `url` names."""
        self._path = Path(url.path)
        self._key = password
        self._state: Position | None = None

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the file by the name that DuckDB itself gives it: its views may contain that name."""
        if _is_sqlite(self._path):
            raise duckdb.InvalidInputException(
                f"it is an SQLite file; connect to it as sqlite://{'' if self._path.is_absolute() else '/'}{self._path}"
            )
        before = duckdb_file(self._path)
        own_key = [f", ENCRYPTION_KEY {literal(self._key)}"] if self._key else []
        for name in ("", f"AS {identifier(f'{self._path.stem}_file')} "):
            try:
                self._attach(duck, name, [*own_key, ""])
                break
            except duckdb.BinderException:
                # A name that DuckDB has itself, such as `temp`.
                if name:
                    raise
        # From now on nobody writes it; that what was attached is at the path is seen by what was there before.
        after = duckdb_file(self._path)
        self._state = after if after == before else None
        row = duck.execute(
            "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND path IS NOT NULL"
        ).fetchone()
        if row is None:
            raise duckdb.InvalidInputException("DuckDB did not say by which name it has attached the file")
        return str(row[0])

    def _attach(self, duck: duckdb.DuckDBPyConnection, name: str, keys: Sequence[str]) -> None:
        """With the key or, of a file that needs none, without."""
        for key in keys:
            try:
                duck.execute(f"ATTACH {literal(str(self._path))} {name}(TYPE duckdb, READ_ONLY{key})")
            except duckdb.Error as error:
                if not key or "is not encrypted" not in str(error):
                    raise
            else:
                return

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SourceColumn]:
        """The table in DuckDB's words. Views of the source may name their tables without schema or database."""
        duck.execute(f"USE {identifier(alias)}")
        return super().describe(duck, alias, ref)

    def primary_key(self, scan: Scan[SourceColumn]) -> Sequence[str]:
        """As DuckDB lists it."""
        ref = scan.ref
        found = scan.duck.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' "
            f"AND database_name = {literal(scan.alias)} AND schema_name = {literal(ref.schema_name)} "
            f"AND table_name = {literal(ref.table_name)}"
        ).fetchone()
        return tuple(found[0]) if found else ()

    def position(self, scan: Scan[SourceColumn]) -> Position | None:
        """The file's state, for tables; a view may read anything."""
        return self._state if is_table(scan) else None

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,  # noqa: ARG002 - as the others
        alias: str,  # noqa: ARG002
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],  # noqa: ARG002
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """All tables at once, by the file's state."""
        return same_everywhere(self, bases, self._state)

    def is_transient(self, error: str) -> bool:
        """A file that somebody writes."""
        return "Could not set lock" in error or "already attached" in error

    def explain(self, error: str) -> str:
        """DuckDB's message, and what to do where that is known; never its second line, which quotes the statement."""
        if holder := lock_holder(error):
            return f"{holder} has it open for writing; close it there, or connect to a copy"
        if "does not exist" in error and not self._path.exists():
            return "there is no such file"
        if "already attached" in error:
            return "this process has it open for writing; close it first"
        if "encrypted" in error or "ncryption key" in error:
            return (
                f"{first_line(error)}; name the variable that holds the file's key with --password-env, or the file "
                "that holds it with the option password_file"
            )
        return first_line(error)


def _is_sqlite(path: Path) -> bool:
    try:
        return beginning_of(path, len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
