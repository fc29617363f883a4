"""Ending what takes too long, also where the server no longer answers.

DuckDB's interrupt waits for the server within a query on it. A server that is suspended, or behind a network that was
cut, answers nobody: it is asked for a greeting now and then on a connection of its own and, if that fails repeatedly,
the sockets to it are shut down, upon which whoever reads from them gets an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

__all__ = ["SSL_REQUEST", "Overrun", "Peer", "address_of", "watched"]

TICK_SECONDS = 0.1
PROBE_EVERY_SECONDS = 30.0
PROBE_TIMEOUT_SECONDS = 10.0
# Of a server with its hands full, one may come late.
MISSED_PROBES = 3
# What the server is given to end a statement when it is asked to.
PATIENCE_SECONDS = 10.0
# Which any PostgreSQL answers with one byte.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
HTTP_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Peer:
    """A server, as the sockets to it name it.

    Attributes:
        hosts: names or addresses with their ports; directories of Unix sockets are paths of sockets, with port 0.
        hello: what makes it send at least one byte; empty if it speaks first; None if it is not to be asked, for its
            clients' own time-outs see that it is mute.
        beside: other servers that are read from and not asked.
    """

    hosts: tuple[tuple[str, int], ...]
    hello: bytes | None = b""
    beside: tuple[tuple[str, int], ...] = ()

    def answers(self) -> bool:
        """Whether any of the hosts sends a byte, or none is asked."""
        return self.hello is None or any(_greets(host, port, self.hello) for host, port in self.hosts)

    def cut(self) -> int:
        """Shut down this process's sockets to the server; returns how many there were."""
        addresses = {address for host, port in self.hosts + self.beside for address in _addresses(host, port)}
        return sum(_shut_down(int(name), addresses) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208


def address_of(url: str | None) -> tuple[tuple[str, int], ...]:
    """Host and port of a URL, for a peer; none for what is no URL, which DuckDB refuses with words of its own."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or HTTP_PORTS.get(parts.scheme)
    except ValueError:
        return ()
    return ((parts.hostname, port),) if parts.hostname and port else ()


@dataclass
class Overrun:
    """Why something was ended; empty while it was not."""

    reason: str = ""


@contextmanager
def watched(
    interrupt: Callable[[], None], cancel: Callable[[], None], peer: Peer | None, limit: float | None, option: str
) -> Iterator[Overrun]:
    """End the block's work when its time is over, or its server no longer answers.

    Args:
        interrupt: has DuckDB stop; does not wait.
        cancel: has the server stop; may wait.
        peer: the server, if there is one to be asked.
        limit: seconds that the work may take.
        option: which raises the limit.
    """
    overrun, done = Overrun(), threading.Event()
    if peer is None and limit is None:
        yield overrun
        return
    watching = threading.Thread(
        target=_watch, args=(overrun, done, interrupt, cancel, peer, limit, option), name="runtimedb-watch", daemon=True
    )
    watching.start()
    try:
        yield overrun
    finally:
        done.set()
        watching.join(PROBE_TIMEOUT_SECONDS)


def _watch(
    overrun: Overrun,
    done: threading.Event,
    interrupt: Callable[[], None],
    cancel: Callable[[], None],
    peer: Peer | None,
    limit: float | None,
    option: str,
) -> None:
    started, missed = monotonic(), 0
    while True:
        left = PROBE_EVERY_SECONDS if limit is None else min(PROBE_EVERY_SECONDS, started + limit - monotonic())
        if done.wait(max(left, 0)):
            return
        if limit is not None and monotonic() - started >= limit:
            overrun.reason = f"it took longer than {limit:g} s; raise the option {option}"
            threading.Thread(target=cancel, name="runtimedb-cancel", daemon=True).start()
            patience = PATIENCE_SECONDS
            break
        missed = 0 if peer is None or peer.answers() else missed + 1
        if missed >= MISSED_PROBES:
            overrun.reason = "the server no longer answers, not even a new connection; try again when it does"
            patience = 0.0
            break
    _end(done, interrupt, peer, patience)


def _end(done: threading.Event, interrupt: Callable[[], None], peer: Peer | None, patience: float) -> None:
    """Again and again: an interrupt that comes before a statement has begun is lost."""
    until = monotonic() + patience
    while not done.wait(TICK_SECONDS):
        interrupt()
        if peer is not None and monotonic() >= until:
            peer.cut()


def _greets(host: str, port: int, hello: bytes) -> bool:
    try:
        with _connected(host, port) as probe:
            probe.sendall(hello)
            return bool(probe.recv(1))
    except OSError:
        return False


def _connected(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS)
    probe = socket.socket(socket.AF_UNIX)
    probe.settimeout(PROBE_TIMEOUT_SECONDS)
    try:
        probe.connect(host)
    except OSError:
        probe.close()
        raise
    return probe


def _addresses(host: str, port: int) -> set[object]:
    if host.startswith("/"):
        return {host}
    with contextlib.suppress(OSError):
        return {found[4][:2] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()


def _shut_down(descriptor: int, addresses: set[object]) -> bool:
    with contextlib.suppress(OSError):
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):  # noqa: PTH115 - it names no file
            return False
        with socket.socket(fileno=os.dup(descriptor)) as found:
            peer = found.getpeername()
            if (peer if isinstance(peer, str) else peer[:2]) in addresses:
                found.shutdown(socket.SHUT_RDWR)
                return True
    return False
