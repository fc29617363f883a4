"""Passwords: named in the catalog, read when a source is opened, shown to nobody."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.tables import Connection

__all__ = ["password", "redactor"]


def password(connection: Connection) -> str | None:
    """The password that a connection names by a variable or a file; None if it names none.

    Raises:
        ConfigurationError: it is not there.
    """
    if connection.password_env:
        if connection.password_env not in os.environ:
            raise ConfigurationError(
                f"Connection '{connection.name}': the environment variable {connection.password_env} is not set"
            )
        return os.environ[connection.password_env]
    if file := connection.options.password_file:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"Connection '{connection.name}': its password_file {file}: {reason}") from None
    return None


def redactor(secret: str | None) -> Callable[[str], str]:
    """A function that takes a secret out of a text, as it is and as it looks between quotes."""
    if not secret:
        return lambda text: text
    looks = sorted({secret, secret.replace("'", "''"), secret.replace("\\", "\\\\").replace("'", "\\'")}, key=len)

    def hide(text: str) -> str:
        for look in reversed(looks):
            text = text.replace(look, "***")
        return text

    return hide
