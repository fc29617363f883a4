"""A server before the object store that fails on demand, as stores and networks do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["Fault", "Faulty", "faulty"]

BROKEN = b"<Error><Code>InternalError</Code><Message>it broke</Message></Error>"
FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>it is forbidden</Message></Error>"


@dataclass
class Fault:
    """What happens to requests of a method whose query has a word in it.

    Attributes:
        answer: a status to answer with, or `lost`: the store does it and the connection ends, or
            `stalled`: the connection ends after 2 seconds, or `gone`: at once.
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


@dataclass
class Faulty:
    """The running server; `requests` counts what came, by method and the first word of the query."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: str
    running: Faulty

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.running.requests.append(f"{self.command} {urlsplit(self.path).query.partition('=')[0]}".strip())
        fault = next((each for each in self.running.faults if each.meets(self.command, self.path)), None)
        if fault is None:
            self._answer(*self._forward(body))
        elif isinstance(fault.answer, int):
            self._answer(fault.answer, [], fault.body)
        else:
            if fault.answer == "lost":
                self._forward(body)
            elif fault.answer == "stalled":
                time.sleep(2)
            self.close_connection = True

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

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

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
