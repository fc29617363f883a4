"""The contract's results, of what became of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.outcomes import Failed, Outcome, Unchanged
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, TableRefreshResult

__all__ = ["connection_result", "table_result", "told"]


def connection_result(connection_id: str, outcomes: Sequence[Outcome], duration_ms: int) -> ConnectionRefreshResult:
    """Of refreshing a connection."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    good = [outcome for outcome in outcomes if not isinstance(outcome, Failed)]
    return ConnectionRefreshResult(
        connection_id=connection_id,
        tables_refreshed=len(good),
        tables_failed=len(failed),
        total_rows=sum(outcome.version.rows for outcome in good),
        duration_ms=duration_ms,
        tables_unchanged=sum(isinstance(outcome, Unchanged) for outcome in good),
        rows_read=sum(outcome.facts.rows_read for outcome in good),
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
    return TableRefreshResult(
        connection_id,
        ref.schema_name,
        ref.table_name,
        outcome.version.rows,
        outcome.duration_ms,
        **told(outcome.facts),
    )


def told(facts: RefreshFacts) -> dict[str, Any]:
    """What the contract's result of one table says of how it was read."""
    names = ("mode", "reason", "rows_read", "rows_inserted", "rows_updated", "rows_deleted")
    return {name: getattr(facts, name) for name in names}
