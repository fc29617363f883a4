"""How things are called in Dagster: all derived from the prefix and the connection's name."""

from __future__ import annotations

import dagster as dg

from runtimedb_dagster.config import Settings

__all__ = ["DELETION_SWEEP", "asset_key", "partitions_def"]

DELETION_SWEEP = "deletion_sweep"


def asset_key(settings: Settings, connection: str) -> dg.AssetKey:
    """`runtimedb/<connection>`."""
    return dg.AssetKey([settings.asset_prefix, connection])


def partitions_def(settings: Settings, connection: str) -> dg.DynamicPartitionsDefinition:
    """One set of partition keys per connection, a key per table."""
    return dg.DynamicPartitionsDefinition(name=f"{settings.asset_prefix}/{connection}")
