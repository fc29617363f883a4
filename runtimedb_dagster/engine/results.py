"""The contract's results, of what became of tables."""

from __future__ import annotations

from collections.abc import Sequence

from runtimedb_dagster.domain.outcomes import Failed, Outcome
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, TableRefreshResult

__all__ = ["connection_result", "table_result"]


def connection_result(connection_id: str, outcomes: Sequence[Outcome], duration_ms: int) -> ConnectionRefreshResult:
    """Of refreshing a connection."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    return ConnectionRefreshResult(
        connection_id=connection_id,
        tables_refreshed=len(outcomes) - len(failed),
        tables_failed=len(failed),
        total_rows=sum(outcome.version.rows for outcome in outcomes if not isinstance(outcome, Failed)),
        duration_ms=duration_ms,
        errors=[
            {"schema_name": each.ref.schema_name, "table_name": each.ref.table_name, "error": str(each.error)}
            for each in failed
        ],
    )


def table_result(connection_id: str, outcome: Outcome) -> TableRefreshResult:
    """Of refreshing one table.

    Raises:
        RuntimeDBError: what it failed with.
    """
    if isinstance(outcome, Failed):
        raise outcome.error
    ref = outcome.ref
    return TableRefreshResult(connection_id, ref.schema_name, ref.table_name, outcome.version.rows, outcome.duration_ms)
