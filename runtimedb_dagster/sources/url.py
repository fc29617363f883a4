"""Source URLs: `duckdb:///path`, `sqlite:///path`, `postgresql://user@host:port/db?…`, `mysql://…`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["SourceUrl", "checked_host", "host_and_port"]

FILE_SCHEMES = {"duckdb", "sqlite", "ducklake", "ducklake+sqlite"}
ALIASES = {
    "postgres": "postgresql",
    "mariadb": "mysql",
    "sqlite3": "sqlite",
    "ducklake+postgres": "ducklake+postgresql",
    "md": "motherduck",
}
SECRET_WORDS = ("password", "passwd", "pwd", "secret", "token")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?(.*)", re.DOTALL)
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:;={}\[\]]*)(?::([0-9]{0,5}))?")
LAST_PORT = 65535


@dataclass(frozen=True)
class SourceUrl:
    """A source URL in its parts.

    Attributes:
        scheme: the source type.
        path: an absolute path of a file, or the name of a database on a server.
        host: of one server, perhaps a directory of Unix sockets.
        port: of one server.
        user: the login.
        options: what stood behind `?`.
        hosts: all servers, of which one is to answer, with their ports.
    """

    scheme: str
    path: str
    host: str | None
    port: int | None
    user: str | None
    options: dict[str, str]
    hosts: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def parse(cls, url: str) -> SourceUrl:
        """Take a URL apart; the path of a file is made absolute.

        Raises:
            ConfigurationError: it is malformed, or holds a secret. The message never repeats the URL.
        """
        found = SCHEME.fullmatch(url)
        if found is None or not _is_text(url):
            raise ConfigurationError("The source URL must start like duckdb:///path or postgresql://user@host/db")
        scheme = ALIASES.get(found[1].lower(), found[1].lower())
        if scheme in FILE_SCHEMES:
            if found[2] and not found[3].startswith("/"):
                raise ConfigurationError("The source URL names no file; write it like duckdb:///path")
            path, behind = _file(found[3])
            return cls(scheme, path, None, None, None, _without_secrets(behind))
        rest, _, query = found[3].partition("?")
        netloc, _, database = rest.partition("/") if found[2] else ("", "", rest)
        options = _without_secrets(query)
        userinfo, separator, listed = netloc.rpartition("@")
        if ":" in userinfo:
            raise ConfigurationError(REFUSED)
        elsewhere, port_given = options.pop("host", ""), options.pop("port", "")
        hosts = _hosts(listed or f"{quote(elsewhere, safe='[],:')}{':' if port_given else ''}{port_given}")
        host, port = hosts[0] if hosts else (None, None)
        user = unquote(userinfo) if separator and userinfo else None
        return cls(scheme, unquote(database), host, port, user, options, hosts)

    def __str__(self) -> str:
        """The URL that the catalog keeps: without options, which it keeps beside it."""
        if self.scheme in FILE_SCHEMES:
            return f"{self.scheme}://{quote(self.path)}"
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        hosts = ",".join(_written(host, port) for host, port in self.hosts)
        return f"{self.scheme}://{user}{hosts}/{quote(self.path)}"


REFUSED = (
    "The source URL holds a secret, which would be stored and shown; put the password into an "
    "environment variable and name that with --password-env (password_env=)"
)


def _is_text(url: str) -> bool:
    try:
        url.encode()  # half a surrogate pair, which JSON can hold, is not text
    except UnicodeEncodeError:
        return False
    return True


def _without_secrets(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if any(word in name.lower() for name in options for word in SECRET_WORDS):
        raise ConfigurationError(REFUSED)
    return options


def _hosts(listed: str) -> tuple[tuple[str, int | None], ...]:
    """Hosts with their ports, as libpq writes them: `a:1,b:2`, `[::1]:5432`, `%2Fvar%2Frun%2Fpostgresql`."""
    return tuple(host_and_port(part) for part in listed.split(",")) if listed else ()


def host_and_port(text: str) -> tuple[str, int | None]:
    """A host with its port, if it has one.

    Raises:
        ConfigurationError: it is neither a name nor an address.
    """
    found = HOST.fullmatch(text)
    port = int(found[2]) if found and found[2] else None
    if found is None or (port is not None and not 0 < port <= LAST_PORT):
        raise ConfigurationError(
            "The source URL is malformed; write it like postgresql://user@host:port/database, its hosts, if there are "
            "several, with commas in between, and what is special in a name percent-encoded"
        )
    host = unquote(found[1].strip("[]"))
    if not host.startswith("/") and re.search(r"[\s;={}]", host):
        raise ConfigurationError("The source URL is malformed: its host is not a name")
    return host, port


def checked_host(text: str) -> str:
    """`text`, for a model that validates it.

    Raises:
        ValueError: it is neither a name nor an address.
    """
    try:
        host_and_port(text)
    except ConfigurationError:
        raise ValueError("write host or host:port") from None
    return text


def _written(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else quote(host, safe="")
    return f"{shown}:{port}" if port else shown


def _file(raw: str) -> tuple[str, str]:
    """The absolute path in a file URL, and its options.

    `duckdb:////data/x` is absolute. `duckdb:///data/x` is too, unless only the relative file `data/x` exists,
    which is what those who know SQLAlchemy's URLs mean by three slashes. A file whose name holds `?` or `%41` is meant
    where there is no other.
    """
    before, _, query = raw.partition("?")
    if not unquote(before).strip("/"):
        raise ConfigurationError("The source URL names no file; write it like duckdb:///path")
    for text, options in (before, query), (raw, ""):
        for path in _places(text):
            if path.exists():
                return str(path), options
    return str(Path("/" + unquote(before).lstrip("/"))), query


def _places(text: str) -> Iterator[Path]:
    """Where a file of a URL may be, the likeliest first."""
    for name in dict.fromkeys((unquote(text), text)):
        yield Path("/" + name.lstrip("/"))
        if not name.startswith("//"):
            yield Path(name.lstrip("/")).absolute()
