"""The session in which PostgreSQL is read: what must be set for a read to be exact, and what a view must have as it is.

Settings change which rows and which values a SELECT yields. Those that would lose something are set for every
transaction. Those that only change the form of a value are set for tables, whose values have one form then; a view
computes with them, so it is read under the login's own, as any other client would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["FORMS", "Session", "Surroundings", "escaped", "require_settable"]

# The form in which values are written down, and what a view may compute with.
FORMS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
}
# A login can't change these, and they lose rows in silence.
DAMAGING = ("zero_damaged_pages", "ignore_checksum_failure", "ignore_system_indexes")
# Set where the server has them: releases before, and some minor ones, don't.
WHERE_KNOWN = {"transaction_timeout": "0", "restrict_nonsystem_relation_kind": ""}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")


@dataclass(frozen=True)
class Surroundings:
    """What a server and a login are like, found once per attached source.

    Attributes:
        login: the login's own values of `FORMS` and of `search_path`.
        known: which of `WHERE_KNOWN` the server has.
        row_security: the value that a new session has: another than was asked for where a pooler dropped the rest, too.
        damaging: which of `DAMAGING` are on.
    """

    login: Mapping[str, str]
    known: frozenset[str]
    row_security: str
    damaging: Sequence[str]

    @classmethod
    def query(cls) -> str:
        """The question to a session in which nothing was set but by its start."""
        names = (*FORMS, "search_path", "row_security")
        asked = ", ".join(f"pg_catalog.current_setting('{name}') AS s{i}" for i, name in enumerate(names))
        listed = ", ".join(f"'{name}'" for name in (*WHERE_KNOWN, *DAMAGING))
        return (
            f"SELECT {asked}, (SELECT pg_catalog.string_agg(name || '=' || setting, ',') "
            f"FROM pg_catalog.pg_settings WHERE name IN ({listed})) AS found"
        )

    @classmethod
    def of(cls, row: Sequence[Any]) -> Surroundings:
        """From the answer to `query`."""
        *login, row_security, found = row
        settings = dict(entry.partition("=")[::2] for entry in (found or "").split(",") if entry)
        return cls(
            dict(zip((*FORMS, "search_path"), login, strict=True)),
            frozenset(settings) & WHERE_KNOWN.keys(),
            row_security,
            [name for name in DAMAGING if settings.get(name) == "on"],
        )

    @property
    def other_forms(self) -> dict[str, str]:
        """Those of `FORMS` that the login has otherwise, with the login's values."""
        return {name: value for name, value in self.login.items() if name in FORMS and not _same(name, value)}

    @property
    def shadows(self) -> bool:
        """Whether a name of ours could mean something of the user's: `pg_catalog` is first unless it is named."""
        return "pg_catalog" in self.login["search_path"]


def _same(name: str, value: str) -> bool:
    if name == "DateStyle":
        return value.startswith("ISO")
    if name == "extra_float_digits":
        return int(value) >= 1
    return value == FORMS[name] or (name == "TimeZone" and value in ("Etc/UTC", "GMT", "Etc/GMT"))


@dataclass(frozen=True)
class Session:
    """What is set, by the options of a connection.

    Attributes:
        limits: times, as the server writes them.
        row_security: `off` has a read fail that would leave rows out.
        own: of the user: `app.tenant` for what a view asks for.
    """

    limits: Mapping[str, str]
    row_security: str
    own: Mapping[str, str]

    def at_start(self) -> dict[str, str]:
        """For all sessions, as libpq's `options`; those of DuckDB's parallel scan get nothing else."""
        return {
            "default_transaction_read_only": "on",
            "standard_conforming_strings": "on",
            "row_security": self.row_security,
            **self.limits,
            **self.own,
        }

    def in_transaction(self, around: Surroundings) -> str:
        """Statements for the beginning of a transaction that take no snapshot."""
        settings = {
            **self.limits,
            **{name: WHERE_KNOWN[name] for name in sorted(around.known)},
            "row_security": self.row_security,
            "gin_fuzzy_search_limit": "0",
            "standard_conforming_strings": "on",
            **FORMS,
            **({"search_path": "pg_catalog"} if around.shadows else {}),
            **{name: value for name, value in self.own.items() if name not in FORMS},
        }
        return "; ".join(f"SET LOCAL {_named(name)} = {escaped(value)}" for name, value in settings.items())

    def as_the_login(self, around: Surroundings, *, forms: bool) -> str:
        """Statements that take back, before rows are read, what only the description needed; empty if nothing."""
        taken_back = dict.fromkeys(around.other_forms if forms else (), "TO DEFAULT")
        taken_back |= {name: f"= {escaped(value)}" for name, value in self.own.items() if forms and name in FORMS}
        if around.shadows and "search_path" not in self.own:
            taken_back["search_path"] = "TO DEFAULT"
        return "; ".join(f"SET LOCAL {_named(name)} {to}" for name, to in taken_back.items())


def require_settable(own: Mapping[str, str]) -> Mapping[str, str]:
    """Settings that a user may have set for the session, spelled as we do.

    Raises:
        ConfigurationError: a name is none, or of a setting that RuntimeDB needs.
    """
    needed = {"row_security", "gin_fuzzy_search_limit", "standard_conforming_strings", "client_encoding", *WHERE_KNOWN}
    needed |= {"role", "session_authorization", "statement_timeout", "lock_timeout", "quote_all_identifiers"}
    canonical = {name.lower(): name for name in FORMS}
    own = {canonical.get(name.lower(), name): value for name, value in own.items()}
    for name in own:
        if not NAME.fullmatch(name):
            raise ConfigurationError(f"The option session is wrong: '{name}' is not the name of a setting")
        if (
            name.lower() in needed
            or name.lower().startswith("idle_in_")
            or name.lower().startswith(("default_transaction", "transaction_"))
        ):
            raise ConfigurationError(
                f"The option session is wrong: {name} is RuntimeDB's to set, by an option or the login"
            )
    return own


def escaped(text: str) -> str:
    """`text` as a literal of the server that means the same whatever its settings say of backslashes."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted


def _named(name: str) -> str:
    return ".".join(identifier(part) for part in name.split("."))
