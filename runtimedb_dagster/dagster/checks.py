"""Asset checks: of a connection's tables after each of its runs, and of the whole storage once a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.dagster.names import storage_key
from runtimedb_dagster.dagster.process import database
from runtimedb_dagster.domain.model import Connection, Table
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB
from runtimedb_dagster.sources.registry import ConnectionOptions

__all__ = ["as_event", "build_storage", "check_results", "check_specs", "max_age_result", "stale_tables", "unreadable"]

MAX_AGE = "max_age"
DESCRIPTIONS = {
    "versions_readable": "The files that the run published open, and hold the rows that the catalog says.",
    "row_counts": "No version has far fewer rows than the one before (option min_row_ratio, default 0.5).",
    MAX_AGE: "No table was last refreshed longer ago than the option max_age says.",
    "deletions": "No replaced file has failed to be deleted again and again.",
}
SHOWN = 50
TOLERATED_ATTEMPTS = 5


def check_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of a connection's asset."""
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in DESCRIPTIONS.items()]


def check_results(
    db: RuntimeDB, connection: str, key: dg.AssetKey, unreadable: Sequence[str]
) -> list[dg.AssetCheckResult]:
    """The results of a connection's checks; `unreadable` is what `unreadable` said of the tables of the run."""
    found, tables = db.connection(connection), db.tables(connection)
    return [
        _result(key, "versions_readable", unreadable),
        _result(key, "row_counts", _collapsed(tables, ConnectionOptions.of(found.options).min_row_ratio)),
        _result(key, MAX_AGE, stale_tables(found, tables)),
        _result(key, "deletions", _failing_deletions(db, found)),
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


def max_age_result(key: dg.AssetKey, stale: Sequence[str]) -> dg.AssetCheckResult:
    """The result of the check `max_age` alone."""
    return _result(key, MAX_AGE, stale)


def stale_tables(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Cached tables that were last refreshed longer ago than `max_age`; none without that option."""
    max_age = ConnectionOptions.of(connection.options).max_age
    if max_age is None:
        return []
    oldest = utc_now() - max_age
    return [f"{t.ref} (refreshed {t.version.checked_at:%Y-%m-%d %H:%M} UTC)"
            for t in tables if t.version and t.version.checked_at < oldest]  # fmt: skip


def unreadable(db: RuntimeDB, connection: str, refreshed: Sequence[Table]) -> list[str]:
    """What is wrong with the files that tables have now, after a refresh of them."""
    ids = {table.id for table in refreshed}
    findings = db.unreadable([table for table in db.tables(connection) if table.id in ids])
    return [f"{finding.subject}: {finding.message}" for finding in findings]


def _collapsed(tables: Sequence[Table], ratio: float) -> list[str]:
    return [
        f"{table.ref}: {version.rows:,} rows after {version.previous_rows:,}"
        for table in tables
        if (version := table.version) and version.previous_rows and version.rows < ratio * version.previous_rows
    ]


def _failing_deletions(db: RuntimeDB, connection: Connection) -> list[str]:
    return [
        f"{deletion.table}: {deletion.attempts} attempts, the last: {deletion.last_error}"
        for deletion in db.pending_deletions()
        if deletion.attempts > TOLERATED_ATTEMPTS and deletion.path.startswith(f"{connection.id}/")
    ]


def _result(key: dg.AssetKey, name: str, problems: Sequence[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        asset_key=key,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if name == "versions_readable" else dg.AssetCheckSeverity.WARN,
        description="; ".join(problems[:3]) if problems else None,
        metadata={
            "problems": len(problems),
            "tables": dg.MetadataValue.md("\n".join(f"- {p}" for p in problems[:SHOWN])),
        },
    )


@dataclass(frozen=True)
class Storage:
    """The storage in Dagster: an asset that nobody materializes, its check, and when that is run."""

    asset: dg.AssetSpec
    check: dg.AssetChecksDefinition
    schedule: dg.ScheduleDefinition


def build_storage(settings: Settings) -> Storage:
    """The asset `runtimedb/_storage` with the check `verify`, run every night."""
    spec = dg.AssetSpec(
        storage_key(settings),
        group_name=settings.asset_prefix,
        kinds={"parquet"},
        description="All versions of all connections. Its check is what `runtimedb verify` does.",
    )

    @dg.asset_check(asset=spec.key, name="verify", description="Nothing is lost, torn or left over.")
    def verify() -> dg.AssetCheckResult:
        findings = database(settings).verify()
        told = [f"- {finding.invariant} {finding.subject}: {finding.message}" for finding in findings]
        return dg.AssetCheckResult(
            passed=not findings,
            metadata={"findings": len(findings), "what": dg.MetadataValue.md("\n".join(told[:SHOWN]))},
        )

    job = dg.define_asset_job(
        "verify",
        selection=dg.AssetSelection.checks(verify),
        executor_def=dg.in_process_executor,
        description="Checks that nothing is lost, torn or left over.",
    )
    schedule = dg.ScheduleDefinition(
        name="verify", job=job, cron_schedule="30 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return Storage(spec, verify, schedule)
