"""A connection's asset: a partition per table, any number of them in one run."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import warnings
from collections.abc import Iterator

import dagster as dg

from runtimedb_dagster.dagster.checks import check_results, check_specs, unreadable_tables
from runtimedb_dagster.dagster.events import Record, summary
from runtimedb_dagster.dagster.failures import as_failures
from runtimedb_dagster.dagster.names import asset_key, partitions_def, source_key
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.dagster.translator import RuntimeDBTranslator
from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.outcomes import Failed
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection

__all__ = ["build_asset", "build_source"]


def build_asset(
    connection: Connection, settings: Settings, translator: RuntimeDBTranslator | None = None
) -> dg.AssetsDefinition:
    """The asset `runtimedb/<connection>`; materializing a partition refreshes that table's data."""
    key = asset_key(settings, connection.name)

    def tables(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with as_failures(settings.retry_delay):
            yield from _materialize(context, key, connection.name, settings)

    # A run over many partitions records each table as it finishes: the output is optional and never yielded.
    spec = _spec(connection, settings, translator or RuntimeDBTranslator()).replace_attributes(skippable=True)
    with warnings.catch_warnings():
        # `backfill_policy` has been called beta since 2023; a warning per connection at every load helps nobody.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.multi_asset(
            specs=[spec],
            name=key.to_python_identifier(),
            partitions_def=partitions_def(settings, connection.name),
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=check_specs(key),
        )(tables)


def _spec(connection: Connection, settings: Settings, translator: RuntimeDBTranslator) -> dg.AssetSpec:
    spec, key = translator.get_asset_spec(connection, settings), asset_key(settings, connection.name)
    if spec.key != key:
        raise ConfigurationError(
            f"Connection '{connection.name}': its translator gives it the key {spec.key.to_user_string()}, but it is "
            f"{key.to_user_string()}; the first part is the setting asset_prefix"
        )
    return spec


def build_source(connection: Connection, settings: Settings) -> dg.AssetSpec:
    """The remote database itself, an asset that Dagster only observes: each discovery that finds a difference."""
    return dg.AssetSpec(
        source_key(settings, connection.name),
        group_name=settings.asset_prefix,
        kinds={connection.source_type.partition("+")[0]},
        description=f"The remote database `{connection.url}`, as its discoveries saw it change.",
    )


def _materialize(
    context: dg.AssetExecutionContext, key: dg.AssetKey, connection: str, settings: Settings
) -> Iterator[dg.AssetCheckResult]:
    keys = list(context.partition_keys)
    if not keys:
        raise dg.Failure(f"Connection '{connection}': this run's range covers no table; nothing was refreshed")
    db = runtimedb(settings)
    found = db.connection(connection)
    tables = db.engine.tables_there(found, keys)
    there = {table.ref.partition_key for table in tables}
    failed = [
        f"{connection} {each}: the table is no longer in the catalog; the discovery sensor will delete its partition"
        for each in keys
        if each not in there
    ]
    for message in failed:
        context.log.error(message)
    outcomes = list(Record(context, key, len(tables)).follow(db.engine.refresh(found, tables)))
    yield from check_results(db, connection, key, unreadable_tables(db, found, sorted(there)))
    failed += [str(outcome.error) for outcome in outcomes if isinstance(outcome, Failed)]
    if failed:
        raise dg.Failure(summary(connection, failed, len(keys)), metadata={"failed": "\n".join(failed)})
