"""How a connection looks in Dagster: to be overridden by a project."""

from __future__ import annotations

import dagster as dg

from runtimedb_dagster.dagster.names import asset_key, source_key
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection

__all__ = ["RuntimeDBTranslator"]


class RuntimeDBTranslator:
    """Makes the spec of each connection's asset; a project overrides `get_asset_spec`.

    >>> class Ours(RuntimeDBTranslator):
    ...     def get_asset_spec(self, connection, settings):
    ...         spec = super().get_asset_spec(connection, settings)
    ...         return spec.replace_attributes(group_name="warehouse").merge_attributes(tags={"tier": "gold"})
    """

    def get_asset_spec(self, connection: Connection, settings: Settings) -> dg.AssetSpec:
        """The spec of the asset whose partitions are a connection's tables.

        Group, tags, owners, description, kinds, metadata, automation condition and freshness policy may be others. The
        key is what the setting `asset_prefix` and the connection's name make, by which everything finds it, and the
        partitions are its tables.
        """
        options = connection.options
        known = {"connection id": connection.id} if connection.id else {}
        return dg.AssetSpec(
            asset_key(settings, connection.name),
            deps=[source_key(settings, connection.name)],
            group_name=settings.asset_prefix,
            owners=options.owners,
            kinds={connection.source_type.partition("+")[0], "parquet"},
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=options.max_age) if options.max_age else None,
            description=(
                f"The tables of `{connection.url}`, a partition each. Materializing one makes a new version of it, "
                f"read as `{connection.name}.schema.table`. Columns and metadata on this page are those of the table "
                "refreshed last; those of each table, and why one failed, are among its partition's events."
            ),
            metadata={
                **known,
                "url": connection.url,
                "source type": connection.source_type,
                "registered": f"in {connection.declared_in}" if connection.declared_in else "by hand",
            },
        )
