"""How tables of a remote database are refreshed, and whether what comes of it is what a full read would make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtimedb_dagster import RefreshFacts, RuntimeDB, Table, Version
from runtimedb_dagster.domain.outcomes import Failed, Published, Unchanged
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster_tests.support.witness import Witness

__all__ = ["Follower"]


@dataclass(frozen=True)
class Follower:
    """Refreshes tables of one connection, and reads each whole besides, in the same snapshot of its source."""

    db: RuntimeDB
    connection: str
    directory: Path

    def table(self, name: str) -> Table:
        """A table, as the catalog has it now."""
        (found,) = [table for table in self.db.tables(self.connection) if table.table_name == name]
        return found

    def version(self, name: str) -> Version:
        """The version of a table that has one."""
        version = self.table(name).version
        assert version is not None
        return version

    def outcome(self, name: str) -> Published | Unchanged:
        """Refresh a table; its version must be what the source held, and nothing may be wrong with it."""
        connection = self.db.connection(self.connection)
        with open_source(connection, {"threads": 2}) as source:
            witness = Witness(source, self.directory)
            outcome = self.db.engine.refresher.outcome(
                witness, self.table(name), full=False, options=connection.options
            )
        if isinstance(outcome, Failed):
            raise outcome.error
        assert witness.agrees(outcome.version, outcome.ref), outcome.facts
        assert self.table(name).refreshed == outcome.facts
        return outcome

    def refresh(self, name: str) -> RefreshFacts:
        """As `outcome`: how the table was refreshed."""
        return self.outcome(name).facts

    def survey(self) -> set[str]:
        """The names of the tables of which one question tells that they did not change; it must be true."""
        connection = self.db.connection(self.connection)
        with open_source(connection, {"threads": 2}) as source:
            witness = Witness(source, self.directory)
            same = self.db.engine.refresher.survey(witness, self.db.tables(self.connection), thorough=True)
        assert all(witness.agrees(outcome.version, outcome.ref) for outcome in same)
        return {outcome.ref.table_name for outcome in same}
