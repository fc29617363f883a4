"""Connections to PostgreSQL that wait for an answer no longer than a server takes that still works.

The server ends what takes too long, and the kernel notices a network that acknowledges nothing. Neither helps against
a pooler or a proxy that is suspended: it acknowledges, and says nothing.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from sqlalchemy import Engine, event

__all__ = ["ANSWER_SECONDS", "bound"]

# Longer than the server's own limit on a statement.
ANSWER_SECONDS = 120.0


def bound(engine: Engine) -> None:
    """Have an engine's connections be lost when they are not answered."""
    import psycopg  # noqa: PLC0415 - of an extra

    class Connection(psycopg.Connection[Any]):
        def wait(self, *args: Any, **kwargs: Any) -> Any:
            """Wait for what the server says to a statement."""
            started = monotonic()
            try:
                return super().wait(*args, **{"timeout": ANSWER_SECONDS, **kwargs})
            except psycopg.OperationalError as error:
                if monotonic() - started < ANSWER_SECONDS:
                    raise
                self.pgconn.finish()
                raise psycopg.OperationalError(f"it did not answer for {ANSWER_SECONDS:g} s") from error

    def connected(_dialect: Any, _record: Any, cargs: Any, cparams: Any) -> Any:
        return Connection.connect(*cargs, **cparams)

    event.listen(engine, "do_connect", connected)
