"""Make the tests' virtual environment and run the benchmark in it: `python3 -m tests.bench`.

Rules kept here:
- This process becomes the benchmark, so that a signal reaches it, and it ends every server.
- Standard library only: this file runs before anything is installed.
- With `CI=true` missing programs are installed.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.__main__ import INTERPRETED, OLDEST_PYTHON, ROOT, install_packages, is_in_ci
from tests.bench.processes import find
from tests.tool import refuse

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}  # program -> Debian package


def main() -> int:
    problem = obstacle()
    if problem:
        return refuse("bench", problem)
    os.chdir(ROOT)
    return os.execv(INTERPRETED.python, [str(INTERPRETED.python), "-m", "tests.bench.run", *sys.argv[1:]])  # noqa: S606 - no shell


def obstacle() -> str:
    """Set up the environment; return why the benchmark cannot run, or nothing."""
    if sys.platform != "linux":
        return "needs Linux, for /proc and CPU affinity"
    if sys.version_info < OLDEST_PYTHON:
        return f"needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, this is {sys.version.split()[0]}"
    missing = [package for program, package in PACKAGES.items() if find(program) is None]
    if missing and not is_in_ci():
        return f"to run it: sudo apt-get install --yes --no-install-recommends {' '.join(missing)}"
    try:
        if missing:
            install_packages(missing)
        INTERPRETED.prepare()
    except (subprocess.CalledProcessError, OSError) as failure:
        return f"could not set up: {failure}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
