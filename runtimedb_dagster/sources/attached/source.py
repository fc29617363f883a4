"""The one adapter of all sources that DuckDB can attach; what differs between them is a `Dialect`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, transaction
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.domain.columns import schema_changes
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
    TableUnavailableError,
    TypeContractError,
)
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import Connection, DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.cursor import Cursor, cursor_of
from runtimedb_dagster.sources.attached.dialect import Dialect, Scan, TableIsGone
from runtimedb_dagster.sources.attached.projection import select_list
from runtimedb_dagster.sources.attached.reading import AttachedReading, Diagnosis, is_fatal
from runtimedb_dagster.sources.attached.stable import depends_on_the_row_alone
from runtimedb_dagster.sources.attached.watch import Overrun, watched
from runtimedb_dagster.sources.base import Base, Delta, Same, State, Unknown

HINTS = "hints of the source (trust_hints)"

__all__ = ["AttachedSnapshot", "AttachedSource", "recipes_of"]

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
    """A remote database, attached to a DuckDB of its own; each snapshot is a transaction of its own.

    Attached once, read by as many threads as the caller likes; once more after a fatal error of DuckDB's.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect[Any], config: Mapping[str, Any], hide: Callable[[str], str]
    ) -> None:
        """Attach the database of `connection`.

        Args:
            connection: whose source it is.
            dialect: what is particular about it.
            config: DuckDB's.
            hide: takes the secrets out of a text.

        Raises:
            SourceError: it can't be opened.
        """
        self._connection = connection
        self._dialect = dialect
        self._selection = connection.options.selection
        self._recipes = recipes_of(connection, dialect)
        self._config = {**CONFIG, **dialect.config, **config}
        self._hide = hide
        self._reading: dict[duckdb.DuckDBPyConnection, int | None] = {}
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
        for duck in list(self._reading):
            self._cancel(duck)

    def _cancel(self, duck: duckdb.DuckDBPyConnection) -> None:
        duck.interrupt()
        if (session := self._reading.get(duck)) is not None:
            with contextlib.suppress(duckdb.Error), self._duck.cursor() as aside:
                self._dialect.cancel(aside, self._alias, session)

    def check(self) -> None:
        """Ask the source for something small.

        Raises:
            SourceError: it does not answer.
        """
        with self._in_time(self._duck, "does not answer"):
            self._dialect.check(self._duck, self._alias)

    def discover(self) -> Sequence[DiscoveredTable]:
        """All tables and views that the source shows and the connection wants.

        Raises:
            SourceError: it can't be asked.
        """
        with self._in_time(self._duck, "can't be listed"):
            found = self._dialect.discover(self._duck, self._alias)
        wanted = [table for table in found if self._selection.wants(table.schema_name, table.table_name)]
        if unmatched := self._unmatched_patterns(found, wanted):
            logger.warning("connection '%s': nothing matches %s", self._connection.name, ", ".join(unmatched))
        return wanted

    def _unmatched_patterns(self, found: Sequence[DiscoveredTable], wanted: Sequence[DiscoveredTable]) -> list[str]:
        columns = [(table.schema_name, table.table_name, each.name) for table in wanted for each in table.columns]
        # A table without columns is one that can't be described now.
        known = all(table.columns for table in found)
        tables = [(table.schema_name, table.table_name) for table in found]
        return self._selection.unmatched(tables, columns if known else None)

    @contextmanager
    def _in_time(self, duck: duckdb.DuckDBPyConnection, what: str) -> Iterator[None]:
        """A block that asks the source for something, with a deadline and errors that say what could not be done."""
        diagnosis = Diagnosis(self._dialect, self._hide, Overrun())
        limit = self._connection.options.discovery_timeout
        try:
            with self._watched(duck, limit, "discovery_timeout") as overrun:
                diagnosis = replace(diagnosis, overrun=overrun)
                yield
        except duckdb.Error as error:
            transient = bool(diagnosis.overrun.reason) or diagnosis.is_transient(error)
            kind = SourceUnavailableError if transient else SourceError
            name, url = self._connection.name, self._connection.url
            raise kind(f"Connection '{name}' ({url}) {what}: {diagnosis.explain(error)}") from None

    def _watched(
        self, duck: duckdb.DuckDBPyConnection, limit: float | None, option: str
    ) -> contextlib.AbstractContextManager[Overrun]:
        return watched(duck.interrupt, partial(self._cancel, duck), self._dialect.peer(), limit, option)

    @contextmanager
    def snapshot(self) -> Iterator[AttachedSnapshot]:
        """One moment of the source, as far as its transactions go: a transaction, for as long as the block runs."""
        origin = self._duck
        with transaction(origin) as duck:
            self._reading[duck] = None
            try:
                duck.execute("SET TimeZone = 'UTC'; SET enable_progress_bar_print = false")
                duck.execute("SET enable_progress_bar = true")
                yield AttachedSnapshot(self, duck, self._alias, partial(self._replace, origin))
            finally:
                del self._reading[duck]

    @contextmanager
    def reading(self, snapshot: AttachedSnapshot, ref: TableRef, base: Base | None) -> Iterator[AttachedReading]:
        """A table, to be read in the transaction of a snapshot."""
        duck = snapshot.duck
        with self._watched(duck, self._connection.options.read_timeout, "read_timeout") as overrun:
            diagnosis = Diagnosis(self._dialect, self._hide, overrun)
            describing = partial(self._describing, snapshot, ref, diagnosis)

            def prepare(scan: Scan[Any]) -> str:
                with describing():
                    self._dialect.guard(scan)
                    return self._dialect.from_clause(scan)

            with describing():
                scan, recipe = self._described(snapshot, ref)
                cursor = cursor_of(self._dialect, scan, self._connection.options, self._connection.url)
                delta, changed = self._delta(scan, recipe, base, cursor)
                position = self._position(scan, cursor)
            if isinstance(delta, Same) and (reason := self._dialect.confirm(scan)):
                raise TableUnavailableError(f"{ref}: {reason}")
            # What is read whole in any case is looked at now.
            origin = prepare(scan) if isinstance(delta, Unknown) else None
            yield AttachedReading(scan, recipe, diagnosis, snapshot.died, prepare, delta, position, changed, origin)

    @contextmanager
    def _describing(self, snapshot: AttachedSnapshot, ref: TableRef, diagnosis: Diagnosis) -> Iterator[None]:
        """A block that looks at a table, with errors that say so."""
        try:
            yield
        except TableIsGone as gone:
            raise RefreshError(
                f"{ref}: the source no longer has it, or it is a view of something that is gone{gone}; "
                f"`runtimedb refresh {ref.connection}` discovers what is there now"
            ) from None
        except duckdb.Error as error:
            if is_fatal(error):
                snapshot.died()
            kind = TableUnavailableError if diagnosis.is_transient(error) else RefreshError
            raise kind(f"{ref}: the source can't describe it: {diagnosis.explain(error)}") from None
        except TypeContractError as error:
            raise TypeContractError(f"{ref}: {error}") from error

    @property
    def _follows(self) -> bool:
        """Whether what changed is wanted to be known."""
        return self._connection.options.changes != "full"

    def _is_stable(self, where: str | None) -> bool:
        return where is None or self._connection.options.where_is_stable or depends_on_the_row_alone(where)

    def _position(self, scan: Scan[Any], cursor: Cursor | None) -> Position | None:
        """Where the snapshot of a scan is, to tell later what changed since."""
        if not self._follows:
            return None
        return cursor.position if cursor else self._dialect.position(scan)

    def _delta(self, scan: Scan[Any], recipe: str, base: Base | None, cursor: Cursor | None) -> tuple[Delta, str]:
        """What is known of a table against a base, and where its rows may have changed."""
        if base is None or not self._follows:
            return Unknown("the option changes is full" if base else ""), ""
        columns = tuple(projected.column for projected in scan.projection)
        if recipe != base.recipe or columns != base.columns:
            changes = schema_changes(base.columns, columns)
            what = "; ".join(changes[:3]) or "its options or comments"
            return Unknown(f"it would be made in another way now: {what}"), ""
        if not self._is_stable(scan.where):
            return Unknown("its where may depend on more than the row, unless where_is_stable says otherwise"), ""
        delta, changed = cursor.delta(base) if cursor else self._dialect.delta(scan, base)
        if isinstance(delta, Unknown) and delta.hint and self._connection.options.trust_hints:
            return Same(HINTS), ""
        return delta, changed

    def states(
        self, snapshot: AttachedSnapshot, bases: Mapping[TableRef, Base], *, thorough: bool
    ) -> Mapping[TableRef, State]:
        """Which bases the tables still hold; none where the source can't be asked now."""
        if not self._follows or not bases:
            return {}
        wheres = {ref: where for ref in bases if (where := self._selection.of(ref.schema_name, ref.table_name).where)}
        asked = {ref: base for ref, base in bases.items() if self._is_stable(wheres.get(ref))}
        diagnosis = Diagnosis(self._dialect, self._hide, Overrun())
        try:
            with self._watched(snapshot.duck, self._connection.options.read_timeout, "read_timeout") as overrun:
                diagnosis = replace(diagnosis, overrun=overrun)
                snapshot.is_fresh = False
                states = self._dialect.states(snapshot.duck, snapshot.alias, asked, wheres, thorough=thorough)
                trusted = self._connection.options.trust_hints
                return {ref: state for ref, state in states.items() if state.proof or trusted}
        except duckdb.Error as error:
            if is_fatal(error):
                snapshot.died()
            # Each table is asked by itself then, and says what is wrong with it.
            logger.info("connection '%s': %s", self._connection.name, diagnosis.explain(error))
            return {}

    def _described(self, snapshot: AttachedSnapshot, ref: TableRef) -> tuple[Scan[Any], str]:
        duck, alias, is_first = snapshot.duck, snapshot.alias, snapshot.is_fresh
        snapshot.is_fresh = False
        relation = self._dialect.describe(duck, alias, ref)
        self._reading[duck] = relation.session
        table = self._selection.of(ref.schema_name, ref.table_name)
        projection = select_list(table, relation.columns, self._dialect.project)
        scan = Scan(duck, alias, ref, relation, projection, table.where, is_first=is_first)
        recipe = self._recipes.of(ref.schema_name, ref.table_name, relation.columns)
        return replace(scan, native=self._dialect.is_native(scan)), recipe


@dataclass
class AttachedSnapshot:
    """A transaction of DuckDB on an attached database, from which tables are read one after the other.

    Attributes:
        duck: the connection with the open transaction; a reading that fails ends it.
        alias: the name that the database is attached by.
        died: is called when this DuckDB can't be relied on any more.
        is_fresh: whether nothing was read in it yet.
    """

    source: AttachedSource
    duck: duckdb.DuckDBPyConnection
    alias: str
    died: Callable[[], None]
    is_fresh: bool = True

    def states(self, bases: Mapping[TableRef, Base], *, thorough: bool) -> Mapping[TableRef, State]:
        """Which bases the tables still hold; see `SourceSnapshot`."""
        return self.source.states(self, bases, thorough=thorough)

    def read(self, ref: TableRef, base: Base | None = None) -> contextlib.AbstractContextManager[AttachedReading]:
        """Open a table for one read; see `SourceSnapshot`.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """
        return self.source.reading(self, ref, base)


def recipes_of(connection: Connection, dialect: Dialect[Any]) -> Recipes:
    """How versions of a connection's tables are made, by its options and those of its dialect."""
    return Recipes(connection.options.selection, dialect.treatment, dialect.options_of_rows())
