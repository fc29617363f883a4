"""MotherDuck: `motherduck:///database` or `md:database`, with an access token as the connection's password."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.sources.attached.dialect import PlainDialect, Relation
from runtimedb_dagster.sources.attached.duckdb_file import NoOptions
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["MotherDuck"]


class MotherDuck(PlainDialect):
    """The dialect of a database at MotherDuck."""

    options = NoOptions
    # Loaded by `attach`: loading it asks MotherDuck for the version it wants, and that can fail for a while.
    extensions: Sequence[str] = ()

    def __init__(self, url: SourceUrl, options: NoOptions, password: str | None) -> None:  # noqa: ARG002 - as the others
        """Read the database that `url` names."""
        self._database = url.path
        self._password = password

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the database by its own name, as MotherDuck demands."""
        statements = self.statements()
        _load(duck)
        for statement in statements:
            duck.execute(statement)
        return self._database

    def statements(self) -> list[str]:
        """What attaches the database: the token, and ATTACH, which does not hold it.

        Without a token MotherDuck would open a browser; without a database it would attach, and change, all that the
        user has attached elsewhere.
        """
        if not self._password:
            raise duckdb.InvalidInputException("no access token is set; name its variable with --password-env")
        if not self._database:
            raise duckdb.InvalidInputException("the URL names no database; write it like motherduck:///database")
        return [f"SET motherduck_token = {literal(self._password)}", f"ATTACH {literal(f'md:{self._database}')}"]

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SourceColumn]:
        """The table in DuckDB's words. Views may name their tables without schema or database."""
        duck.execute(f"USE {identifier(alias)}")
        return super().describe(duck, alias, ref)

    def is_transient(self, error: str) -> bool:
        """MotherDuck, or the network before it, is unavailable."""
        return any(sign in error for sign in TRANSIENT)

    def explain(self, error: str) -> str:
        """DuckDB's message, and what to do where that is known."""
        for sign, meaning in MEANINGS.items():
            if sign in error:
                return meaning
        return first_line(error)


def _load(duck: duckdb.DuckDBPyConnection) -> None:
    """Load the extension; that MotherDuck does not answer it is an error of the source, not of the installation."""
    try:
        load(duck, "motherduck")
    except ConfigurationError as error:
        if isinstance(error.__cause__, duckdb.Error) and UNREACHABLE in str(error.__cause__):
            raise error.__cause__ from None
        raise


UNREACHABLE = "Failed to download"

TRANSIENT = (UNREACHABLE, "Could not establish connection", "Could not connect", "UNAVAILABLE", "DEADLINE_EXCEEDED")

MEANINGS = {
    UNREACHABLE: "MotherDuck does not answer (api.motherduck.com); check that this machine may reach it",
    "not authenticated": "MotherDuck refuses the token; set a valid one in the variable of --password-env, "
    "or the password_file",
}
