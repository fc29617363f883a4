"""Source URLs: `duckdb:///path`, `sqlite:///path`, `postgresql://user@host:port/db?…`, `mysql://…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from runtimedb_dagster.errors import ConfigurationError

__all__ = ["SourceUrl"]

FILE_SCHEMES = {"duckdb", "sqlite", "ducklake", "ducklake+sqlite"}
ALIASES = {
    "postgres": "postgresql",
    "mariadb": "mysql",
    "sqlite3": "sqlite",
    "ducklake+postgres": "ducklake+postgresql",
    "md": "motherduck",
}
SECRET_WORDS = ("password", "passwd", "pwd", "secret", "token")


@dataclass(frozen=True)
class SourceUrl:
    """A source URL in its parts.

    Attributes:
        scheme: the source type.
        path: an absolute path of a file, or the name of a database on a server.
        options: what stood behind `?`.
    """

    scheme: str
    path: str
    host: str | None
    port: int | None
    user: str | None
    options: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> SourceUrl:
        """Take a URL apart; the path of a file is made absolute.

        Raises:
            ConfigurationError: it is malformed, or holds a secret. The message never repeats the URL.
        """
        try:
            url.encode()  # half a surrogate pair, which JSON can hold, is no text
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError("The source URL is malformed; write it like duckdb:///path") from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.password is not None or any(word in name.lower() for name in options for word in SECRET_WORDS):
            raise ConfigurationError(
                "The source URL holds a secret, which would be stored and shown; put the password into an "
                "environment variable and name that with --password-env (password_env=)"
            )
        if not parts.scheme or (parts.scheme in FILE_SCHEMES and parts.netloc):
            raise ConfigurationError("The source URL must start like duckdb:///path or postgresql://user@host/db")
        scheme = ALIASES.get(parts.scheme, parts.scheme)
        path = _file(parts.path) if scheme in FILE_SCHEMES else unquote(parts.path.lstrip("/"))
        user = unquote(parts.username) if parts.username else None
        return cls(scheme, path, parts.hostname, port, user, options)

    def __str__(self) -> str:
        """The URL that the catalog keeps: without options, which it keeps beside it."""
        if self.scheme in FILE_SCHEMES:
            return f"{self.scheme}://{quote(self.path)}"
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host or ""
        return f"{self.scheme}://{user}{host}{port}/{quote(self.path)}"


def _file(raw: str) -> str:
    """The absolute path in a file URL.

    `duckdb:////data/x` is absolute. `duckdb:///data/x` is too, unless only the relative file `data/x` exists,
    which is what those who know SQLAlchemy's URLs mean by three slashes.
    """
    path = unquote(raw)
    if not path.strip("/"):
        raise ConfigurationError("The source URL names no file; write it like duckdb:///path")
    absolute = Path("/" + path.lstrip("/"))
    relative = Path(path.lstrip("/"))
    if path.startswith("//") or absolute.exists() or not relative.exists():
        return str(absolute)
    return str(relative.absolute())
