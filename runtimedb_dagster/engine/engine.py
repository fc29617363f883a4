"""RuntimeDB's parts, put together: what the façade shows to users, and what its own Dagster form needs besides."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import RequestError, SupersededError, TableNotFoundError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.outcomes import Event, Failed, Outcome, Unchanged
from runtimedb_dagster.domain.requests import RefreshRequest
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import PendingDeletion, SequenceNumber
from runtimedb_dagster.engine.crew import refresh_many
from runtimedb_dagster.engine.discovery import Discoverer
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.ownership import Owner
from runtimedb_dagster.engine.refresh import Refresher
from runtimedb_dagster.engine.strategy import audit_due, may_be_surveyed
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.engine.verify import Finding, altered, exposed, unreadable, verify
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster.storage import open_storage

__all__ = ["Engine"]


class Engine:
    """The parts of one RuntimeDB, over its catalog and its storage."""

    def __init__(self, settings: Settings) -> None:
        """Open the catalog and the storage, making them if they are not there yet.

        Raises:
            ConfigurationError, CatalogError
        """
        failpoints.arm()
        self.settings = settings
        self.storage = open_storage(settings.storage_url, settings.home / "staging")
        self.catalog = Catalog(settings.catalog_url)
        self.reader = FileReader(self.storage, settings.duckdb_config)
        self.sweeper = Sweeper(self.catalog, self.storage)
        self.refresher = Refresher(self.catalog, self.storage, settings, self.sweeper, self.reader)
        self.discoverer = Discoverer(self.catalog, settings)
        self.owner = Owner(self.catalog, self.storage, settings.storage_url.partition("?")[0])

    def close(self) -> None:
        """Close what was opened."""
        self.reader.close()
        self.catalog.close()

    def select(self, request: RefreshRequest) -> tuple[Connection, list[Table]]:
        """The connection and the tables whose data a request refreshes.

        Raises:
            RequestError: the request has no meaning, is none for data, or names what is not there.
        """
        request.validate()
        if not request.data or request.connection is None:
            raise RequestError("only a data refresh of a connection concerns tables")
        connection = self.catalog.connections.get(request.connection)
        if request.schema_name and request.table_name:
            return connection, [self.catalog.tables.get(connection, request.schema_name, request.table_name)]
        if request.partition_keys:
            tables = self.tables_of_keys(connection, request.partition_keys)
        else:
            tables = self.catalog.tables.list(connection)
        return connection, [table for table in tables if table.cached or request.include_uncached]

    def tables_of_keys(self, connection: Connection, keys: Sequence[str]) -> list[Table]:
        """A connection's tables by their partitions' keys, each once.

        Raises:
            TableNotFoundError: a key is of none of them.
        """
        found = {table.ref.partition_key: table for table in self.tables_there(connection, keys)}
        for key in keys:
            if key not in found:
                raise TableNotFoundError(_full_name(connection, key))
        return [found[key] for key in dict.fromkeys(keys)]

    def tables_there(self, connection: Connection, keys: Sequence[str]) -> Sequence[Table]:
        """Those of a connection's tables that have one of some partitions' keys; others are passed over."""
        addresses = []
        for key in keys:
            try:
                ref = TableRef.from_partition_key(connection.name, key)
            except ValueError:
                continue
            addresses.append((ref.schema_name, ref.table_name))
        return self.catalog.tables.some(connection, addresses)

    def next_sequence(self) -> SequenceNumber:
        """Now, as a number of the clock: what `refresh` takes as `since`."""
        return self.catalog.publications.next_sequence()

    def refresh(
        self,
        connection: Connection,
        tables: Sequence[Table],
        *,
        since: SequenceNumber | None = None,
        full: bool = False,
        confirm: bool = False,
    ) -> Generator[Event, None, None]:
        """Refresh some of a connection's tables; yields what happens, with an outcome for each.

        A refresh that is overtaken by one that started later has what it was asked for, the version of the other: it
        was read after this request.

        Args:
            connection: whose tables they are.
            tables: as they are now.
            since: a number of the clock; a table that was read after it, by whomever, is not read again: its outcome
                is what it is now.
            full: see `RefreshRequest`.
            confirm: publish versions even if they lack more rows than the option max_delete_ratio allows.

        Raises:
            SourceError, StorageUnavailableError: none was refreshed.
        """
        limit = connection.options.parallel_refresh or self.settings.parallel_refresh
        left = [table for table in tables if not _is_newer(table, since)]
        yield from (self.refresher.as_it_is(table) for table in tables if _is_newer(table, since))
        self.owner.require()
        with (
            open_source(connection, self.settings.duckdb_config) as source,
            # Who ends the iteration early ends the readings before their source.
            closing(
                refresh_many(self.refresher, source, connection, left, limit, full=full, confirm=confirm)
            ) as events,
        ):
            for event in events:
                yield self._overtaken(connection, event) if _is_superseded(event) else event

    def survey(self, connection: Connection, tables: Sequence[Table]) -> list[Unchanged]:
        """Ask of some of a connection's tables at once whether they are what their source holds.

        Returns:
            The outcomes of those of which the source proves it; the others are to be refreshed.

        Raises:
            SourceError, StorageError
        """
        # What is to be audited is read by itself.
        asked = [table for table in tables if not audit_due(table, connection.options, utc_now())]
        if not any(map(may_be_surveyed, asked)):
            return []
        self.owner.require()
        with open_source(connection, self.settings.duckdb_config) as source:
            return self.refresher.survey(source, asked, thorough=True)

    def _overtaken(self, connection: Connection, event: Event) -> Event:
        """The version that a later refresh published, unless that is gone again."""
        if not isinstance(event, Outcome):
            return event
        table = self.catalog.tables.find(connection, event.ref.schema_name, event.ref.table_name)
        return self.refresher.as_it_is(table) if table and table.version else event

    def unreadable(self, tables: Sequence[Table]) -> list[Finding]:
        """Those of `tables` whose version can't be read, or holds other rows than recorded."""
        return unreadable(tables, self.storage, self.reader)

    def exposed(self, connection: Connection, tables: Sequence[Table]) -> list[Finding]:
        """Those of a connection's `tables` whose version shows what its options hide."""
        return exposed({connection.id: connection}, tables)

    def deletions_due(self) -> int:
        """How many files a sweep would try to delete now."""
        return self.catalog.deletions.count_due(utc_now())

    def failing_deletions(self, connection: Connection, attempts: int) -> Sequence[PendingDeletion]:
        """Those of a connection's files that could not be deleted more than `attempts` times."""
        return self.catalog.deletions.failing(connection, attempts)

    def verify(self, *, deep: bool = False) -> list[Finding]:
        """See `RuntimeDB.verify`."""
        self.owner.require()
        with self.catalog.leases.held(self.settings.reader_lease):
            findings = verify(self.catalog, self.storage, self.reader, utc_now())
            if deep:
                found = {finding.subject for finding in findings if finding.invariant == "I1"}
                tables = [table for table in self.catalog.tables.list() if str(table.ref) not in found]
                findings += altered(tables, self.storage, self.reader)
            return findings


def _is_newer(table: Table, since: SequenceNumber | None) -> bool:
    checked = table.checked_sequence
    return since is not None and checked is not None and checked > since and table.version is not None


def _is_superseded(event: Event) -> bool:
    return isinstance(event, Failed) and isinstance(event.error, SupersededError)


def _full_name(connection: Connection, key: str) -> str:
    try:
        return str(TableRef.from_partition_key(connection.name, key))
    except ValueError:
        return f"{connection.name}.{key}"
