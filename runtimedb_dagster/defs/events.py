"""What Dagster is told about a refreshed table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from runtimedb_dagster.model import Column, Version
from runtimedb_dagster.refresh import Refreshed

__all__ = ["materialization"]

DATA_VERSION_TAG = "dagster/data_version"


def materialization(key: dg.AssetKey, refreshed: Refreshed) -> dg.AssetMaterialization:
    """The materialization of one table's partition; an unchanged table keeps its data version."""
    version = refreshed.version
    if version is None:
        raise ValueError(f"{refreshed.ref} has no version to tell of")
    return dg.AssetMaterialization(
        asset_key=key,
        partition=refreshed.ref.partition_key,
        description=f"{refreshed.ref}: {version.rows:,} rows" + ("" if refreshed.changed else ", unchanged"),
        metadata=_metadata(refreshed, version),
        tags={DATA_VERSION_TAG: version.fingerprint},
    )


def _metadata(refreshed: Refreshed, version: Version) -> dict[str, Any]:
    seconds = refreshed.duration_ms / 1000
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": version.rows,
        "dagster/uri": Path(refreshed.location).as_uri(),
        "dagster/column_schema": dg.TableSchema(columns=[_column(column) for column in version.columns]),
        "table": str(refreshed.ref),
        "changed": refreshed.changed,
        "bytes": version.bytes,
        "duration (s)": seconds,
        "rows per second": round(version.rows / max(seconds, 0.001)),
        "version": version.id,
        "schema changes": "; ".join(refreshed.schema_changes) or "none",
    }
    if refreshed.replaced:
        metadata["replaced version"] = refreshed.replaced
    declared = {column.name: column.declared for column in version.columns if column.declared}
    return metadata | ({"declared": declared} if declared else {})


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.source_type or column.type,
        description=column.declared or column.comment,
        constraints=dg.TableColumnConstraints(nullable=column.nullable),
    )
