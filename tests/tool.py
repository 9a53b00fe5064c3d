"""Run one of the suite's tools in the tests' virtual environment, for `python3 -m tests.NAME`.

Rules kept here:
- Standard library only: this file runs before anything is installed.
- If programs are missing, one line says how to install them, and the exit code is 2.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.__main__ import INTERPRETED, OLDEST_PYTHON, ROOT


def run_tool(name: str, missing: Sequence[str]) -> int:
    """Run `tests.NAME.run` with this command's arguments; `missing` are Debian packages that it needs."""
    if sys.version_info < OLDEST_PYTHON:
        wanted, found = ".".join(map(str, OLDEST_PYTHON)), sys.version.split()[0]
        return refuse(name, f"needs Python {wanted} or newer, this is {found}")
    if missing:
        packages = " ".join(missing)
        return refuse(name, f"to run it: sudo apt-get install --yes --no-install-recommends {packages}")
    try:
        INTERPRETED.prepare()
    except (subprocess.CalledProcessError, OSError) as failure:
        return refuse(name, f"could not set up: {failure}")
    command = [str(INTERPRETED.python), "-m", f"tests.{name}.run", *sys.argv[1:]]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def refuse(name: str, text: str) -> int:
    """Print why the tool does not run; return its exit code."""
    sys.stderr.write(f"tests.{name}: {text}\n")
    sys.stderr.flush()
    return 2
