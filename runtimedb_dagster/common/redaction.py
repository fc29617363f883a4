"""What may be shown of a URL, and a text without what may not: wherever in a URL a password was put."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

__all__ = ["redactor", "secrets_in", "shown"]

SHORTEST = 3
HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+")
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def shown(url: str) -> str:
    """The scheme, the host and the database of a URL; an ellipsis for a part that is none, and may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "…"
    before, _, path = rest.partition("?")[0].rpartition("@")[2].partition("/")
    host, _, port = before.rpartition(":") if re.search(r":\d+$", before) else (before, "", "")
    parts = [host if HOST.fullmatch(host) or not host else "…", f":{port}" if port else ""]
    database = path if NAME.fullmatch(path) or not path else "…"
    return f"{scheme}://{''.join(parts)}{'/' if database else ''}{database}"


def secrets_in(url: str) -> list[str]:
    """What may be a secret in a URL: before the last `@` all but a user's name, all behind `?`, a port that is none."""
    rest = url.partition("://")[2] or url.partition(":")[2]
    login, at, server = rest.rpartition("@")
    found = re.split(r"[:@/?#&\s]", login)[1:] if at else []
    found += [part.partition("=")[2] or part for part in re.split(r"[?&#]", server)[1:]]
    host_and_port = re.split(r"[/?#]", server)[0]
    found += [part for part in host_and_port.split(":")[1:] if not part.isdigit() and "[" not in host_and_port]
    whole = login.partition(":")[2]
    looks = {text for each in (*found, whole) for text in (each, unquote(each), *re.split(r"[=\s]", unquote(each)))}
    looks.discard(host_and_port.partition(":")[0])
    return sorted((text for text in looks if len(text) >= SHORTEST), key=len, reverse=True)


def redactor(*urls: str | None) -> Callable[[str], str]:
    """A function that takes what may be a secret in these URLs out of a text."""
    secrets = sorted({secret for url in urls if url for secret in secrets_in(url)}, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return hide
