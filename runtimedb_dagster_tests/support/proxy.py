"""A TCP proxy before a server, which loses answers and cuts connections, as networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic, sleep

__all__ = ["MuteProxy", "Proxy", "dying", "mute_proxy", "proxy", "slow_proxy"]

ENDING = "terminating connection due to unexpected postmaster exit"
FATAL = b"SFATAL\0C57P01\0M" + ENDING.encode() + b"\0\0"


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        lose: in a connection in which, from now on, the first of these was said, the answer to the second is lost,
            and with it the connection; once.
        lost: how many answers were.
        answered: how many bytes of answers went through.
        allowed: after so many of them every connection is cut.
    """

    port: int
    lose: tuple[bytes, bytes] | None = None
    lost: int = 0
    answered: int = 0
    allowed: float = float("inf")

    def carry(self, client: socket.socket, server_port: int) -> None:
        """Serve one client."""
        with client, socket.create_connection(("127.0.0.1", server_port)) as server:
            back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            back.start()
            self._questions(client, server)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _questions(self, client: socket.socket, server: socket.socket) -> None:
        said = b""
        for chunk in _chunks(client):
            said = said + chunk if self.lose else b""
            if self.lose and self.lose[0] in said and self.lose[1] in chunk:
                self._lose(client, chunk, server)
                return
            server.sendall(chunk)

    def _lose(self, client: socket.socket, chunk: bytes, server: socket.socket) -> None:
        """Have the server do it, and the client not hear of it."""
        self.lose = None
        client.shutdown(socket.SHUT_RDWR)
        server.sendall(chunk)
        # It has done it when it has closed its end, which it does when there is nothing more to come.
        server.shutdown(socket.SHUT_WR)
        self.lost += 1

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        for chunk in _chunks(server):
            self.answered += len(chunk)
            with suppress(OSError):
                if self.answered > self.allowed:
                    client.shutdown(socket.SHUT_RDWR)
                else:
                    client.sendall(chunk)


def _chunks(sender: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):
        while chunk := sender.recv(1 << 16):
            yield chunk


@contextmanager
def proxy(server_port: int) -> Iterator[Proxy]:
    """Start one before the server at a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Proxy(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=running.carry, args=(client, server_port), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield running
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


@dataclass
class MuteProxy:
    """A proxy before a server.

    Attributes:
        left: so many bytes of answers are passed on, then nothing more.
        greets: new connections are served all the same.
    """

    port: int
    left: float = float("inf")
    greets: bool = False
    speaks: threading.Event = field(default_factory=threading.Event)
    passed: int = 0

    def mute(self, after: float, *, greets: bool) -> None:
        """Go mute after so many bytes."""
        self.speaks.clear()
        self.left, self.greets = after, greets

    def speak(self) -> None:
        """Pass everything on, also what was kept back."""
        self.left = float("inf")
        self.speaks.set()

    def carry(self, client: socket.socket, server_port: int) -> None:
        """Serve one client."""
        free = self.greets and self.left <= 0
        with client, socket.create_connection(("127.0.0.1", server_port)) as server:
            back = threading.Thread(target=self._pass, args=(server, client, free, True), daemon=True)
            back.start()
            self._pass(client, server, free, False)
            back.join()

    def _pass(self, sender: socket.socket, receiver: socket.socket, free: bool, counted: bool) -> None:
        with suppress(OSError):
            while chunk := sender.recv(1 << 16):
                if counted:
                    self.passed += len(chunk)
                    self.left -= len(chunk)
                if not free and self.left <= 0:
                    self.speaks.wait()
                receiver.sendall(chunk)
        for end in (sender, receiver):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def mute_proxy(server_port: int) -> Iterator[MuteProxy]:
    """Start one before the server at a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = MuteProxy(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=running.carry, args=(client, server_port), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield running
        finally:
            running.speak()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextmanager
def dying(*, silent: bool) -> Iterator[int]:
    """A PostgreSQL that ends whenever somebody connects, with its last word or without; yields its port.

    It is played: in a restart that moment can't be met for sure.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(1 << 16)
                        client.sendall(b"" if silent else b"E" + (len(FATAL) + 4).to_bytes(4, "big") + FATAL)

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            ending.join()


@contextmanager
def slow_proxy(server_port: int, bytes_per_second: int, delay: float) -> Iterator[int]:
    """A line to the server at a port of this machine, shared by all connections: its answers are late, and so wide.

    Args:
        server_port: of the server.
        bytes_per_second: of all answers together, by a token bucket.
        delay: seconds that each answer is under way.
    """
    bucket = _Bucket(bytes_per_second)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def carry(client: socket.socket) -> None:
            with client, socket.create_connection(("127.0.0.1", server_port)) as server:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                for target, arguments in (
                    (_depart, (server, under_way, delay)),
                    (_arrive, (client, under_way, bucket)),
                ):
                    threading.Thread(target=target, args=arguments, daemon=True).start()
                for chunk in _chunks(client):
                    server.sendall(chunk)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=carry, args=(client,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


class _Bucket:
    """So many bytes a second, whoever takes them."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate, self._next, self._taking = bytes_per_second, 0.0, threading.Lock()

    def take(self, count: int) -> None:
        """Wait until so many may pass."""
        with self._taking:
            self._next = max(self._next, monotonic()) + count / self._rate
            ready = self._next
        if (wait := ready - monotonic()) > 0:
            sleep(wait)


def _depart(server: socket.socket, under_way: SimpleQueue[tuple[float, bytes]], delay: float) -> None:
    for chunk in _chunks(server):
        while under_way.qsize() > 64:  # a window's worth; the server waits for the rest
            sleep(0.001)
        under_way.put((monotonic() + delay, chunk))
    under_way.put((monotonic() + delay, b""))


def _arrive(client: socket.socket, under_way: SimpleQueue[tuple[float, bytes]], bucket: _Bucket) -> None:
    while True:
        arrives, chunk = under_way.get()
        if not chunk:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            return
        bucket.take(len(chunk))
        if (wait := arrives - monotonic()) > 0:
            sleep(wait)
        with suppress(OSError):
            client.sendall(chunk)
