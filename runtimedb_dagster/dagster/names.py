"""How things are called in Dagster: all derived from the prefix and the connection's name."""

from __future__ import annotations

import dagster as dg

from runtimedb_dagster.domain.settings import Settings

__all__ = ["asset_key", "named", "partitions_def", "source_key", "storage_key"]

# The keys that this project's assets depend on, by `table_deps` and `table_input`.
named: set[dg.AssetKey] = set()


def asset_key(settings: Settings, connection: str) -> dg.AssetKey:
    """`runtimedb/<connection>`."""
    return dg.AssetKey([settings.asset_prefix, connection])


def source_key(settings: Settings, connection: str) -> dg.AssetKey:
    """`runtimedb/_source/<connection>`: no connection's name begins with `_`."""
    return dg.AssetKey([settings.asset_prefix, "_source", connection])


def storage_key(settings: Settings) -> dg.AssetKey:
    """`runtimedb/_storage`."""
    return dg.AssetKey([settings.asset_prefix, "_storage"])


def partitions_def(settings: Settings, connection: str) -> dg.DynamicPartitionsDefinition:
    """One set of partition keys per connection, a key per table."""
    return dg.DynamicPartitionsDefinition(name=f"{settings.asset_prefix}/{connection}")
