"""TLS before a PostgreSQL server that was built without it: a real handshake and certificate, ended here.

The wheel's server has no TLS; what is tested is how the client asks for it, checks the certificate, and goes on.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

__all__ = ["TLSFront", "tls_front"]

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")


@dataclass(frozen=True)
class TLSFront:
    """Where it listens, the certificate to trust, and how many connections came in by TLS."""

    port: int
    root_certificate: Path
    accepted: list[str]


@contextmanager
def tls_front(server_port: int, directory: Path) -> Iterator[TLSFront]:
    """Take TLS connections for `localhost` and pass on what is in them."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(directory / "root.crt"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front = TLSFront(listener.getsockname()[1], directory / "root.crt", [])
        serving = threading.Thread(target=_serve, args=(listener, context, server_port, front), daemon=True)
        serving.start()
        yield front
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)


def _serve(listener: socket.socket, context: ssl.SSLContext, server_port: int, front: TLSFront) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_handle, args=(client, context, server_port, front), daemon=True).start()


def _handle(client: socket.socket, context: ssl.SSLContext, server_port: int, front: TLSFront) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        stack.callback(client.close)
        while (request := client.recv(8)) == GSS_REQUEST:
            client.sendall(b"N")
        if request != SSL_REQUEST:
            return
        client.sendall(b"S")
        inner = stack.enter_context(context.wrap_socket(client, server_side=True))
        front.accepted.append(inner.version() or "")
        server = stack.enter_context(socket.create_connection(("127.0.0.1", server_port)))
        back = threading.Thread(target=_pump, args=(server, inner), daemon=True)
        back.start()
        _pump(inner, server)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
