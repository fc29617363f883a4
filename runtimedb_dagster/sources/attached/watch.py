"""Ending what takes too long, also where the server no longer answers.

DuckDB's interrupt waits for the server within a query on it. A server that is suspended, or behind a network that was
cut, answers nobody: it is asked for a greeting now and then on a connection of its own and, if that fails repeatedly,
the sockets to it are shut down, upon which whoever reads from them gets an error.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    watch = _Watch(interrupt, cancel, peer, limit, option)
    if peer is None and limit is None:
        yield watch.overrun
        return
    _alarm.set(watch)
    try:
        yield watch.overrun
    finally:
        _alarm.done_with(watch)


@dataclass
class _Watch:
    """A block that is watched; a thread of its own looks after it once its first look is due, and not before."""

    interrupt: Callable[[], None]
    cancel: Callable[[], None]
    peer: Peer | None
    limit: float | None
    option: str
    overrun: Overrun = field(default_factory=Overrun)
    done: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=monotonic)
    looking: threading.Thread | None = None

    def pause(self) -> float:
        """Seconds until the next look."""
        if self.limit is None:
            return PROBE_EVERY_SECONDS
        return min(PROBE_EVERY_SECONDS, max(0.0, self.started + self.limit - monotonic()))

    def look_after(self) -> None:
        """Look, again and again, until the block is done or has to be ended."""
        missed = 0
        while not self.done.is_set():
            if self.limit is not None and monotonic() - self.started >= self.limit:
                self.overrun.reason = f"it took longer than {self.limit:g} s; raise the option {self.option}"
                threading.Thread(target=self.cancel, name="runtimedb-cancel", daemon=True).start()
                _end(self.done, self.interrupt, self.peer, PATIENCE_SECONDS)
                return
            missed = 0 if self.peer is None or self.peer.answers() else missed + 1
            if missed >= MISSED_PROBES:
                self.overrun.reason = "the server no longer answers, not even a new connection; try again when it does"
                _end(self.done, self.interrupt, self.peer, 0.0)
                return
            self.done.wait(self.pause())


class _Alarm:
    """One thread of the process, which waits for the first look of each block: most end before it is due."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, _Watch]] = []
        self._number = itertools.count()
        self._thread: threading.Thread | None = None

    def set(self, watch: _Watch) -> None:
        """Have a block looked after once it is due."""
        due = monotonic() + watch.pause()
        with self._changed:
            heapq.heappush(self._waiting, (due, next(self._number), watch))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._wait, name="runtimedb-alarm", daemon=True)
                self._thread.start()
            elif self._waiting[0][2] is watch:
                self._changed.notify()

    def done_with(self, watch: _Watch) -> None:
        """Look after a block no more."""
        watch.done.set()
        with self._changed:
            self._waiting = [each for each in self._waiting if each[2] is not watch]
            heapq.heapify(self._waiting)
        if watch.looking is not None:
            watch.looking.join(PROBE_TIMEOUT_SECONDS)

    def _wait(self) -> None:
        with self._changed:
            while True:
                left = self._waiting[0][0] - monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                _, _, watch = heapq.heappop(self._waiting)
                watch.looking = threading.Thread(target=watch.look_after, name="runtimedb-watch", daemon=True)
                watch.looking.start()


_alarm = _Alarm()


def _after_fork() -> None:
    """A fork has none of the threads, and maybe a lock that one of them held."""
    global _alarm  # noqa: PLW0603 - it is of the process
    _alarm = _Alarm()


os.register_at_fork(after_in_child=_after_fork)


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
