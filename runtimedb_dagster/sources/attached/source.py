"""The one adapter of all sources that DuckDB can attach; what differs between them is a `Dialect`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, transaction
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
    TableUnavailableError,
    TypeContractError,
)
from runtimedb_dagster.domain.model import Connection, DiscoveredTable, TableRef
from runtimedb_dagster.sources.attached.dialect import Dialect, Relation, TableIsGone
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.reading import Reading, is_fatal
from runtimedb_dagster.sources.attached.shape import Shape
from runtimedb_dagster.sources.attached.watch import Overrun, watched

__all__ = ["AttachedSource"]

logger = logging.getLogger(__name__)

# Rows may come in any order.
CONFIG: dict[str, Any] = {
    "preserve_insertion_order": False,
    # Each version is read back once: with the cache 10,000 small tables took 676 MB.
    "enable_external_file_cache": False,
    # An error of DuckDB's own ends its instance, and then the process, in the destructor of a transaction. This way it
    # ends a reading, and the instance is used by nobody who comes later.
    "disable_database_invalidation": True,
}


class AttachedSource:
    """A remote database, attached to a DuckDB of its own; each reading gets a transaction of its own.

    Attached once, read by as many threads as the caller likes; once more after a fatal error of DuckDB's.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        shape: Shape,
        config: Mapping[str, Any],
        hide: Callable[[str], str],
        read_timeout: float | None = None,
        discovery_timeout: float | None = None,
    ) -> None:
        """Attach the database of `connection`.

        Args:
            connection: whose source it is.
            dialect: what is particular about it.
            shape: which of its tables, rows and columns are wanted.
            config: DuckDB's.
            hide: takes the secrets out of a text.
            read_timeout: seconds that reading one table may take.
            discovery_timeout: seconds that attaching the database, checking it, or listing its tables may take.

        Raises:
            SourceError: it can't be opened.
        """
        self._connection = connection
        self._dialect = dialect
        self._shape = shape
        self._config = {**CONFIG, **dialect.config, **config}
        self._hide = hide
        self._read_timeout = read_timeout
        self._discovery_timeout = discovery_timeout
        self._readings: dict[duckdb.DuckDBPyConnection, int | None] = {}
        self._replacing = threading.Lock()
        self._dead: list[duckdb.DuckDBPyConnection] = []
        self._duck, self._alias = self._attach()

    def _attach(self) -> tuple[duckdb.DuckDBPyConnection, str]:
        duck = connect(self._config)
        try:
            with self._in_time(duck, "can't be opened"):
                for extension in self._dialect.extensions:
                    load(duck, extension)
                return duck, self._dialect.attach(duck)
        except ConfigurationError as error:
            duck.close()
            raise ConfigurationError(f"Connection '{self._connection.name}': {error}") from error
        except BaseException:
            duck.close()
            raise

    def _replace(self, dead: duckdb.DuckDBPyConnection) -> None:
        """Attach anew for who comes later; what is being read from the dead one may end there."""
        with self._replacing:
            if self._duck is dead:
                logger.warning("connection '%s' is attached anew after a fatal error", self._connection.name)
                self._dead.append(dead)
                self._duck, self._alias = self._attach()

    def close(self) -> None:
        """Detach."""
        for duck in (*self._dead, self._duck):
            duck.close()

    def cancel(self) -> None:
        """Interrupt all readings, from any thread."""
        for duck in list(self._readings):
            self._cancel(duck)

    def _cancel(self, duck: duckdb.DuckDBPyConnection) -> None:
        duck.interrupt()
        if (session := self._readings.get(duck)) is not None:
            with contextlib.suppress(duckdb.Error), self._duck.cursor() as aside:
                self._dialect.cancel(aside, self._alias, session)

    def check(self) -> None:
        """Ask the source for something small.

        Raises:
            SourceError: it does not answer.
        """
        with self._in_time(self._duck, "does not answer"):
            self._dialect.check(self._duck, self._alias)

    def discover(self) -> list[DiscoveredTable]:
        """All tables and views that the source shows and the connection wants.

        Raises:
            SourceError: it can't be asked.
        """
        with self._in_time(self._duck, "can't be listed"):
            found = self._dialect.discover(self._duck, self._alias)
        if idle := self._shape.idle_patterns(found):
            logger.warning("connection '%s': nothing is meant by %s", self._connection.name, ", ".join(idle))
        return [table for table in found if self._shape.wants(table.schema_name, table.table_name)]

    @contextmanager
    def _in_time(self, duck: duckdb.DuckDBPyConnection, what: str) -> Iterator[None]:
        """A block that asks the source for something, with a deadline and errors that say what could not be done."""
        overrun = Overrun()
        try:
            with self._watched(duck, self._discovery_timeout, "discovery_timeout") as overrun:
                yield
        except duckdb.Error as error:
            told = overrun.reason or self._explained(error)
            passing = bool(overrun.reason) or self._dialect.is_passing(str(error))
            kind = SourceUnavailableError if passing else SourceError
            name, url = self._connection.name, self._connection.url
            raise kind(f"Connection '{name}' ({url}) {what}: {told}") from None

    def _watched(
        self, duck: duckdb.DuckDBPyConnection, limit: float | None, option: str
    ) -> contextlib.AbstractContextManager[Overrun]:
        return watched(duck.interrupt, partial(self._cancel, duck), self._dialect.peer(), limit, option)

    @contextmanager
    def read(self, ref: TableRef) -> Iterator[Reading]:
        """Open a table for one read.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """
        origin = self._duck
        with transaction(origin) as duck:
            self._readings[duck] = None
            try:
                duck.execute("SET TimeZone = 'UTC'; SET enable_progress_bar_print = false")
                duck.execute("SET enable_progress_bar = true")
                with self._watched(duck, self._read_timeout, "read_timeout") as overrun:
                    yield self._reading(duck, ref, overrun, partial(self._replace, origin))
            finally:
                del self._readings[duck]

    def _reading(
        self, duck: duckdb.DuckDBPyConnection, ref: TableRef, overrun: Overrun, died: Callable[[], None]
    ) -> Reading:
        def explained(error: duckdb.Error) -> str:
            return overrun.reason or self._explained(error)

        def is_passing(error: duckdb.Error) -> bool:
            return overrun.reason.startswith("the server") or self._dialect.is_passing(str(error))

        try:
            relation = self._dialect.describe(duck, self._alias, ref)
            self._readings[duck] = relation.session
            projection = self._shape.apply(ref, relation.columns, self._dialect.project)
            where = self._shape.where(ref)
            origin = self._dialect.origin(duck, self._alias, ref, relation, projection, where)
        except TableIsGone as gone:
            raise RefreshError(
                f"{ref}: the source no longer has it, or it is a view of something that is gone{gone}; "
                f"`runtimedb refresh {ref.connection}` discovers what is there now"
            ) from None
        except duckdb.Error as error:
            if is_fatal(error):
                died()
            kind = TableUnavailableError if is_passing(error) else RefreshError
            raise kind(f"{ref}: the source can't describe it: {explained(error)}") from None
        except TypeContractError as error:
            raise TypeContractError(f"{ref}: {error}") from error
        return self._ready(duck, ref, relation, projection, where, origin, explained, is_passing, died, overrun)

    def _ready(
        self,
        duck: duckdb.DuckDBPyConnection,
        ref: TableRef,
        relation: Relation,
        projection: tuple[Projected, ...],
        where: str | None,
        origin: str,
        explained: Callable[[duckdb.Error], str],
        is_passing: Callable[[duckdb.Error], bool],
        died: Callable[[], None],
        overrun: Overrun,
    ) -> Reading:
        def look_again() -> None:
            # A query of the source's own leaves no guard to DuckDB's scan.
            with contextlib.suppress(duckdb.Error):
                self._dialect.origin(duck, self._alias, ref, replace(relation, native=False), projection, where)

        def words(error: duckdb.Error) -> str | None:
            if overrun.reason:
                return None
            with contextlib.suppress(duckdb.Error):
                told = self._dialect.words(duck, self._alias, ref, relation, projection, where, str(error))
                return None if told is None else self._hide(told)
            return None

        def confirm() -> str | None:
            return self._dialect.confirm(duck, self._alias, ref, relation)

        return Reading(ref, duck, projection, origin, explained, is_passing, look_again, words, confirm, died)

    def _explained(self, error: duckdb.Error) -> str:
        return self._dialect.explain(self._hide(str(error)))
