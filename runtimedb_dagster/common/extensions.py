"""DuckDB's extensions, from the wheels that carry them signed, so that nothing is fetched at run time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["load"]


def load(duck: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its wheel, else the one that was installed into DuckDB's own directory.

    Raises:
        ConfigurationError: it is not there, or was made for another version of DuckDB.
    """
    file = _in_wheel(name)
    try:
        duck.execute(f"LOAD {literal(str(file))}" if file else f"LOAD {name}")
    except duckdb.Error as error:
        raise ConfigurationError(
            f"DuckDB {duckdb.__version__} has no extension '{name}'; install the wheel of the same version: "
            f"pip install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        ) from error


def _in_wheel(name: str) -> Path | None:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    return file if file.exists() else None
