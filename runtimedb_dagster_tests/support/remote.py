"""What the tests over real servers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runtimedb_dagster import RefreshRequest, RuntimeDB, Table, Version
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, TableRefreshResult
from runtimedb_dagster_tests.support.parts import path_of
from runtimedb_dagster_tests.support.servers import Server

PASSWORD_ENV = "SOURCE_PASSWORD"


@dataclass(frozen=True)
class Remote:
    """A database on a server, and the connection to it."""

    db: RuntimeDB
    server: Server
    database: str
    name: str

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the database itself; the rows of the last."""
        return self.server.run(self.database, *statements)

    def connect(self, **options: Any) -> None:
        """Register it, which discovers its tables."""
        self.db.connect(self.name, self.server.url(self.database), password_env=PASSWORD_ENV, options=options)

    def table(self, name: str, schema: str | None = None) -> Table:
        """One of its tables, as the catalog has it now."""
        (found,) = [
            table
            for table in self.db.tables(self.name)
            if table.table_name == name and schema in (None, table.schema_name)
        ]
        return found

    def version(self, name: str) -> Version:
        """The version of a table that must have one."""
        version = self.table(name).version
        assert version is not None
        return version

    def refresh(self, name: str) -> TableRefreshResult:
        """Refresh one table."""
        ref = self.table(name).ref
        result = self.db.refresh(RefreshRequest(self.name, ref.schema_name, ref.table_name, data=True))
        assert isinstance(result, TableRefreshResult)
        return result

    def refresh_all(self) -> ConnectionRefreshResult:
        """Refresh all tables."""
        result = self.db.refresh(RefreshRequest(self.name, data=True))
        assert isinstance(result, ConnectionRefreshResult)
        return result

    def query(self, name: str, select: str = "*", tail: str = "") -> list[tuple[Any, ...]]:
        """Rows of a table's version, through the reader."""
        with self.db.query() as query:
            return query.execute(f"SELECT {select} FROM {self.table(name).ref} {tail}").fetchall()

    def arrow(self, name: str) -> pa.Table:
        """A table's version as pyarrow reads the file itself."""
        root = self.db.settings.home / "storage"
        return pq.read_table(root / path_of(self.version(name)))


def same_text(value: str | None) -> str | None:
    """A value in words that servers and DuckDB write differently, in one form."""
    if value is None:
        return None
    text = {"Infinity": "inf", "-Infinity": "-inf", "infinity": "inf", "-infinity": "-inf"}.get(value, value)
    text = text.replace("NaN", "nan")
    if "BC" in text:
        return "BC " + " ".join(text.replace("(BC)", "").replace("BC", "").split())
    return text
