"""RuntimeDB without Dagster: everything it can do, as one object."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from time import perf_counter

from typing_extensions import Self

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.declarations import Declaration, Declared
from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.outcomes import Event, Failed, Outcome
from runtimedb_dagster.domain.requests import (
    CheckResult,
    ConfigureResult,
    ConnectionRefreshResult,
    DiscoveryResult,
    PurgeResult,
    RefreshRequest,
    RefreshResult,
    RemoveResult,
    SweepResult,
    TableRefreshResult,
)
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import PendingDeletion, Version
from runtimedb_dagster.engine.audit import Audited, audit
from runtimedb_dagster.engine.declaring import declare, require_by_hand
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.engine.export import export, files
from runtimedb_dagster.engine.registration import Options, check, configure, connect, purge
from runtimedb_dagster.engine.results import connection_result, table_result
from runtimedb_dagster.engine.verify import Finding
from runtimedb_dagster.query.reader import Query, open_query

__all__ = ["RuntimeDB"]


class RuntimeDB:
    """Remote databases, as if they were local.

    >>> db = RuntimeDB(Settings(home="~/runtimedb"))
    >>> db.connect("shop", "duckdb:///data/shop.duckdb")
    >>> db.refresh_connection("shop")
    >>> with db.query() as query:
    ...     query.sql("select count(*) from shop.main.orders").fetchall()

    May be used by several threads, and by several processes over one catalog.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Open the catalog and the storage, making them if they are not there yet.

        Args:
            settings: where everything is; by default what the environment says.

        Raises:
            ConfigurationError, CatalogError
        """
        self.settings = settings or Settings()
        # For RuntimeDB's own Dagster form; no part of what is promised to users.
        self.engine = Engine(self.settings)
        self._catalog = self.engine.catalog

    def __enter__(self) -> Self:
        """Use as a context manager to close it in the end."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the catalog's connections."""
        self.engine.close()

    # Connections

    def connect(
        self, name: str, url: str, *, options: Options | None = None, password_env: str | None = None
    ) -> Connection:
        """Register a remote database and discover its tables.

        Args:
            name: unique, of letters, digits and `_`; the first part of its tables' full names.
            url: such as `duckdb:///path`; never with a password in it.
            options: of every connection and of its type of source; they win over those in the URL.
            password_env: the environment variable that holds the password.

        Raises:
            ConfigurationError: a wrong or taken name, an unknown source type or option; nothing was registered.
            SourceError, DiscoveryError: it is registered, but its tables could not be discovered.
        """
        return connect(self.engine, name, url, options or {}, password_env)

    def configure(
        self,
        connection: str,
        *,
        options: Options | None = None,
        unset: Iterable[str] = (),
        password_env: str | None = None,
    ) -> ConfigureResult:
        """Change some of a connection's options; Dagster shows it after its code location reloads.

        Args:
            connection: name or id.
            options: to set; the others stay as they are.
            unset: names of options to take back.
            password_env: another environment variable that holds the password; None leaves it as it is.

        Returns:
            The connection, and the tables whose versions are not as they would be made from now on.

        Raises:
            ConnectionNotFoundError, ConfigurationError: nothing was changed.
        """
        require_by_hand(self._catalog.connections.get(connection), "configured")
        return configure(self.engine, connection, options or {}, set(unset), password_env)

    def declare(
        self, declarations: Sequence[Declaration], declared_in: str, *, remove_undeclared: bool = False
    ) -> Declared:
        """Bring the catalog in step with connections that a file declares; nothing is discovered.

        Any number of processes may do it at once, and again: what is as declared is left alone. A connection that was
        registered by hand under the same name becomes the declared one, and keeps its tables and versions.

        Args:
            declarations: all of that file.
            declared_in: the file, as users know it; `configure` and `remove` send them there.
            remove_undeclared: forget connections that this file declared before, with their versions. Else they are
                left as they are, to be configured and removed by hand.

        Raises:
            ConfigurationError: of a wrong declaration, as `connect`; one that another file has, too.
            CatalogError
        """
        return declare(self.engine, declarations, declared_in, remove_undeclared=remove_undeclared)

    def connections(self) -> list[Connection]:
        """All connections, by name."""
        return self._catalog.connections.list()

    def connection(self, name_or_id: str) -> Connection:
        """One connection.

        Raises:
            ConnectionNotFoundError
        """
        return self._catalog.connections.get(name_or_id)

    def tables(self, connection: str | None = None) -> list[Table]:
        """The tables of one connection (name or id) or of all.

        Raises:
            ConnectionNotFoundError
        """
        return self._catalog.tables.list(self._catalog.connections.get(connection) if connection else None)

    def check(self, connection: str) -> CheckResult:
        """Whether a connection's source answers, and how fast.

        Raises:
            ConnectionNotFoundError
        """
        return check(self.engine, connection)

    def remove(self, connection: str) -> RemoveResult:
        """Forget a connection with its tables; readers have the grace period, then the files are swept.

        Raises:
            ConnectionNotFoundError
            ConfigurationError: it is declared in a file.
        """
        found, now = self._catalog.connections.get(connection), utc_now()
        require_by_hand(found, "removed")
        removed = self._catalog.connections.remove(found, now + self.settings.grace_period)
        return RemoveResult(found.id, removed)

    def purge(self, connection: str, schema_name: str | None = None, table_name: str | None = None) -> PurgeResult:
        """Forget the data of one table, or of all of a connection's, and keep the tables.

        Raises:
            RequestError: one of `schema_name` and `table_name` is missing.
            ConnectionNotFoundError, TableNotFoundError
        """
        return purge(self.engine, connection, schema_name, table_name)

    # Refresh

    def discover(self, connection: str | None = None, *, confirm: bool = False) -> DiscoveryResult:
        """Find which tables and columns one connection has, or all have, and record the difference.

        Args:
            connection: name or id; None: all, where the errors of some keep none of the others from it.
            confirm: go on even if that removes everything or more than half, as a revoked permission would.

        Raises:
            ConnectionNotFoundError, SourceError, DiscoveryRefusedError
        """
        if connection is None:
            return self.engine.discoverer.all(confirm=confirm)
        return self.engine.discoverer.one(self._catalog.connections.get(connection), confirm=confirm)

    def refresh_table(
        self, connection: str, schema_name: str, table_name: str, *, full: bool = False
    ) -> TableRefreshResult:
        """Make a new version of one table; see `RefreshRequest` for `full`.

        Raises:
            RequestError: a name is empty; nothing was done.
            ConnectionNotFoundError, TableNotFoundError
            RefreshError, SourceError, StorageError: the old version, if there is one, keeps serving.
        """
        if not (schema_name and table_name):
            raise RequestError("a refresh of one table takes its schema_name and table_name")
        result = self.refresh(RefreshRequest(connection, schema_name, table_name, data=True, full=full))
        if not isinstance(result, TableRefreshResult):
            raise TypeError("a request for one table has one table's result")
        return result

    def refresh_connection(
        self,
        connection: str,
        *,
        include_uncached: bool = True,
        partition_keys: Sequence[str] = (),
        full: bool = False,
    ) -> ConnectionRefreshResult:
        """Make new versions of a connection's tables; see `RefreshRequest` for what may be combined.

        Raises:
            ConnectionNotFoundError, TableNotFoundError
            SourceError, StorageUnavailableError: none was refreshed.
        """
        result = self.refresh(
            RefreshRequest(
                connection, data=True, include_uncached=include_uncached, partition_keys=partition_keys, full=full
            )
        )
        if not isinstance(result, ConnectionRefreshResult):
            raise TypeError("a request for a connection has a connection's result")
        return result

    def refresh(self, request: RefreshRequest, *, confirm: bool = False) -> RefreshResult:
        """Carry out a request; see `RefreshRequest` for what it can say.

        Args:
            request: what to refresh.
            confirm: see `discover`; of data, publish versions even if the option max_delete_ratio says otherwise.

        Raises:
            RequestError: the request has no meaning; nothing was done.
            RefreshError, SourceError: a request for one table failed; its old version keeps serving.
            DiscoveryRefusedError: see `confirm`.
        """
        request.validate()
        if not request.data:
            return self.discover(request.connection, confirm=confirm)
        started = perf_counter()
        return self.result_of(request, self.events(request, confirm=confirm), started)

    def events(self, request: RefreshRequest, *, confirm: bool = False) -> Generator[Event, None, None]:
        """Refresh data, and yield what happens: how far it is, what it waits for, and what became of each table.

        >>> for event in db.events(RefreshRequest("shop", data=True)):
        ...     match event:
        ...         case Progress(): print(event.tables_done, "of", event.tables)
        ...         case Waiting(): print(event)
        ...         case Published() | Unchanged(): print(event.ref, event.version.rows)
        ...         case Failed(): print(event.ref, event.error)

        Ending the iteration early interrupts what is still being read.

        Raises:
            RequestError: the request has no meaning, or is none for data; raised here, not while iterating.
            SourceError, StorageUnavailableError: while iterating: no table was refreshed.
        """
        connection, tables = self.engine.select(request)
        return self.engine.refresh(connection, tables, full=request.full, confirm=confirm)

    def result_of(
        self, request: RefreshRequest, events: Iterable[Event], started: float
    ) -> TableRefreshResult | ConnectionRefreshResult:
        """The result of a request for data, of the events that it has yielded.

        Args:
            request: what was asked for.
            events: all of them; iterated to their end.
            started: when it was, by `time.perf_counter`.

        Raises:
            RefreshError, SourceError: a request for one table failed.
        """
        outcomes = [event for event in events if isinstance(event, Outcome)]
        connection = self._catalog.connections.get(request.connection or "")
        if request.table_name:
            return table_result(connection.id, outcomes[0])
        return connection_result(connection.id, outcomes, _milliseconds_since(started))

    # Reading

    def query(self, *, fetch_missing: bool = False) -> AbstractContextManager[Query]:
        """Read versions: all statements in the block see one snapshot.

        Args:
            fetch_missing: refresh a table on its first use, if it has no version yet.
        """
        fetch = self._fetch if fetch_missing else None
        return open_query(self._catalog, self.engine.storage, self.settings, fetch)

    def _fetch(self, table: Table) -> Version:
        connection = self._catalog.connections.get(table.connection_id)
        (outcome,) = (event for event in self.engine.refresh(connection, [table]) if isinstance(event, Outcome))
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.version

    def files(self, connection: str, schema_name: str, table_name: str) -> tuple[Version, Mapping[str, str]]:
        """The version of a table, and where its files are, as DuckDB reads them, by their paths in the storage.

        Raises:
            ConnectionNotFoundError, TableNotFoundError, TableNotCachedError
        """
        return files(self.engine, connection, schema_name, table_name)

    def export(self, connection: str, schema_name: str, table_name: str, file: str | Path) -> int:
        """Write a table's version as one plain Parquet file, for readers that know no deletes files.

        Args:
            connection: name or id.
            schema_name: of the table.
            table_name: of the table.
            file: where to; nothing may be there.

        Returns:
            How many rows it has.

        Raises:
            ConnectionNotFoundError, TableNotFoundError, TableNotCachedError
            StorageError: the file is there, or can't be written.
        """
        return export(self.engine, connection, schema_name, table_name, Path(file))

    # Upkeep

    def sweep(self, now: datetime | None = None) -> SweepResult:
        """Delete the files whose pending deletion is due at `now`.

        Raises:
            StorageUnavailableError: the storage is not mounted.
            ForeignStorageError: it is another catalog's.
        """
        self.engine.owner.require()
        return self.engine.sweeper.sweep(now or utc_now())

    def verify(self, *, deep: bool = False) -> list[Finding]:
        """Check the invariants on the live system; empty when all is well. Changes nothing but its lease.

        Args:
            deep: also read every version whole, and compare its content with what was written.
        """
        return self.engine.verify(deep=deep)

    def audit(self, connection: str, schema_name: str | None = None, table_name: str | None = None) -> list[Audited]:
        """Read tables whole, and compare them with what their next refresh by changes would make; publishes nothing.

        A table that differs is read whole by its next refresh.

        Args:
            connection: name or id.
            schema_name: with `table_name`, the one table; without, all that have a version.
            table_name: see `schema_name`.

        Raises:
            RequestError: one of `schema_name` and `table_name` is missing.
            ConnectionNotFoundError, TableNotFoundError, SourceError
        """
        if bool(schema_name) != bool(table_name):
            raise RequestError("an audit of one table takes its schema_name and table_name")
        found = self._catalog.connections.get(connection)
        if schema_name and table_name:
            tables = [self._catalog.tables.get(found, schema_name, table_name)]
        else:
            tables = [table for table in self._catalog.tables.list(found) if table.cached]
        return list(audit(self.engine, found, tables))

    def pending_deletions(self) -> list[PendingDeletion]:
        """All pending deletions, soonest first."""
        return self._catalog.deletions.list()

    def copy_catalog(self, url: str) -> dict[str, int]:
        """Move another catalog, with its history, into this one, which must be empty.

        Versions stay where they are: both must have the same storage. The old catalog changes nothing any more; who
        still uses it learns where it went. If it ends in the middle, it can be called again.

        Returns:
            How many rows each of its tables had.

        Raises:
            ConfigurationError: this catalog holds connections already, or there is none to be moved.
            CatalogMovedError: it was moved before.
            ForeignStorageError: its versions are in another storage.
        """
        copied = self._catalog.move_from(url, self.engine.owner.require_of)
        # From here on it is this catalog's, whatever the old one's processes are about to do.
        self.engine.owner.adopt()
        return copied

    def adopt_storage(self) -> None:
        """Take over a storage that belonged to another catalog, or to one that this is a copy of.

        Nothing may use that other catalog any more: what it sweeps from then on is lost to this one.

        Raises:
            CatalogMovedError, StorageError
        """
        self.engine.owner.adopt()


def _milliseconds_since(started: float) -> int:
    return round((perf_counter() - started) * 1000)
