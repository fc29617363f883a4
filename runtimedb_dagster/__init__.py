"""RuntimeDB for Dagster: query remote databases from a Dagster deployment as if they were local.

What is named here is what there is for users; modules are private, wherever they are. The names of the Dagster form are
imported when they are asked for, so the command line does without Dagster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.declarations import Declaration, Declared
from runtimedb_dagster.domain.errors import (
    BaseReplacedError,
    CatalogError,
    CatalogMovedError,
    CatalogUnavailableError,
    ConfigurationError,
    ConnectionNotFoundError,
    DiscoveryError,
    DiscoveryRefusedError,
    ForeignStorageError,
    LeaseExpiredError,
    QueryError,
    RefreshError,
    RequestError,
    ReservationLostError,
    RowsGoneError,
    RuntimeDBError,
    SourceError,
    SourceUnavailableError,
    StorageError,
    StorageUnavailableError,
    SupersededError,
    TableNotCachedError,
    TableNotFoundError,
    TableUnavailableError,
    TypeContractError,
    UnsafePathError,
)
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.outcomes import (
    Event,
    Failed,
    Outcome,
    Progress,
    Published,
    TableProgress,
    Unchanged,
    Waiting,
)
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
from runtimedb_dagster.domain.versions import DataFile, DeletesFile, PendingDeletion, Version
from runtimedb_dagster.engine.audit import Audited
from runtimedb_dagster.engine.facade import RuntimeDB
from runtimedb_dagster.engine.verify import Finding
from runtimedb_dagster.query.reader import Query
from runtimedb_dagster.query.result import Result

if TYPE_CHECKING:
    from runtimedb_dagster.dagster.component import RuntimeDBComponent
    from runtimedb_dagster.dagster.definitions import build_definitions
    from runtimedb_dagster.dagster.deps import table_deps, table_input, tables_changed
    from runtimedb_dagster.dagster.io_manager import RuntimeDBIOManager
    from runtimedb_dagster.dagster.resource import RuntimeDBResource
    from runtimedb_dagster.dagster.translator import RuntimeDBTranslator

__all__ = [
    "Audited",
    "BaseReplacedError",
    "CatalogError",
    "CatalogMovedError",
    "CatalogUnavailableError",
    "CheckResult",
    "ConfigurationError",
    "ConfigureResult",
    "Connection",
    "ConnectionNotFoundError",
    "ConnectionRefreshResult",
    "DataFile",
    "Declaration",
    "Declared",
    "DeletesFile",
    "DiscoveryError",
    "DiscoveryRefusedError",
    "DiscoveryResult",
    "Event",
    "Failed",
    "Finding",
    "ForeignStorageError",
    "LeaseExpiredError",
    "Outcome",
    "PendingDeletion",
    "Progress",
    "Published",
    "PurgeResult",
    "Query",
    "QueryError",
    "RefreshError",
    "RefreshFacts",
    "RefreshRequest",
    "RefreshResult",
    "RemoveResult",
    "RequestError",
    "ReservationLostError",
    "Result",
    "RowsGoneError",
    "RuntimeDB",
    "RuntimeDBComponent",
    "RuntimeDBError",
    "RuntimeDBIOManager",
    "RuntimeDBResource",
    "RuntimeDBTranslator",
    "Settings",
    "SourceColumn",
    "SourceError",
    "SourceUnavailableError",
    "StorageError",
    "StorageUnavailableError",
    "SupersededError",
    "SweepResult",
    "Table",
    "TableNotCachedError",
    "TableNotFoundError",
    "TableProgress",
    "TableRef",
    "TableRefreshResult",
    "TableUnavailableError",
    "TypeContractError",
    "Unchanged",
    "UnsafePathError",
    "Version",
    "VersionColumn",
    "Waiting",
    "build_definitions",
    "table_deps",
    "table_input",
    "tables_changed",
]
__version__ = "0.1.0"

_OF_DAGSTER = {
    "build_definitions": "definitions",
    "table_deps": "deps",
    "table_input": "deps",
    "tables_changed": "deps",
    "RuntimeDBComponent": "component",
    "RuntimeDBIOManager": "io_manager",
    "RuntimeDBResource": "resource",
    "RuntimeDBTranslator": "translator",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_DAGSTER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module  # noqa: PLC0415 - for this alone

    return getattr(import_module(f"{__name__}.dagster.{_OF_DAGSTER[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
