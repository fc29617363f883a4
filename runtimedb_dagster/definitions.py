"""What Dagster loads: RuntimeDB alone. A project of one's own merges `build_definitions()` into its definitions."""

from __future__ import annotations

import dagster as dg

from runtimedb_dagster.dagster.definitions import build_definitions

__all__ = ["build_definitions", "defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """In-process, since a run's tables are read by threads, and a process each costs seconds."""
    return dg.Definitions.merge(build_definitions(), dg.Definitions(executor=dg.in_process_executor))
