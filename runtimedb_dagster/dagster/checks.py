"""Asset checks: of a connection's tables after each of its runs, and of the whole storage once a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.dagster.names import storage_key
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.names import VERIFY_JOB, job_name
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = [
    "MAX_AGE",
    "SHOWN_COLUMNS",
    "as_event",
    "build_storage_asset",
    "check_results",
    "check_specs",
    "exposing_tables",
    "result_of",
    "stale_tables",
    "unreadable_tables",
]

MAX_AGE = "max_age"
SHOWN_COLUMNS = "shown_columns"
AUDITS = "audits"
DESCRIPTIONS = {
    "versions_readable": "The files that the run published open, and hold the rows that the catalog says.",
    "row_counts": "No version has far fewer rows than the one before (option min_row_ratio, default 0.5).",
    MAX_AGE: "No table was last refreshed longer ago than the option max_age says.",
    SHOWN_COLUMNS: "No version shows a column that the options mask and exclude_columns hide since it was made.",
    AUDITS: "Every table that was compared with the whole of its source was what changes had made of it.",
    "deletions": "No replaced file has failed to be deleted again and again.",
}
SHOWN = 50
TOLERATED_ATTEMPTS = 5
VERIFIED = "Nothing is lost, torn, left over, or shown that is to be hidden."
SEVERE = ("versions_readable", SHOWN_COLUMNS, AUDITS)


def check_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of a connection's asset."""
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in DESCRIPTIONS.items()]


def check_results(
    db: RuntimeDB, connection: str, key: dg.AssetKey, unreadable: Sequence[str]
) -> list[dg.AssetCheckResult]:
    """The results of a connection's checks; `unreadable` is what `unreadable_tables` found among those of the run."""
    found, tables = db.connection(connection), db.tables(connection)
    return [
        result_of(key, "versions_readable", unreadable),
        result_of(key, "row_counts", _collapsed(tables, found.options.min_row_ratio)),
        result_of(key, MAX_AGE, stale_tables(found, tables)),
        result_of(key, SHOWN_COLUMNS, exposing_tables(db, found, tables)),
        result_of(key, AUDITS, drifted(tables)),
        result_of(key, "deletions", _failing_deletions(db, found)),
    ]


def as_event(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """A result as an event, for a job or a sensor, which are not the asset's own step."""
    if result.asset_key is None or result.check_name is None:
        raise ValueError("a check result without its asset and name")
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def stale_tables(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Cached tables that were last refreshed longer ago than `max_age`; none without that option."""
    max_age = connection.options.max_age
    if max_age is None:
        return []
    oldest = utc_now() - max_age
    return [
        f"{table.ref} (refreshed {table.checked_at:%Y-%m-%d %H:%M} UTC)"
        for table in tables
        if table.checked_at and table.checked_at < oldest
    ]


def exposing_tables(db: RuntimeDB, connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Cached tables whose version shows what the options of today hide."""
    return [f"{finding.subject}: {finding.message}" for finding in db.engine.exposed(connection, tables)]


def unreadable_tables(db: RuntimeDB, connection: Connection, keys: Sequence[str]) -> list[str]:
    """What is wrong with the files that tables have now, by their partitions' keys, after a refresh of them."""
    findings = db.engine.unreadable(db.engine.tables_there(connection, keys))
    return [f"{finding.subject}: {finding.message}" for finding in findings]


def _collapsed(tables: Sequence[Table], ratio: float) -> list[str]:
    return [
        f"{table.ref}: {version.rows:,} rows after {table.previous_rows:,}"
        for table in tables
        if (version := table.version) and table.previous_rows and version.rows < ratio * table.previous_rows
    ]


def drifted(tables: Sequence[Table]) -> list[str]:
    """Tables that an audit found to be something else than changes had made of them, until the next refresh."""
    return [
        f"{table.ref}: {found}"
        for table in tables
        if (found := table.distrusted or (table.refreshed.drift if table.refreshed else ""))
    ]


def _failing_deletions(db: RuntimeDB, connection: Connection) -> list[str]:
    return [
        f"{deletion.table}: {deletion.attempts} attempts, the last: {deletion.last_error}"
        for deletion in db.engine.failing_deletions(connection, TOLERATED_ATTEMPTS)
    ]


def result_of(key: dg.AssetKey, name: str, problems: Sequence[str]) -> dg.AssetCheckResult:
    """The result of one check: passed if there are no problems."""
    return dg.AssetCheckResult(
        passed=not problems,
        asset_key=key,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if name in SEVERE else dg.AssetCheckSeverity.WARN,
        description="; ".join(problems[:3]) if problems else None,
        metadata={
            "problems": len(problems),
            "tables": dg.MetadataValue.md("\n".join(f"- {p}" for p in problems[:SHOWN])),
        },
    )


@dataclass(frozen=True)
class StorageAsset:
    """The storage in Dagster: an asset that nobody materializes, its check, and when that is run."""

    asset: dg.AssetSpec
    check: dg.AssetChecksDefinition
    schedule: dg.ScheduleDefinition


def build_storage_asset(settings: Settings) -> StorageAsset:
    """The asset `runtimedb/_storage` with the check `verify`, run every night."""
    spec = dg.AssetSpec(
        storage_key(settings),
        group_name=settings.asset_prefix,
        kinds={"parquet"},
        description="All versions of all connections. Its check is what `runtimedb verify` does.",
    )

    @dg.asset_check(asset=spec.key, name="verify", description=VERIFIED)
    def verify() -> dg.AssetCheckResult:
        findings = runtimedb(settings).verify()
        listed = [f"- {finding.invariant} {finding.subject}: {finding.message}" for finding in findings]
        return dg.AssetCheckResult(
            passed=not findings,
            metadata={"findings": len(findings), "what": dg.MetadataValue.md("\n".join(listed[:SHOWN]))},
        )

    name = job_name(settings.asset_prefix, VERIFY_JOB)
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.checks(verify),
        executor_def=dg.in_process_executor,
        description="Checks all versions, and the files of the storage.",
    )
    schedule = dg.ScheduleDefinition(
        name=name, job=job, cron_schedule="30 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return StorageAsset(spec, verify, schedule)
