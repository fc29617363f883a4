"""RuntimeDB as a Dagster resource: what an asset or op asks for to read versions."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource's fields.

from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
from pydantic import Field

from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB
from runtimedb_dagster.query.reader import Query

__all__ = ["RuntimeDBResource"]


def _field(name: str, **more: Any) -> Any:
    return Field(default=None, description=Settings.model_fields[name].description, **more)


class RuntimeDBResource(dg.ConfigurableResource[Any]):
    """RuntimeDB, for assets and ops that write their own SELECT.

    What is not given comes from where `Settings()` takes it: variables, the TOML file, the defaults.

    >>> @dg.asset(deps=table_deps("shop", [("main", "orders")]))
    ... def revenue(runtimedb: RuntimeDBResource) -> None:
    ...     with runtimedb.query() as query:
    ...         query.sql("select sum(amount) from shop.main.orders").fetchall()
    """

    home: str | None = _field("home")
    # A URL may carry a password: neither a repr nor the UI shows it.
    catalog_url: str | None = _field("catalog_url", repr=False, json_schema_extra={"dagster__is_secret": True})
    storage_url: str | None = _field("storage_url", repr=False)

    def settings(self) -> Settings:
        """The settings this resource stands for.

        Raises:
            ConfigurationError: a value is of the wrong form.
        """
        given = {"home": self.home, "catalog_url": self.catalog_url, "storage_url": self.storage_url}
        return Settings(**{name: value for name, value in given.items() if value is not None})

    def runtimedb(self) -> RuntimeDB:
        """The process's RuntimeDB with these settings; it is shared, so don't close it.

        Raises:
            ConfigurationError, CatalogError
        """
        return runtimedb(self.settings())

    def query(self, *, fetch_missing: bool = False) -> AbstractContextManager[Query]:
        """Read versions: all statements in the block see one snapshot, which a lease holds until it ends.

        Args:
            fetch_missing: refresh a table on its first use, if it has no version yet.

        Raises:
            ConfigurationError, CatalogError
        """
        return self.runtimedb().query(fetch_missing=fetch_missing)
