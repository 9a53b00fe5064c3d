"""Set up what the tests need and run them: `python3 -m tests [PYTEST ARGUMENTS]`.

Rules kept here:
- Each step is announced before it begins, with the time that it takes.
- Standard library only: this file runs before anything is installed, and without `python3-venv`.
- The suite starts its servers itself, on free ports; this command only makes the programs available.
- With `CI=true` missing system packages are installed, and a skipped test of a real server is a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.sdk import node_packages

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv" / "tests"
PYTHON = ENVIRONMENT / "bin" / "python"
INSTALLED = ENVIRONMENT / "installed"  # contains the digest for which the environment was installed
# Program that the suite starts -> its Debian package.
PACKAGES = {"redis-server": "redis-server", "postgres": "postgresql"}
# Debian installs some programs here, which is not on the PATH.
ELSEWHERE = "/usr/lib/postgresql/*/bin"
OLDEST_PYTHON = (3, 11)
LIVE_CORE = ("BLNK_CORE_URL", "BLNK_CORE_MASTER_KEY")  # `tests.core.live` cannot be imported yet
HELP = f"""{__doc__.splitlines()[0]}

usage: python3 -m tests                    everything that this machine can run
       python3 -m tests tests/policy       one package; all arguments are passed to pytest
       python3 -m tests -k pipelining
       CI=true python3 -m tests            installs missing servers, so that their tests are not skipped
"""


def run(*command: str | Path) -> None:
    """Run a command that must succeed. Raises `subprocess.CalledProcessError`."""
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def environment_works() -> bool:
    """Return whether the environment's Python starts (an upgrade may have removed its base)."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", ""], check=False, capture_output=True).returncode == 0


def wanted() -> str:
    """Return a digest of everything that decides what is installed."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()


def prepare_environment() -> None:
    """Make the virtual environment with the extra `tests`, if it is missing or pyproject.toml has changed."""
    if environment_works() and INSTALLED.exists() and INSTALLED.read_text() == wanted():
        return
    if sys.prefix == str(ENVIRONMENT):
        raise OSError("pyproject.toml has changed; run this command with a Python outside .venv/tests")
    say(f"installing what the tests need into {ENVIRONMENT.relative_to(ROOT)}: about a minute")
    run(sys.executable, "-m", "venv", "--clear", "--without-pip", ENVIRONMENT)
    # The pip of this Python installs into the environment, so that ensurepip is not needed.
    run(sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "--editable", ".[tests]")
    INSTALLED.write_text(wanted())


def is_installed(program: str) -> bool:
    """Return whether the program is on the PATH or where Debian installs it."""
    return shutil.which(program) is not None or any(Path("/").glob(f"{ELSEWHERE[1:]}/{program}"))


def prepare_servers(*, install: bool) -> None:
    """Install the servers that are missing, or print the command that would."""
    missing = [package for program, package in PACKAGES.items() if not is_installed(program)]
    if not missing:
        return
    if install:
        prefix = [] if os.geteuid() == 0 else ["sudo"]
        run(*prefix, "apt-get", "update")
        run(*prefix, "apt-get", "install", "--yes", "--no-install-recommends", *missing)
    elif sys.platform == "darwin":
        say("tests that need a real server are skipped; to run them: brew install redis postgresql")
    else:
        say(
            "tests that need a real server are skipped; to run them: "
            f"sudo apt-get install --yes {' '.join(missing)}"
        )


def prepare_sdks(*, strict: bool) -> None:
    """Install the npm packages of the SDK tests if node is installed; else those tests are skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return
    try:
        node_packages.install()
    except subprocess.CalledProcessError:
        if strict:
            raise
        say(f"the tests of the TypeScript SDK are skipped; to run them: {node_packages.COMMAND}")


def say(text: str) -> None:
    sys.stderr.write(f"tests: {text}\n")
    sys.stderr.flush()


def beginning(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the lines to print before pytest runs with these arguments."""
    if arguments:
        return ["running pytest; it prints nothing for some seconds while it collects tests"]
    lines = [
        "running the whole suite: about ten minutes on two cores; the first output comes after some seconds"
    ]
    if not all(environ.get(name) for name in LIVE_CORE):
        variables = " and ".join(LIVE_CORE)
        lines.append(f"tests against a live Blnk Core are skipped; to run them: set {variables}")
    return lines


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(HELP)
        return 0
    # Other programs allow `--` before options too.
    arguments = arguments[1:] if arguments[:1] == ["--"] else arguments
    if sys.version_info < OLDEST_PYTHON:
        say(f"needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, this is {sys.version.split()[0]}")
        return 2
    in_ci = os.environ.get("CI") == "true"
    try:
        prepare_environment()
        prepare_servers(install=in_ci)
        prepare_sdks(strict=in_ci)
    except (subprocess.CalledProcessError, OSError) as failure:
        say(f"could not set up: {failure}")
        return 2
    for line in beginning(arguments, os.environ):
        say(line)
    strict = ["--need-servers"] if in_ci else []
    return subprocess.run([PYTHON, "-m", "pytest", *strict, *arguments], check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
