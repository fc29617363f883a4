"""A fuzzer that follows the branches taken, on the properties of `core/test_properties.py`: `make fuzz SECONDS=60`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module

import atheris

__all__: list[str] = []

PROPERTIES = "runtimedb_dagster_tests.unit.test_properties"


def properties() -> list[str]:
    """The names of the properties."""
    return [name for name, found in vars(import_module(PROPERTIES)).items() if hasattr(found, "hypothesis")]


def main() -> int:
    """Fuzz each property in a process of its own, for its part of the time; exit status 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    given, failed, names = parser.parse_args(), [], properties()
    for name in names:
        limit = f"-max_total_time={max(given.seconds // len(names), 1)}"
        # What fails is printed, and becomes an example in the test; no file is left.
        with tempfile.TemporaryDirectory() as scratch:
            scratch_only = f"-artifact_prefix={scratch}/"
            command = [
                sys.executable,
                "-m",
                "runtimedb_dagster_tests.stress.torture.fuzz",
                "--one",
                name,
                limit,
                scratch_only,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(name, *runs or [f"does not hold:\n{done.stdout}{done.stderr}"], flush=True)
        failed += [name] if done.returncode else []
    return 1 if failed else 0


def one() -> None:
    """Fuzz one property; ends the process."""
    name = sys.argv.pop(sys.argv.index("--one") + 1)
    sys.argv.remove("--one")
    with atheris.instrument_imports(include=["runtimedb_dagster"]):
        found = getattr(import_module(PROPERTIES), name)
    atheris.Setup(sys.argv, found.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    if "--one" in sys.argv:
        one()
    sys.exit(main())
