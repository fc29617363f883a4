"""Servers that accept and never answer, and that go mute in the middle: an end in time, with the connection's name."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.errors import SourceUnavailableError
from runtimedb_dagster.sources.attached import watch
from runtimedb_dagster.sources.attached.watch import Peer, watched


@contextmanager
def mute() -> Iterator[int]:
    """A server that accepts and says nothing; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("postgresql", {"connect_timeout": 2}),
        ("mysql", {"connect_timeout": 2}),
        ("ducklake+postgresql", {"connect_timeout": 2}),
        ("iceberg+http", {"discovery_timeout": 2}),
    ],
)
def test_a_server_that_never_answers_is_unavailable_in_time(
    db: RuntimeDB, monkeypatch: pytest.MonkeyPatch, scheme: str, options: dict[str, int]
) -> None:
    monkeypatch.setenv("THE_PASSWORD", "x")
    with mute() as port:
        before = threading.active_count()
        with pytest.raises(
            SourceUnavailableError, match=f"Connection 'hole' .{scheme.replace('+', '.')}://.*127.0.0.1:{port}"
        ):
            db.connect("hole", f"{scheme}://u@127.0.0.1:{port}/x", options=options, password_env="THE_PASSWORD")
        assert threading.active_count() <= before + 1
    assert db.connections()[0].discovery_error


@pytest.mark.parametrize("tokens", [False, True], ids=["catalog", "tokens"])
def test_a_mute_iceberg_catalog_is_cut_off_before_its_clients_patience_ends(
    db: RuntimeDB, monkeypatch: pytest.MonkeyPatch, tokens: bool
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("THE_PASSWORD", "x")
    shut: list[int] = []
    cut = Peer.cut

    def seen(peer: Peer) -> int:
        shut.append(cut(peer))
        return shut[-1]

    monkeypatch.setattr(Peer, "cut", seen)
    with mute() as port:
        host, apart = (
            ("127.0.0.1:9", {"oauth2_server_uri": f"http://127.0.0.1:{port}/t"})
            if tokens
            else (f"127.0.0.1:{port}", {})
        )
        with pytest.raises(SourceUnavailableError, match="longer than 1 s; raise the option discovery_timeout"):
            db.connect(
                "hole",
                f"iceberg+http://u@{host}/x",
                options={"discovery_timeout": 1, **apart},
                password_env="THE_PASSWORD",
            )
    assert any(shut)


def test_sockets_to_a_mute_server_are_shut_down_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROBE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(watch, "PROBE_TIMEOUT_SECONDS", 0.2)
    with mute() as silent, mute() as other:
        reading, bystander = (socket.create_connection(("127.0.0.1", port)) for port in (silent, other))
        with reading, bystander:
            peer = Peer((("127.0.0.1", silent),))
            with watched(lambda: None, lambda: None, peer, None, "read_timeout") as overrun:
                assert reading.recv(1) == b"", "it would have waited for ever"
            assert overrun.reason.startswith("the server no longer answers")
            bystander.sendall(b"still there")


def test_a_server_that_greets_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROBE_EVERY_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probes: list[bytes] = []

        def greet() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        probes.append(client.recv(8))
                        client.sendall(b"N")

        threading.Thread(target=greet, daemon=True).start()
        peer = Peer((("127.0.0.1", listener.getsockname()[1]),), b"hello")
        with watched(lambda: pytest.fail("interrupted"), lambda: None, peer, None, "read_timeout") as overrun:
            until = time.monotonic() + 10
            while len(probes) < 3 and time.monotonic() < until:
                time.sleep(0.01)
        assert (len(probes) >= 3, overrun.reason) == (True, "")
        assert set(probes) == {b"hello"}
        listener.shutdown(socket.SHUT_RDWR)


def test_a_time_that_is_over_interrupts_until_it_is_done() -> None:
    ended = threading.Event()
    with watched(ended.set, lambda: None, None, 0.05, "read_timeout") as overrun:
        assert ended.wait(30)
    assert overrun.reason == "it took longer than 0.05 s; raise the option read_timeout"


def test_no_descriptor_is_left_of_a_look_at_the_sockets() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    Peer((("127.0.0.1", 1),)).cut()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
