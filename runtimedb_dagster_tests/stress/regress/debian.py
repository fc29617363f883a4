"""What Debian has of other projects' test suites: a package's source, and a package of data. Nothing is installed."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["mariadb_tests", "postgresql_tests"]

SOURCE = "postgresql-15"
DATA = "mariadb-test-data"


def postgresql_tests(cache: Path) -> Path:
    """The directory `src/test/regress` of PostgreSQL's sources.

    Raises:
        RuntimeError: Debian's mirror has none of the versions that it lists.
    """
    with _kept(cache, f"{SOURCE}-*/src/test/regress") as (found, directory):
        if not found:
            with tarfile.open(_source(directory)) as archive:
                members = [each for each in archive if "/src/test/regress/" in each.name]
                archive.extractall(cache, members, filter="data")
    return _only(cache, "postgresql-*/src/test/regress")


def mariadb_tests(cache: Path) -> Path:
    """The directory of MariaDB's main test suite."""
    pattern = "usr/share/*/*-test/main"
    with _kept(cache, pattern) as (found, directory):
        if not found:
            _run("apt-get", "-qq", "update")
            _run("apt-get", "-qq", "download", DATA, cwd=directory)
            _run("dpkg-deb", "-x", _only(directory, "*.deb"), cache)
    return _only(cache, pattern)


@contextmanager
def _kept(cache: Path, pattern: str) -> Iterator[tuple[bool, Path]]:
    """Whether it is there already, and where to work if not."""
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        yield any(cache.glob(pattern)), Path(name)


def _source(directory: Path) -> Path:
    """The archive of the newest version that the mirror has."""
    parts = directory / "parts"
    (directory / "lists" / "partial").mkdir(parents=True)
    parts.mkdir()
    for file in Path("/etc/apt/sources.list.d").glob("*.sources"):
        lines = file.read_text(encoding="utf-8").splitlines()
        changed = ["Types: deb-src" if line.startswith("Types:") else line for line in lines]
        (parts / file.name).write_text("\n".join(changed) + "\n", encoding="utf-8")
    plain = Path("/etc/apt/sources.list")
    lines = plain.read_text(encoding="utf-8").splitlines() if plain.exists() else []
    listed = [line.replace("deb ", "deb-src ", 1) for line in lines if line.startswith("deb ")]
    (directory / "sources.list").write_text("\n".join(listed) + "\n", encoding="utf-8")
    options = [
        f"Dir::Etc::SourceList={directory / 'sources.list'}",
        f"Dir::Etc::SourceParts={parts}",
        f"Dir::State::Lists={directory / 'lists'}",
    ]
    apt = [word for option in options for word in ("-o", option)]
    _run("apt-get", "-qq", *apt, "update")
    shown = _run("apt-cache", *apt, "showsrc", SOURCE)
    versions = [line.split()[1] for line in shown.splitlines() if line.startswith("Version:")]
    for version in sorted(versions, reverse=True):
        command = ["apt-get", "-qq", *apt, "source", "--tar-only", "--download-only", f"{SOURCE}={version}"]
        subprocess.run(command, cwd=directory, capture_output=True, check=False)
        if found := list(directory.glob("*.orig.tar.*")):
            return found[0]
    raise RuntimeError(f"Debian's mirror has none of the sources of {SOURCE} that it lists: {versions}")


def _only(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern))


def _run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-1000:]}")
    return done.stdout
