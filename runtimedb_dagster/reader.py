"""The reader: a snapshot, a lease, and one SELECT at a time that can see nothing else."""

from __future__ import annotations

import difflib
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.config import Settings
from runtimedb_dagster.errors import LeaseExpiredError, QueryError, TableNotCachedError, TableNotFoundError
from runtimedb_dagster.heartbeat import renewed, utc_now
from runtimedb_dagster.model import Connection, Lease, Table, TableRef, Version
from runtimedb_dagster.sandbox import Parameters, Sandbox, tables_named
from runtimedb_dagster.sql import fold
from runtimedb_dagster.storage import Storage

__all__ = ["Fetch", "Query", "open_query"]

Fetch = Callable[[Table], Version]
"""Makes the first version of a table."""


@contextmanager
def open_query(catalog: Catalog, storage: Storage, settings: Settings, fetch: Fetch | None = None) -> Iterator[Query]:
    """Take a snapshot and a lease on it, for as long as the block runs.

    Args:
        catalog: whose versions to read.
        storage: where their files are.
        settings: how long a lease lasts, and DuckDB's limits.
        fetch: if given, is asked for tables that are not cached yet.
    """
    lease = catalog.leases.open(utc_now(), settings.reader_lease)
    temporary = Path(tempfile.mkdtemp(prefix="runtimedb-query-"))
    query = Query(catalog, storage, settings, lease, catalog.connections.list(), temporary, fetch)
    try:
        with renewed(settings.reader_lease, query.renew):
            yield query
    finally:
        query.close()
        catalog.leases.close(lease)
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass
class Query:
    """Reads versions by `connection.schema.table`: `query.sql("select … from shop.main.orders")`.

    All statements see one snapshot, whatever is published meanwhile. Each is exactly one SELECT, and can read
    the files of the tables that it names and nothing else: no other file, no network, no settings.
    """

    _catalog: Catalog
    _storage: Storage
    _settings: Settings
    _lease: Lease
    _connections: list[Connection]
    _temporary: Path
    _fetch: Fetch | None
    _versions: dict[TableRef, Version] = field(default_factory=dict)
    _sandboxes: list[Sandbox] = field(default_factory=list)

    def sql(self, query: str, *, params: Parameters = None) -> duckdb.DuckDBPyRelation:
        """Run one SELECT, lazily.

        Args:
            query: names tables as `connection.schema.table`; a name matches to the letter or, if it is the only
                one, in any case, as in DuckDB.
            params: for `?`, `$1` or `$name` in the query.

        Returns:
            A relation (`fetchall()`, `arrow()`, `df()`, `pl()`, …) that can be read until the block ends.

        Raises:
            QueryError: it is not one SELECT, or DuckDB refuses it.
            TableNotFoundError, TableNotCachedError: it names a table that is not there (yet).
            LeaseExpiredError: the process was suspended for longer than its lease.
            StorageError: the storage gives no access.
        """
        with self._named_errors():
            duck = self._prepared(query)
            return duck.sql(query) if params is None else duck.sql(query, params=params)

    def execute(self, query: str, params: Parameters = None) -> duckdb.DuckDBPyConnection:
        """Run one SELECT, at once.

        Returns:
            The DuckDB connection to fetch from.

        Raises:
            As `sql`.
        """
        with self._named_errors():
            return self._prepared(query).execute(query, params)

    def renew(self) -> None:
        """Keep the lease alive; called by its heartbeat. One that has expired stays so."""
        self._catalog.leases.renew(self._lease, utc_now(), self._settings.reader_lease)

    def close(self) -> None:
        """Close what was opened; relations can't be read any more."""
        for sandbox in self._sandboxes:
            sandbox.duck.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        self._require_lease()
        try:
            yield
        except duckdb.Error as error:
            self._require_lease()  # without it, files may be gone, and DuckDB's message says only that
            hint = (
                "\n(tables are written connection.schema.table)" if isinstance(error, duckdb.CatalogException) else ""
            )
            raise QueryError(f"The query failed: {error}{hint}") from error

    def _require_lease(self) -> None:
        if not self._catalog.leases.is_live(self._lease, utc_now()):
            raise LeaseExpiredError("This reader was suspended for longer than its lease; open a new query")

    def _prepared(self, query: str) -> duckdb.DuckDBPyConnection:
        """A DuckDB in which the query's tables are views and everything else is out of reach."""
        wanted = {ref: self._versions[ref] for ref in self._refs(tables_named(query))}
        for sandbox in self._sandboxes:
            if wanted.keys() <= sandbox.refs:
                return sandbox.duck
        locations = {ref: self._storage.location(version.path) for ref, version in wanted.items()}
        self._sandboxes.append(self._sandbox(locations))
        return self._sandboxes[-1].duck

    def _sandbox(self, locations: Mapping[TableRef, str]) -> Sandbox:
        return Sandbox(locations, self._temporary, self._settings.duckdb_config, self._storage.make_readable)

    def _refs(self, names: Iterable[tuple[str, str, str]]) -> set[TableRef]:
        refs = {self._ref(*name) for name in sorted(names)}
        folded = {fold(str(ref)) for ref in refs}
        if len(folded) < len(refs):
            raise QueryError(
                "The query names two tables whose names differ only by case, which DuckDB takes for one; "
                "read them with two queries"
            )
        return refs

    def _ref(self, connection_name: str, schema_name: str, table_name: str) -> TableRef:
        connection = self._connection(connection_name, TableRef(connection_name, schema_name, table_name))
        ref = TableRef(connection.name, schema_name, table_name)
        if ref in self._versions:
            return ref
        version = self._catalog.leases.visible(self._lease, connection.id, schema_name, table_name)
        if version is None:
            alike = self._catalog.leases.visible_like(self._lease, connection.id, schema_name, table_name)
            if len(alike) > 1:
                raise QueryError(f"{ref} matches {len(alike)} tables; quote it to the letter")
            if alike:
                return self._ref(connection.name, *alike[0])
            ref, version = self._missing(connection, ref)
        self._versions[ref] = version
        return ref

    def _connection(self, name: str, ref: TableRef) -> Connection:
        for connection in self._connections:
            if fold(connection.name) == fold(name):
                return connection
        raise TableNotFoundError(str(ref), _did_you_mean(name, [each.name for each in self._connections]))

    def _missing(self, connection: Connection, ref: TableRef) -> tuple[TableRef, Version]:
        """The first version of a table that the snapshot does not have, or why there is none."""
        table = self._catalog.tables.find(connection, ref.schema_name, ref.table_name) or self._alike(connection, ref)
        if self._fetch is None:
            raise TableNotCachedError(
                f"{table.ref} is discovered but has no version yet; materialize partition '{table.ref.partition_key}' "
                f"of its asset, run `{_refresh_command(table.ref)}`, or query with fetch_missing"
            )
        return table.ref, self._fetch(table)

    def _alike(self, connection: Connection, ref: TableRef) -> Table:
        """The one table whose name is `ref`'s in any case."""
        tables = self._catalog.tables.list(connection)
        alike = [table for table in tables if fold(str(table.ref)) == fold(str(ref))]
        if len(alike) != 1:
            raise TableNotFoundError(str(ref), _did_you_mean(str(ref), [str(table.ref) for table in tables]))
        return alike[0]


def _refresh_command(ref: TableRef) -> str:
    return f"runtimedb refresh {ref.connection} {shlex.quote(ref.schema_name)} {shlex.quote(ref.table_name)} --data"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
