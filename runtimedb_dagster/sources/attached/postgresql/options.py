"""The options of a connection to PostgreSQL, and what libpq is given of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.sources.attached.postgresql.session import require_settable
from runtimedb_dagster.sources.url import SourceUrl, checked_host, host_and_port

__all__ = ["PostgreSQLOptions", "hosts", "parameters"]

LIBPQ = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode", "target_session_attrs",
    "load_balance_hosts",
)  # fmt: skip


class PostgreSQLOptions(BaseModel):
    """What is particular to PostgreSQL. Times are seconds, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="as libpq's"
    )
    sslrootcert: str | None = Field(default=None, description="file with the certificates to trust")
    sslcert: str | None = Field(default=None, description="file with the client's certificate")
    sslkey: str | None = Field(default=None, description="file with its key")
    sslcrl: str | None = Field(default=None, description="file with revoked certificates")
    channel_binding: Literal["disable", "prefer", "require"] | None = Field(default=None, description="as libpq's")
    gssencmode: Literal["disable", "prefer", "require"] | None = Field(default=None, description="as libpq's")
    target_session_attrs: Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] | None = (
        Field(default=None, description="which of several hosts will do, as libpq's")
    )
    load_balance_hosts: Literal["disable", "random"] | None = Field(
        default=None, description="random: try several hosts in any order, as libpq's"
    )
    application_name: str = Field(default="runtimedb", description="the name that the server shows")
    socket: str | None = Field(default=None, description="directory of the server's Unix socket, instead of a host")
    replica: str | None = Field(default=None, description="host or host:port of a replica, which is read instead")
    connect_timeout: int = Field(default=10, ge=1, description="seconds to wait for the server")
    statement_timeout: int = Field(default=0, ge=0, description="seconds that one statement on the server may take")
    lock_timeout: int = Field(default=60, ge=0, description="seconds to wait for a table that is being altered")
    numerics: Literal["decimal", "text"] = Field(
        default="decimal", description="text: keep every numeric as exact text, NaN included"
    )
    arrays: Literal["list", "text"] = Field(
        default="list", description="text: keep arrays as text, for those whose number of dimensions or bounds varies"
    )
    jsons: Literal["json", "text"] = Field(
        default="json", description="text: keep json and jsonb as text, whatever other readers of JSON think of it"
    )
    row_security: Literal["refuse", "apply"] = Field(
        default="refuse", description="apply: read the rows that the login's policies leave, instead of failing"
    )
    session: dict[str, str] = Field(
        default={}, description='settings of the session, such as `{"app.tenant": "7"}` for what a view asks for'
    )

    @field_validator("replica")
    @classmethod
    def _is_a_host(cls, replica: str | None) -> str | None:
        return replica and checked_host(replica)

    @field_validator("session", mode="before")
    @classmethod
    def _settings(cls, given: Any) -> Any:
        try:
            return json.loads(given) if isinstance(given, str) else given
        except (json.JSONDecodeError, RecursionError):
            raise ValueError('write a JSON object, such as {"app.tenant": "7"}') from None

    @field_validator("session")
    @classmethod
    def _settable(cls, given: dict[str, str]) -> Mapping[str, str]:
        try:
            return require_settable(given)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None


def hosts(url: SourceUrl, options: PostgreSQLOptions) -> list[tuple[str, int]]:
    """The servers of which one is to answer, with their ports; a directory of a socket as its path."""
    if options.socket:
        return [(options.socket, url.port or 5432)]
    if options.replica:
        host, port = host_and_port(options.replica)
        return [(host, port or url.port or 5432)]
    return [(host, port or 5432) for host, port in url.hosts]


def parameters(options: PostgreSQLOptions, at_start: Mapping[str, str]) -> str:
    """What a secret can't carry, in libpq's key=value form.

    Args:
        options: of the connection.
        at_start: settings with which each session starts.
    """
    start = dict(at_start)
    if options.target_session_attrs:
        # A read-only session would never be taken for one that may write; its transactions are read-only anyway.
        start.pop("default_transaction_read_only", None)
    given = {
        "connect_timeout": str(options.connect_timeout),
        # A server that is cut off in the middle of a reading is noticed in 90 seconds, not in two hours.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "6",
        "client_encoding": "UTF8",
        "application_name": options.application_name,
        "options": " ".join(f"-c {name}={_option(value)}" for name, value in start.items()),
        **{name: getattr(options, name) for name in LIBPQ},
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in given.items() if value is not None)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _option(value: str) -> str:
    """A value among libpq's `options`, which are split at spaces."""
    return re.sub(r"([\\\s])", r"\\\1", value)
