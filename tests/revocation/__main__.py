"""Make the tests' virtual environment and measure revocations in it: `python3 -m tests.revocation`.

Rules kept here:
- Standard library only: this file runs before anything is installed.
- What is missing is named in one line that installs it, exit 2.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.__main__ import OLDEST_PYTHON, PYTHON, ROOT, prepare_environment


def say(text: str) -> None:
    sys.stderr.write(f"tests.revocation: {text}\n")
    sys.stderr.flush()


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        say(f"needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, this is {sys.version.split()[0]}")
        return 2
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        say("to run it: sudo apt-get install --yes --no-install-recommends redis-server")
        return 2
    try:
        prepare_environment()
    except (subprocess.CalledProcessError, OSError) as failure:
        say(f"could not set up: {failure}")
        return 2
    command: list[str | Path] = [PYTHON, "-m", "tests.revocation.run", *sys.argv[1:]]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
