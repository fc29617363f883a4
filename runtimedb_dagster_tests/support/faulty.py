"""A server before the object store that fails on demand, as stores and networks do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["ANSWERS", "BODIES", "BROKEN", "FORBIDDEN", "Fault", "Faulty", "faulty"]

BROKEN = b"<Error><Code>InternalError</Code><Message>it broke</Message></Error>"
PORTAL = b"<html><body>Please log in to use this network</body></html>"
FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>it is forbidden</Message></Error>"


@dataclass
class Fault:
    """What happens to requests of a method whose query has a word in it.

    Attributes:
        answer: a status to answer with, or one of `ANSWERS`.
        times: to so many of them.
    """

    method: str
    query: str
    answer: int | str
    times: int = 1_000_000
    body: bytes = BROKEN

    def meets(self, method: str, target: str) -> bool:
        """Whether it happens to this request; counts it."""
        if self.times <= 0 or method != self.method or self.query not in urlsplit(target).query:
            return False
        self.times -= 1
        return True


ANSWERS: dict[int | str, str] = {
    500: "it broke",
    503: "it broke",
    403: "it is forbidden",
    404: "a page of a portal",
    429: "it broke",
    301: "to nowhere",
    200: "an error, though the status says that all is well",
    "portal": "200 and a page of a portal",
    "empty": "200 and nothing",
    "lost": "the store does it, and the connection ends",
    "stalled": "the connection ends after 3 seconds",
    "gone": "the connection ends at once",
    "cut": "half of what the store answers, and the connection ends",
    "short": "half of what the store answers, as if it were all",
    "slow": "the right answer, half a second later",
}
"""What a store, a proxy or a network may do, by what a fault calls it."""
BODIES: dict[int | str, bytes] = {403: FORBIDDEN, 404: PORTAL, "portal": PORTAL, "empty": b"", 301: b""}


@dataclass
class Faulty:
    """The running server; `requests` counts what came, by method and the first word of the query.

    Attributes:
        draw: may have a fault for a request, by its method and target, where none of `faults` meets it.
    """

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    draw: Callable[[str, str], Fault | None] | None = None
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: str
    running: Faulty

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.running.requests.append(f"{self.command} {urlsplit(self.path).query.partition('=')[0]}".strip())
        fault = next((each for each in self.running.faults if each.meets(self.command, self.path)), None)
        if fault is None and self.running.draw is not None:
            fault = self.running.draw(self.command, self.path)
        if fault is None or fault.answer == "slow":
            time.sleep(0.5 if fault else 0)
            self._answer(*self._forward(body))
        elif isinstance(fault.answer, int):
            self._answer(fault.answer, [], fault.body)
        elif fault.answer in BODIES:
            self._answer(200, [], BODIES[fault.answer])
        elif fault.answer in ("cut", "short"):
            self._answer_half(*self._forward(body), cut=fault.answer == "cut")
        else:
            if fault.answer == "lost":
                self._forward(body)
            elif fault.answer == "stalled":
                time.sleep(3)
            self.close_connection = True

    def _answer_half(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool) -> None:
        self._answer(status, headers, body[: len(body) // 2], length=len(body) if cut else None)
        self.close_connection = cut

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - http.server calls them so

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.store).netloc, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        said = len(body) if length is None else length
        self.send_header(
            "Content-Length", dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(said)
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self) -> None:
        """Requests, until the client leaves, in the middle of an answer as well."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty(store: str) -> Iterator[Faulty]:
    """Start one before the store at this URL."""
    running = Faulty("")
    handler = type("Handler", (_Handler,), {"store": store, "running": running})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        running.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
