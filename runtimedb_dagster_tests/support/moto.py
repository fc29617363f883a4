"""Another object store than the one of `seaweed`: moto's server, over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_connection, socket
from time import monotonic, sleep

from runtimedb_dagster_tests.support.s3 import BUCKET, ObjectStore

__all__ = ["moto_running"]

START_SECONDS = 60


@contextmanager
def moto_running() -> Iterator[ObjectStore]:
    """Start one that is empty, and end it."""
    with closing(socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            env=os.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _await(port, process)
            store = ObjectStore(f"http://127.0.0.1:{port}")
            store.client().create_bucket(Bucket=BUCKET)
            yield store
        finally:
            process.kill()
            process.wait(START_SECONDS)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + START_SECONDS
    while True:
        try:
            create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or monotonic() > deadline:
                raise RuntimeError("moto's server does not start") from None
            sleep(0.05)
        else:
            return
