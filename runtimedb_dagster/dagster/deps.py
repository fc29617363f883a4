"""How a downstream asset says which tables of a connection it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from runtimedb_dagster.dagster.names import asset_key, named
from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.settings import Settings

__all__ = ["table_deps", "table_input", "tables_changed"]

Address = tuple[str, str]


def table_deps(connection: str, tables: Sequence[Address], *, prefix: str | None = None) -> list[dg.AssetDep]:
    """The dependency on some tables of a connection, for an asset that reads them with `RuntimeDBResource`.

    >>> @dg.asset(deps=table_deps("shop", [("main", "orders"), ("main", "customers")]))
    ... def revenue(runtimedb: RuntimeDBResource) -> None: ...

    A table need not be there yet: until it has a version, its partition counts as missing.

    Args:
        connection: the connection's name.
        tables: (schema, table) of each, to the letter.
        prefix: first part of the asset keys; by default what `Settings()` says.

    Returns:
        One dependency, since Dagster has one per upstream asset; add others with `+` or `*`.

    Raises:
        RequestError: no table is named.
    """
    key, mapping = _upstream(connection, tables, prefix)
    return [dg.AssetDep(key, partition_mapping=mapping)]


def table_input(
    connection: str,
    tables: Sequence[Address],
    *,
    prefix: str | None = None,
    input_manager_key: str = "runtimedb_io_manager",
) -> dg.AssetIn:
    """The input of an asset that takes some tables of a connection as an argument; see `RuntimeDBIOManager`.

    >>> @dg.asset(ins={"orders": table_input("shop", [("main", "orders")])})
    ... def revenue(orders: pa.Table) -> None: ...

    Dagster takes one input per upstream asset (a second one is a bare KeyError), so name all of a connection's
    tables in one.

    Args:
        connection: the connection's name.
        tables: (schema, table) of each, to the letter.
        prefix: first part of the asset keys; by default what `Settings()` says.
        input_manager_key: the resource key of the `RuntimeDBIOManager`.

    Raises:
        RequestError: no table is named.
    """
    key, mapping = _upstream(connection, tables, prefix)
    return dg.AssetIn(key=key, partition_mapping=mapping, input_manager_key=input_manager_key)


def tables_changed() -> dg.AutomationCondition[Any]:
    """Fires when a table that the asset depends on has other content than when the asset was made.

    A refresh that finds nothing new does not count, nor does another table of the same connection. It waits for
    tables that have no version yet, and while one of them or the asset itself is being materialized.

    >>> @dg.asset(deps=table_deps("shop", [("main", "orders")]), automation_condition=tables_changed())
    ... def revenue(runtimedb: RuntimeDBResource) -> None: ...
    """
    condition = dg.AutomationCondition
    # Alone, `data_version_changed` is true of whatever partition of the connection changed; in an `and` it is
    # narrowed to those that the dependency maps to.
    changed = condition.data_version_changed() & ~condition.missing()
    return (
        condition.any_deps_match(changed).with_label("tables_changed").since_last_handled()
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    )


def _upstream(
    connection: str, tables: Sequence[Address], prefix: str | None
) -> tuple[dg.AssetKey, dg.SpecificPartitionsPartitionMapping]:
    if not tables:
        raise RequestError(f"Connection '{connection}': name at least one table, as (schema, table)")
    settings = Settings() if prefix is None else Settings(asset_prefix=prefix)
    keys, key = [TableRef(connection, *address).partition_key for address in tables], asset_key(settings, connection)
    named.add(key)
    return key, dg.SpecificPartitionsPartitionMapping(keys)
