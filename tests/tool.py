"""Run one of the suite's tools in the tests' virtual environment, for `python3 -m tests.NAME`.

Rules kept here:
- Standard library only: this file runs before anything is installed.
- This process becomes the tool, so that a signal reaches it, and it ends every server.
- If programs are missing, one line says how to install them, and the exit code is 2; with `CI=true` they are
  installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tests.__main__ import INTERPRETED, OLDEST_PYTHON, ROOT, install_packages, is_in_ci


def run_tool(name: str, missing: Sequence[str]) -> int:
    """Become `tests.NAME.run` with this command's arguments; `missing` are Debian packages that it needs.

    Returns the exit code only if the tool cannot run.
    """
    if sys.version_info < OLDEST_PYTHON:
        wanted, found = ".".join(map(str, OLDEST_PYTHON)), sys.version.split()[0]
        return refuse(name, f"needs Python {wanted} or newer, this is {found}")
    if missing and not is_in_ci():
        packages = " ".join(missing)
        return refuse(name, f"to run it: sudo apt-get install --yes --no-install-recommends {packages}")
    try:
        if missing:
            install_packages(missing)
        INTERPRETED.prepare()
    except (subprocess.CalledProcessError, OSError) as failure:
        return refuse(name, f"could not set up: {failure}")
    os.chdir(ROOT)
    python = str(INTERPRETED.python)
    return os.execv(python, [python, "-m", f"tests.{name}.run", *sys.argv[1:]])  # noqa: S606 - no shell


def refuse(name: str, text: str) -> int:
    """Print why the tool does not run; return its exit code."""
    sys.stderr.write(f"tests.{name}: {text}\n")
    sys.stderr.flush()
    return 2
