"""sling's own binary, which its package fetches at the first use."""

import os
import subprocess
from pathlib import Path

from peer import URL, run
from sling.bin import SLING_BIN  # raises where the binary can't be fetched


def read(table: str, target: Path) -> None:
    """One table."""
    stream = f"public.{table}" if URL.startswith("postgresql") else table
    done = subprocess.run(
        [SLING_BIN, "run", "--src-conn", "SOURCE", "--src-stream", stream, "--tgt-object", f"file://{target}"],
        env={**os.environ, "SOURCE": URL}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-300:])


run(read)
