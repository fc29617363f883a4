"""Schema changes of the catalog, applied when it is opened."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select, text

from runtimedb_dagster.domain.errors import CatalogError

__all__ = ["HEAD", "migrate"]

HEAD = "0009"
"""The newest revision in `versions/`."""

# Any number, as long as all that migrate a catalog take the same.
ADVISORY_LOCK = 0x52756E74696D
# Alembic keeps what it is at work on in its module: two threads would migrate each other's catalogs.
ALEMBIC = threading.Lock()


def migrate(engine: Engine) -> None:
    """Bring the catalog to `HEAD` in one transaction: two processes at once, or a kill, leave it whole.

    Raises:
        CatalogError: a newer release of RuntimeDB wrote the catalog.
    """
    with engine.begin() as connection:
        if _revision(connection) == HEAD:
            return
    with engine.execution_options(runtimedb_begin="BEGIN IMMEDIATE").begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        if _revision(connection) != HEAD:
            _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("select version_num from alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Alembic is imported only when there is something to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        with ALEMBIC:
            command.upgrade(config, HEAD)
    except CommandError as error:
        raise CatalogError(
            f"The catalog has a schema that this release does not know ({error}); it reads up to {HEAD}. "
            "Upgrade RuntimeDB."
        ) from error
