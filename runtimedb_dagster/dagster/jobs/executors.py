"""How a refresh is spread: over threads of one process, or over the workers of one of Dagster's executors."""

from __future__ import annotations

from importlib import import_module

import dagster as dg

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.settings import IN_PROCESS, Settings

__all__ = ["refresh_executor"]


def refresh_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that the setting `executor` names.

    Raises:
        ConfigurationError: there is none of that name, or it does not take its configuration.
    """
    if settings.executor == IN_PROCESS:
        return dg.in_process_executor
    module, _, name = settings.executor.partition(":")
    try:
        executor = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Setting 'executor': '{settings.executor}' can't be imported: {error}") from error
    if not isinstance(executor, dg.ExecutorDefinition):
        raise ConfigurationError(f"Setting 'executor': '{settings.executor}' is not an executor of Dagster")
    if settings.executor_config is None:
        return executor
    return executor.configured(settings.executor_config)
