"""The options of a connection to MySQL or MariaDB."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from runtimedb_dagster.sources.attached.mysql.types import Tinyint1, ZeroDates
from runtimedb_dagster.sources.url import checked_host

__all__ = ["MySQLOptions"]


class MySQLOptions(BaseModel):
    """What is particular to MySQL and MariaDB. Times are seconds, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # There is no verify_identity: DuckDB's client takes the word, and any host's certificate.
    ssl_mode: Literal["disabled", "preferred", "required", "verify_ca"] = Field(
        default="preferred", description="as the mysql client's --ssl-mode; the certificate's host is not compared"
    )
    ssl_ca: str | None = Field(
        default=None, validate_default=True, description="file with the certificates to trust, where ssl_mode verifies"
    )
    ssl_cert: str | None = Field(default=None, description="file with the client's certificate")
    ssl_key: str | None = Field(default=None, description="file with its key")
    compression: Literal["disabled", "preferred", "required"] = Field(
        default="disabled", description="of what is sent; for slow networks, as it takes four times as long on others"
    )
    socket: str | None = Field(default=None, description="the server's Unix socket, instead of a host")
    replica: str | None = Field(default=None, description="host or host:port of a replica, which is read instead")
    connect_timeout: int = Field(default=10, ge=1, description="seconds to wait for the server's greeting")
    statement_timeout: int = Field(default=0, ge=0, description="seconds that reading one table may take")
    lock_timeout: int = Field(default=60, ge=1, description="seconds to wait for a table that is being altered")
    tinyint1: Tinyint1 = Field(default="bool", description="int8: keep tinyint(1) as a number")
    zero_dates: ZeroDates = Field(default="fail", description="null: keep 0000-00-00 and 2024-00-10 as NULL")

    @field_validator("replica")
    @classmethod
    def _is_a_host(cls, replica: str | None) -> str | None:
        """Nothing that DuckDB's client takes for more than the name of a host."""
        return replica and checked_host(replica)

    @field_validator("ssl_ca")
    @classmethod
    def _what_verifies(cls, ssl_ca: str | None, others: ValidationInfo) -> str | None:
        """Certificates where they are looked at, and only there: the client itself trusts any where it has none."""
        if (others.data.get("ssl_mode") == "verify_ca") != (ssl_ca is not None):
            raise ValueError("ssl_mode=verify_ca needs it, and the other modes would not look at it")
        return ssl_ca
