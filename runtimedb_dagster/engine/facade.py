"""RuntimeDB without Dagster: everything it can do, as one object."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from time import perf_counter
from typing import Any

from typing_extensions import Self

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    RequestError,
    RuntimeDBError,
    SupersededError,
    TableNotFoundError,
)
from runtimedb_dagster.domain.model import Connection, PendingDeletion, Table, TableRef, Version
from runtimedb_dagster.domain.requests import (
    CheckResult,
    DiscoveryResult,
    PurgeResult,
    RefreshRequest,
    RefreshResult,
    RemoveResult,
    SweepResult,
)
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.discovery import Discoverer
from runtimedb_dagster.engine.ownership import Owner
from runtimedb_dagster.engine.refresh import Note, Progress, Refreshed, Refresher, connection_result, table_result
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.engine.verify import Finding, altered, unreadable, verify
from runtimedb_dagster.query.reader import Query, open_query
from runtimedb_dagster.sources.registry import ConnectionOptions, SourceUrl, open_source, validate
from runtimedb_dagster.storage import open_storage

__all__ = ["RuntimeDB"]

logger = logging.getLogger(__name__)

# What Dagster takes as part of a sensor's name and DuckDB, unquoted, as that of a database.
CONNECTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
# DuckDB has databases of these names itself.
RESERVED_NAMES = {"memory", "system", "temp"}


class RuntimeDB:
    """Remote databases, as if they were local.

    >>> db = RuntimeDB(Settings(home="~/runtimedb"))
    >>> db.connect("shop", "duckdb:///data/shop.duckdb")
    >>> db.refresh(RefreshRequest("shop", data=True))
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
        failpoints.arm()
        self._storage = open_storage(self.settings.effective_storage_url, self.settings.home / "staging")
        self._catalog = Catalog(self.settings.effective_catalog_url)
        self._sweeper = Sweeper(self._catalog, self._storage)
        self._refresher = Refresher(self._catalog, self._storage, self.settings, self._sweeper)
        self._discoverer = Discoverer(self._catalog, self.settings)
        self._owner = Owner(self._catalog, self._storage, self.settings.effective_storage_url.partition("?")[0])

    def __enter__(self) -> Self:
        """Use as a context manager to close it in the end."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the catalog's connections."""
        self._catalog.close()

    # Connections

    def connect(self, name: str, url: str, *, password_env: str | None = None, **options: Any) -> Connection:
        """Register a remote database and discover its tables.

        Args:
            name: unique, of letters, digits and `_`; the first part of its tables' full names.
            url: `duckdb:///path`; never with a password in it.
            password_env: the environment variable that holds the password.
            options: the source's options, and `discovery_interval` (seconds).

        Raises:
            ConfigurationError: a wrong or taken name, an unknown source type or option; nothing was registered.
            SourceError, DiscoveryError: it is registered, but its tables could not be discovered.
        """
        self._validate_name(name)
        source_url = SourceUrl.parse(url)
        given = {**source_url.options, **{key: _option(value) for key, value in options.items()}}
        validate(source_url, given)
        connection = self._catalog.connections.add(
            name, source_url.scheme, str(source_url), given, password_env, utc_now()
        )
        try:
            self._discoverer.one(connection)
        except RuntimeDBError as error:
            raise type(error)(
                f"{error} ('{name}' is registered: discover it again with `runtimedb refresh {name}`, "
                f"or forget it with `runtimedb remove {name}`)"
            ) from error
        return self._catalog.connections.get(connection.id)

    def configure(
        self, connection: str, options: Mapping[str, Any], unset: Iterable[str] = (), *, password_env: str | None = None
    ) -> Connection:
        """Change some of a connection's options; Dagster shows it after its code location reloads.

        Args:
            connection: name or id.
            options: to set; the others stay as they are.
            unset: names of options to take back.
            password_env: another environment variable that holds the password; None leaves it as it is.

        Raises:
            ConnectionNotFoundError, ConfigurationError: nothing was changed.
        """
        found, taken_back = self._catalog.connections.get(connection), set(unset)

        def changed(before: Mapping[str, str]) -> dict[str, str]:
            given = {name: value for name, value in before.items() if name not in taken_back}
            given |= {name: _option(value) for name, value in options.items()}
            validate(SourceUrl.parse(found.url), given)
            return given

        return self._catalog.connections.change_options(found, changed, password_env)

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
        found = self._catalog.connections.get(connection)
        started, error = perf_counter(), None
        try:
            with open_source(found, self.settings.duckdb_config) as source:
                source.check()
        except RuntimeDBError as failure:
            error = str(failure)
        return CheckResult(found.id, error is None, round((perf_counter() - started) * 1000), error)

    def remove(self, connection: str) -> RemoveResult:
        """Forget a connection with its tables; readers have the grace period, then the files are swept.

        Raises:
            ConnectionNotFoundError
        """
        found, now = self._catalog.connections.get(connection), utc_now()
        removed = self._catalog.connections.remove(found, now + self.settings.grace_period)
        return RemoveResult(found.id, removed)

    def purge(self, connection: str, schema_name: str | None = None, table_name: str | None = None) -> PurgeResult:
        """Forget the data of one table, or of all of a connection's, and keep the tables.

        Raises:
            RequestError: one of `schema_name` and `table_name` is missing.
            ConnectionNotFoundError, TableNotFoundError
        """
        if bool(schema_name) != bool(table_name):
            raise RequestError("a purge takes a connection, or a connection with schema_name and table_name")
        found = self._catalog.connections.get(connection)
        if schema_name and table_name:
            tables = [self._catalog.tables.get(found, schema_name, table_name)]
        else:
            tables = self._catalog.tables.list(found)
        delete_after = utc_now() + self.settings.grace_period
        return PurgeResult(found.id, self._catalog.versions.purge(found, tables, delete_after))

    # Refresh

    def discover(self, connection: str, *, confirm: bool = False) -> DiscoveryResult:
        """Find which tables and columns a connection has, and record the difference.

        Args:
            connection: name or id.
            confirm: go on even if that removes everything or more than half, as a revoked permission would.

        Raises:
            ConnectionNotFoundError, SourceError, DiscoveryRefusedError
        """
        return self._discoverer.one(self._catalog.connections.get(connection), confirm=confirm)

    def refresh(
        self, request: RefreshRequest, *, confirm: bool = False, progress: Progress | None = None
    ) -> RefreshResult:
        """Carry out a request; see `RefreshRequest` for what it can say.

        Args:
            request: what to refresh.
            confirm: see `discover`.
            progress: is called a few times a second, with the tables that are being read.

        Raises:
            RequestError: the request has no meaning, or names what is not there; nothing was done.
            SourceError: the source of the one connection can't be opened.
            RefreshError: the one table could not be refreshed.
        """
        request.validate()
        if not request.data:
            return (
                self.discover(request.connection, confirm=confirm)
                if request.connection
                else self._discoverer.all(confirm=confirm)
            )
        connection, tables = self.plan(request)
        started = perf_counter()
        outcomes = list(self.refresh_tables(connection.id, tables, progress=progress, full=request.full))
        if request.table_name:
            return table_result(connection.id, outcomes[0])
        return connection_result(connection.id, outcomes, round((perf_counter() - started) * 1000))

    def plan(self, request: RefreshRequest) -> tuple[Connection, list[Table]]:
        """The connection and the tables whose data a request refreshes.

        Raises:
            RequestError: the request has no meaning, is none for data, or names what is not there.
        """
        request.validate()
        if not request.data or request.connection is None:
            raise RequestError("only a data refresh of a connection has a plan")
        connection = self._catalog.connections.get(request.connection)
        if request.schema_name and request.table_name:
            return connection, [self._catalog.tables.get(connection, request.schema_name, request.table_name)]
        tables = self._catalog.tables.list(connection)
        if request.partition_keys:
            tables = _chosen(connection, tables, request.partition_keys)
        return connection, [table for table in tables if table.cached or request.include_uncached]

    def mark(self) -> int:
        """Now, as a generation: what `refresh_tables` takes as `since`."""
        return self._catalog.versions.mark()

    def refresh_tables(
        self,
        connection: str,
        tables: Sequence[Table],
        *,
        since: int | None = None,
        progress: Progress | None = None,
        note: Note = logger.info,
        full: bool = False,
    ) -> Iterator[Refreshed]:
        """Refresh any of a connection's tables and yield each as it is done, failed ones too.

        Args:
            connection: name or id.
            tables: of this connection, as they are now.
            since: a mark; a table that was read after it, by whomever, is not read again, or does not fail because
                it was superseded: it is yielded as it is.
            progress: is called a few times a second.
            note: is told what happens besides, such as waiting for another refresh of the connection.
            full: see `RefreshRequest`.

        Raises:
            ConnectionNotFoundError, SourceError, StorageUnavailableError: none was refreshed.
        """
        found = self._catalog.connections.get(connection)
        limit = ConnectionOptions.of(found.options).parallel_refresh or self.settings.parallel_refresh
        left = [table for table in tables if not _is_newer(table, since)]
        yield from (self._refresher.as_it_is(table) for table in tables if _is_newer(table, since))
        self._owner.require()
        with open_source(found, self.settings.duckdb_config) as source:
            for outcome in self._refresher.many(source, found, left, limit, progress, note, full=full):
                superseded = since is not None and isinstance(outcome.error, SupersededError)
                yield self._winner(found, outcome) if superseded else outcome

    def _winner(self, connection: Connection, outcome: Refreshed) -> Refreshed:
        """The version that a later refresh published, unless that is gone again."""
        tables = [table for table in self._catalog.tables.list(connection) if table.ref == outcome.ref]
        return self._refresher.as_it_is(tables[0]) if tables and tables[0].version else outcome

    # Reading

    def query(self, *, fetch_missing: bool = False) -> AbstractContextManager[Query]:
        """Read versions: all statements in the block see one snapshot.

        Args:
            fetch_missing: refresh a table on its first use, if it has no version yet.
        """
        return open_query(self._catalog, self._storage, self.settings, self._fetch if fetch_missing else None)

    def _fetch(self, table: Table) -> Version:
        (refreshed,) = self.refresh_tables(table.connection_id, [table])
        if refreshed.error is not None:
            raise refreshed.error
        if refreshed.version is None:
            raise RuntimeError("a refresh that succeeds has a version")
        return refreshed.version

    # Upkeep

    def sweep(self, now: datetime | None = None) -> SweepResult:
        """Delete the files whose pending deletion is due at `now`.

        Raises:
            StorageUnavailableError: the storage is not mounted.
            ForeignStorageError: it is another catalog's.
        """
        self._owner.require()
        return self._sweeper.sweep(now or utc_now())

    def copy_catalog(self, url: str) -> dict[str, int]:
        """Move another catalog, with its history, into this one, which must be empty.

        Versions stay where they are: both must have the same storage. The old catalog changes nothing any more; who
        still uses it is told where to it went. If it ends in the middle, it can be called again.

        Returns:
            How many rows each of its tables had.

        Raises:
            ConfigurationError: this catalog holds connections already, or there is none to be moved.
            CatalogMovedError: it was moved before.
            ForeignStorageError: its versions are in another storage.
        """
        copied = self._catalog.move_from(url, self._owner.require_of)
        # From here on it is this catalog's, whatever the old one's processes are about to do.
        self._owner.adopt()
        return copied

    def adopt_storage(self) -> None:
        """Take over a storage that belonged to another catalog, or to one that this is a copy of.

        Nothing may use that other catalog any more: what it sweeps from then on is lost to this one.

        Raises:
            CatalogMovedError, StorageError
        """
        self._owner.adopt()

    def deletions_due(self, now: datetime | None = None) -> int:
        """How many files a sweep at `now` would try to delete."""
        return self._catalog.deletions.count_due(now or utc_now())

    def pending_deletions(self) -> list[PendingDeletion]:
        """All pending deletions, soonest first."""
        return self._catalog.deletions.list()

    def verify(self, *, deep: bool = False) -> list[Finding]:
        """Check the invariants on the live system; empty when all is well. Changes nothing but its lease.

        Args:
            deep: also read every version whole, and compare its content with what was written.
        """
        self._owner.require()
        lease = self._catalog.leases.open(utc_now(), self.settings.reader_lease)
        renew: Callable[[], Any] = lambda: self._catalog.leases.renew(lease, utc_now(), self.settings.reader_lease)  # noqa: E731
        try:
            with renewed(self.settings.reader_lease, renew):
                findings = verify(self._catalog, self._storage, utc_now())
                if deep:
                    found = {finding.subject for finding in findings if finding.invariant == "I1"}
                    tables = [table for table in self._catalog.tables.list() if str(table.ref) not in found]
                    findings += altered(tables, self._storage, self.settings.duckdb_config)
                return findings
        finally:
            self._catalog.leases.close(lease)

    def unreadable(self, tables: Sequence[Table]) -> list[Finding]:
        """Those of `tables` whose version can't be read, or holds other rows than recorded."""
        return unreadable(tables, self._storage)

    def _validate_name(self, name: str) -> None:
        if not CONNECTION_NAME.fullmatch(name) or name.lower() in RESERVED_NAMES:
            raise ConfigurationError(
                f"The connection name '{name}' can't be used: it is a letter, then letters, digits or _, up to 63, "
                f"and none of {', '.join(sorted(RESERVED_NAMES))}"
            )


def _is_newer(table: Table, since: int | None) -> bool:
    return since is not None and table.version is not None and table.version.generation > since


def _option(value: Any) -> str:
    """An option's value as the catalog keeps it and the command line gives it."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def _chosen(connection: Connection, tables: Sequence[Table], keys: Sequence[str]) -> list[Table]:
    by_key = {table.ref.partition_key: table for table in tables}
    for key in keys:
        if key not in by_key:
            raise TableNotFoundError(_full_name(connection, key))
    return [by_key[key] for key in dict.fromkeys(keys)]


def _full_name(connection: Connection, key: str) -> str:
    try:
        return str(TableRef.from_partition_key(connection.name, key))
    except ValueError:
        return f"{connection.name}.{key}"
