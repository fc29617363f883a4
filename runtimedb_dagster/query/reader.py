"""The reader: a snapshot, a lease, and one SELECT at a time that can see nothing else."""

from __future__ import annotations

import difflib
import logging
import os
import shlex
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet

import duckdb

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common.duck import private_directory
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.common.sql import fold
from runtimedb_dagster.domain.claims import Lease
from runtimedb_dagster.domain.errors import (
    CatalogError,
    LeaseExpiredError,
    QueryError,
    TableNotCachedError,
    TableNotFoundError,
)
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.query.read_only import ReadOnlyFiles
from runtimedb_dagster.query.result import Result, ended
from runtimedb_dagster.query.sandbox import Parameters, Sandbox, tables_named
from runtimedb_dagster.storage import Storage

__all__ = ["Fetch", "Query", "connection_for", "open_query"]

logger = logging.getLogger(__name__)

# Each idle one costs some threads and megabytes.
MOST_KEPT = 4

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
    lease, process = catalog.leases.open(utc_now(), settings.reader_lease), os.getpid()
    query = None
    try:
        query = Query(catalog, storage, settings, lease, _spill(settings), fetch)
        with renewed(settings.reader_lease, query.renew):
            yield query
    finally:
        # A fork that ends within the block ends nothing of its parent's.
        if os.getpid() == process:
            if query is not None:
                query.close()
            _end(catalog, lease)


def _spill(settings: Settings) -> Path:
    directory = private_directory(settings.duckdb_config)
    directory.mkdir(mode=0o700)
    return directory


def _end(catalog: Catalog, lease: Lease) -> None:
    """End a lease; it ends by itself where that fails, and what was read is no worse for it."""
    try:
        catalog.leases.close(lease)
    except CatalogError:
        logger.warning("a lease could not be ended, and expires", exc_info=True)


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
    _temporary: Path
    _fetch: Fetch | None
    _versions: dict[TableRef, Version] = field(default_factory=dict)
    _kept: list[Sandbox] = field(default_factory=list)
    _open: WeakSet[Sandbox] = field(default_factory=WeakSet)
    _handed_out: list[Sandbox] = field(default_factory=list)
    _preparing: threading.RLock = field(default_factory=threading.RLock)
    _over: bool = False

    def sql(self, query: str, *, params: Parameters = None) -> Result:
        """Run one SELECT.

        Args:
            query: names tables as `connection.schema.table`; a name matches to the letter or, if it is the only
                one, in any case, as in DuckDB.
            params: for `?`, `$1` or `$name` in the query.

        Returns:
            Its rows, independent of those of any other statement.

        Raises:
            QueryError: it is not one SELECT, or DuckDB refuses it.
            TableNotFoundError, TableNotCachedError: it names a table that is not there (yet).
            LeaseExpiredError: the process was suspended for longer than its lease.
            StorageError: the storage gives no access.
        """
        with self._named_errors():
            sandbox = self._sandbox_for(tables_named(query))

        def ask(duck: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
            return duck.sql(query) if params is None else duck.sql(query, params=params)

        return Result(sandbox.cursor, ask, self._named_errors)

    def execute(self, query: str, params: Parameters = None) -> Result:
        """As `sql`, with the parameters where Python's database interface has them."""
        return self.sql(query, params=params)

    def _connection_for(self, refs: Iterable[TableRef], *, handed_out: bool) -> duckdb.DuckDBPyConnection:
        with self._named_errors():
            named = {(ref.connection, ref.schema_name, ref.table_name) for ref in refs}
            if not handed_out:
                return self._sandbox_for(named).cursor()
            files = ReadOnlyFiles(self._storage)
            made = self._made(self._versions_of(named), files.location, lambda duck: duck.register_filesystem(files))
            # Whoever has a relation holds on to its connection, and not to this.
            self._handed_out.append(made)
            return made.cursor()

    def renew(self) -> None:
        """Keep the lease alive; called by its heartbeat. One that has expired stays so."""
        self._catalog.leases.renew(self._lease, utc_now(), self._settings.reader_lease)

    def close(self) -> None:
        """Close what was opened; results can't be read any more."""
        self._over = True
        for sandbox in list(self._open):
            sandbox.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        self._require_open()
        self._require_lease()
        try:
            yield
        except duckdb.Error as error:
            self._require_open()
            self._require_lease()  # without it, files may be gone, and DuckDB's message says only that
            if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
                self._kept.clear()  # later statements get a DuckDB that is whole
            hint = (
                "\n(tables are written connection.schema.table)" if isinstance(error, duckdb.CatalogException) else ""
            )
            if isinstance(error, duckdb.OutOfMemoryException):
                hint = "\n(raise RUNTIMEDB_MEMORY_LIMIT, or read fewer columns or rows at a time)"
            raise QueryError(f"The query failed: {error}{hint}") from error
        except RuntimeError as error:
            # Python's interrupt comes out of DuckDB as the cause of an error of no kind.
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise

    def _require_open(self) -> None:
        if self._over:
            raise ended()

    def _require_lease(self) -> None:
        if not self._catalog.leases.is_live(self._lease, utc_now()):
            raise LeaseExpiredError("This reader was suspended for longer than its lease; open a new query")

    def _sandbox_for(self, names: Iterable[tuple[str, str, str]]) -> Sandbox:
        """A DuckDB in which these tables are views and everything else is out of reach."""
        with self._preparing:
            versions = self._versions_of(names)
            for sandbox in self._kept:
                if versions.keys() <= sandbox.refs:
                    return sandbox
            made = self._made(versions, self._storage.location, self._storage.make_readable)
            # Those that are not kept live as long as their results do.
            self._kept = [*self._kept[-MOST_KEPT + 1 :], made]
            return made

    def _made(
        self,
        versions: Mapping[TableRef, Version],
        locate: Callable[[str], str],
        make_readable: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> Sandbox:
        spill = self._temporary / uuid.uuid4().hex
        made = Sandbox(versions, locate, self._settings.duckdb_config, make_readable, spill)
        self._open.add(made)
        return made

    def _versions_of(self, names: Iterable[tuple[str, str, str]]) -> dict[TableRef, Version]:
        with self._preparing:
            return {ref: self._versions[ref] for ref in self._refs(names)}

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
        for connection in self._lease.connections:
            if fold(connection.name) == fold(name):
                return connection
        raise TableNotFoundError(str(ref), _did_you_mean(name, [each.name for each in self._lease.connections]))

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


def connection_for(query: Query, refs: Iterable[TableRef], *, handed_out: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection to a DuckDB in which some tables are views.

    Args:
        query: whose snapshot it sees.
        refs: the tables.
        handed_out: whether others get hold of it, by a relation: what they say to it is checked by nobody, so that it
            reads through what can't write.

    Raises:
        As `Query.sql`.
    """
    return query._connection_for(refs, handed_out=handed_out)  # noqa: SLF001 - kept from whoever has the query itself


def _refresh_command(ref: TableRef) -> str:
    return f"runtimedb refresh {ref.connection} {shlex.quote(ref.schema_name)} {shlex.quote(ref.table_name)} --data"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
