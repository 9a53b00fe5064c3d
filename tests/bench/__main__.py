"""Make the tests' virtual environment and measure in it: `python3 -m tests.bench [--seconds S] [--rounds N]`.

Rules kept here:
- Standard library only: this file runs before anything is installed.
- What is missing is named in one line that installs it, exit 2.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.__main__ import OLDEST_PYTHON, PYTHON, ROOT, prepare_environment
from tests.bench.processes import find

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}  # program -> Debian package


def missing() -> list[str]:
    """The packages of the programs that are not installed."""
    return [package for program, package in PACKAGES.items() if find(program) is None]


def say(text: str) -> None:
    sys.stderr.write(f"tests.bench: {text}\n")
    sys.stderr.flush()


def main() -> int:
    if sys.platform != "linux":
        say("measures by /proc and CPU affinity: needs Linux")
        return 2
    if sys.version_info < OLDEST_PYTHON:
        say(f"needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, this is {sys.version.split()[0]}")
        return 2
    if packages := missing():
        say(f"to run it: sudo apt-get install --yes --no-install-recommends {' '.join(packages)}")
        return 2
    try:
        prepare_environment()
    except (subprocess.CalledProcessError, OSError) as failure:
        say(f"could not set up: {failure}")
        return 2
    command: list[str | Path] = [PYTHON, "-m", "tests.bench.run", *sys.argv[1:]]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
