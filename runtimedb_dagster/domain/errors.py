"""Everything RuntimeDB raises on purpose.

Each message names the connection, the table, what happened, and what to do::

    RuntimeDBError
    ├── ConfigurationError          a setting, URL, name or option is wrong
    ├── RequestError                a request that can't be carried out as asked
    │   ├── ConnectionNotFoundError
    │   └── TableNotFoundError
    ├── CatalogError                the catalog can't be used
    │   ├── CatalogUnavailableError it is unavailable or busy now; a retry may help
    │   └── CatalogMovedError       it was moved into another database, which is to be used instead
    ├── SourceError                 a remote database can't be reached or read
    │   └── SourceUnavailableError  it is unavailable or locked now; a retry may help
    ├── DiscoveryError              what a source shows can't be recorded
    │   └── DiscoveryRefusedError   it would remove too much; the caller may confirm it
    ├── RefreshError                a table has no new version
    │   ├── TypeContractError       a value has no exact form in a version
    │   ├── TableUnavailableError   its source is unavailable or locked (a SourceUnavailableError, too)
    │   ├── SupersededError         a refresh that started later has already published
    │   ├── RowsGoneError           more rows are gone than an option allows; the caller may confirm it
    │   ├── BaseReplacedError       another one has replaced the version of which it keeps files
    │   └── ReservationLostError    the sweep has already claimed the new file
    ├── StorageError                a version's file can't be written, read or deleted
    │   ├── StorageUnavailableError it is unavailable now; a retry may help
    │   ├── ForeignStorageError     it belongs to another catalog, or to the one that this is a copy of
    │   └── UnsafePathError         a path leads outside the storage root
    └── QueryError                  a statement can't be answered
        ├── TableNotCachedError     the table has no version yet
        └── LeaseExpiredError       the reader was away for longer than its lease
"""

from __future__ import annotations

__all__ = [
    "BaseReplacedError",
    "CatalogError",
    "CatalogMovedError",
    "CatalogUnavailableError",
    "ConfigurationError",
    "ConnectionNotFoundError",
    "DiscoveryError",
    "DiscoveryRefusedError",
    "ForeignStorageError",
    "LeaseExpiredError",
    "QueryError",
    "RefreshError",
    "RequestError",
    "ReservationLostError",
    "RowsGoneError",
    "RuntimeDBError",
    "SourceError",
    "SourceUnavailableError",
    "StorageError",
    "StorageUnavailableError",
    "SupersededError",
    "TableNotCachedError",
    "TableNotFoundError",
    "TableUnavailableError",
    "TypeContractError",
    "UnsafePathError",
]


class RuntimeDBError(Exception):
    """The root: `except RuntimeDBError` catches whatever RuntimeDB raises on purpose."""


class ConfigurationError(RuntimeDBError):
    """A setting, URL, connection name or option is wrong; nothing was done."""


class RequestError(RuntimeDBError):
    """A request that can't be carried out as asked; nothing was done."""


class ConnectionNotFoundError(RequestError):
    """No connection has that name or id."""

    def __init__(self, name_or_id: str) -> None:
        super().__init__(f"Connection '{name_or_id}' not found")


class TableNotFoundError(RequestError):
    """No table of that full name is in the catalog."""

    def __init__(self, full_name: str, hint: str = "") -> None:
        super().__init__(f"Table '{full_name}' not found{hint}")


class CatalogError(RuntimeDBError):
    """The catalog can't be reached, or was written by a newer release."""


class CatalogUnavailableError(CatalogError):
    """The catalog's database is unavailable, or wants the transaction to be retried; nothing was changed."""


class CatalogMovedError(CatalogError):
    """The catalog was moved into another database; nothing is changed in this one any more."""


class SourceError(RuntimeDBError):
    """A remote database can't be opened, listed or read."""


class SourceUnavailableError(SourceError):
    """A remote database is unavailable or locked at the moment; a retry may help."""


class DiscoveryError(RuntimeDBError):
    """What a source shows can't be recorded; the catalog is unchanged."""


class DiscoveryRefusedError(DiscoveryError):
    """The discovery found nothing, or would remove more than half of a connection's tables.

    A revoked permission looks exactly like that, so nothing changes until the caller confirms it.
    """


class RefreshError(RuntimeDBError):
    """A table has no new version; the old one, if there is one, keeps serving."""


class TableUnavailableError(RefreshError, SourceUnavailableError):
    """A table could not be read for a transient reason; a retry may help."""


class TypeContractError(RefreshError):
    """A column holds a value, or has a type, that a version can't keep exactly."""


class SupersededError(RefreshError):
    """A refresh of the table that started later has already published; this one's data is older."""


class BaseReplacedError(RefreshError):
    """The version of which a refresh keeps files is no longer the table's, or not to be relied on."""


class RowsGoneError(RefreshError):
    """More rows are gone than the option max_delete_ratio allows; the caller may confirm it."""


class ReservationLostError(RefreshError):
    """The write took longer than its write lease, unrenewed, and the sweep has claimed the file."""


class StorageError(RuntimeDBError):
    """A version's file can't be written, read or deleted."""


class StorageUnavailableError(StorageError):
    """The storage does not answer at the moment; a retry may help."""


class ForeignStorageError(StorageError):
    """The storage is another catalog's: nothing was read, written or deleted there."""


class UnsafePathError(StorageError):
    """A path in the catalog leads outside the storage root, or through a symlink; it was not touched."""


class QueryError(RuntimeDBError):
    """A statement is not one SELECT, or names something that is not there."""


class TableNotCachedError(QueryError):
    """The table is discovered but has no version yet."""


class LeaseExpiredError(QueryError):
    """The reader was suspended for longer than its lease, so its versions may be gone; query again."""
