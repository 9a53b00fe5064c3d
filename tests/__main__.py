"""Set up what the tests need and run them: `python3 -m tests [--compiled] [PYTEST ARGUMENTS]`.

Rules kept here:
- Each build has an environment of its own: in `.venv/tests` the checkout is installed in place, and runs
  interpreted; in `.venv/compiled` a compiled build of it is installed, and only the tests are the checkout's.
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
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.deploy import helm_program
from tests.sdk import node_packages

ROOT = Path(__file__).resolve().parent.parent
# Program that the suite starts -> its Debian package.
PACKAGES = {
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "groff": "groff-base",
    "chromium": "chromium",
}
COMPILER = {"gcc": "gcc"}
# Debian installs some programs here, which are not on the PATH of a user.
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/sbin")
OLDEST_PYTHON = (3, 11)
LIVE_CORE = ("BLNK_CORE_URL", "BLNK_CORE_MASTER_KEY")  # `tests.core.live` cannot be imported yet
HELP = f"""{__doc__.splitlines()[0]}

usage: python3 -m tests                    everything that this machine can run
       python3 -m tests tests/policy       one package; all arguments are passed to pytest
       python3 -m tests -k pipelining
       python3 -m tests --compiled         the same against the compiled build: needs a C compiler, first
                                           builds it, which takes two minutes, and again after each change
       python3 -m tests --prepare          installs what the tests need, and runs none; also with --compiled
       CI=true python3 -m tests            installs missing servers, so that their tests are not skipped
"""


def run(*command: str | Path, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run a command that must succeed, with these variables too. Raises `subprocess.CalledProcessError`."""
    given = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **environ}
    subprocess.run(command, check=True, cwd=ROOT, env=given)


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment for one build of the gateway, with the extra `tests`."""

    name: str
    compiled: bool

    @property
    def directory(self) -> Path:
        """The folder of the environment."""
        return ROOT / ".venv" / self.name

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.directory / "bin" / "python"

    @property
    def installed(self) -> Path:
        """A file with the digest for which the environment was installed."""
        return self.directory / "installed"

    def works(self) -> bool:
        """Return whether its Python starts (an upgrade may have removed its base)."""
        if not self.python.exists():
            return False
        return subprocess.run([self.python, "-c", ""], check=False, capture_output=True).returncode == 0

    def wanted(self) -> str:
        """Return a digest of everything that decides what is installed."""
        digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode())
        if self.compiled:
            sources = (ROOT / "setup.py", ROOT / "gateway.yaml", *sorted((ROOT / "gateway").rglob("*.py")))
            for source in sources:
                digest.update(source.read_bytes())
        return digest.hexdigest()

    def prepare(self) -> None:
        """Make the environment, if it is missing or what decides it has changed."""
        if self.works() and self.installed.exists() and self.installed.read_text() == self.wanted():
            return
        if sys.prefix == str(self.directory):
            raise OSError(
                f"its environment has to be made anew: run it with a Python outside .venv/{self.name}"
            )
        takes = "two or three minutes" if self.compiled else "about a minute"
        say(f"installing what the tests need into .venv/{self.name}: {takes}")
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", self.directory)
        # The pip of this Python installs into the environment, so that ensurepip is not needed.
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet")
        if self.compiled:
            # setuptools would take modules from there that are gone.
            shutil.rmtree(ROOT / "build", ignore_errors=True)
            run(*pip, ".[tests]", environ={"BLNK_GATEWAY_COMPILE": "1"})
            self._find_tests()
        else:
            run(*pip, "--editable", ".[tests]")
        self.installed.write_text(self.wanted())

    def _find_tests(self) -> None:
        """Let the environment find the package `tests` in the checkout, behind its own `gateway`."""
        packages = next((self.directory / "lib").glob("python3*/site-packages"))
        (packages / "checkout.pth").write_text(f"{ROOT}\n")

    def pytest(self, arguments: Sequence[str]) -> int:
        """Run pytest with these arguments; return its exit code."""
        command = [str(self.python), "-m", "pytest", *arguments]
        environ = dict(os.environ)
        if self.compiled:
            # The checkout has a `gateway`, too: the working directory and the folder of a script count last.
            environ["PYTHONSAFEPATH"] = "1"
            command += ["--compiled", "--import-mode=append"]
        return subprocess.run(command, check=False, cwd=ROOT, env=environ).returncode


INTERPRETED = Environment("tests", compiled=False)
COMPILED = Environment("compiled", compiled=True)


def missing_packages(packages: Mapping[str, str]) -> list[str]:
    """Return the packages of the programs that are missing."""
    return [package for program, package in packages.items() if not is_installed(program)]


def is_in_ci() -> bool:
    """Return whether missing programs are to be installed, and nothing may be skipped."""
    return os.environ.get("CI") == "true"


def is_installed(program: str) -> bool:
    """Return whether the program is on the PATH or where Debian installs it."""
    return shutil.which(program) is not None or any(
        found for folder in ELSEWHERE for found in Path("/").glob(f"{folder[1:]}/{program}")
    )


def prepare_servers(*, install: bool) -> None:
    """Install the servers that are missing, or print the command that would."""
    missing = missing_packages(PACKAGES)
    if not missing:
        return
    if install:
        install_packages(missing)
    elif sys.platform == "darwin":
        say("tests that need a real server are skipped; to run them: brew install redis postgresql nginx")
    else:
        say(
            "tests that need a real server are skipped; to run them: "
            f"sudo apt-get install --yes {' '.join(missing)}"
        )


def install_packages(packages: Sequence[str]) -> None:
    """Install packages of Debian. Raises `subprocess.CalledProcessError`."""
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    run(*prefix, "apt-get", "update")
    run(*prefix, "apt-get", "install", "--yes", "--no-install-recommends", *packages)


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


def prepare_helm(*, build: bool) -> None:
    """Build helm if it is missing, or print the command that would."""
    if (missing := helm_program.missing()) is None:
        return
    if not build:
        say(f"tests of the chart are skipped: {missing}")
        return
    if not is_installed("go"):
        install_packages(["golang-go"])
    say("building helm: about two minutes, once")
    helm_program.install()


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
    environment = INTERPRETED
    if arguments[:1] == ["--compiled"]:
        environment, arguments = COMPILED, arguments[1:]
    only_prepare = arguments[:1] == ["--prepare"]
    # Other programs allow `--` before options too.
    arguments = arguments[1:] if arguments[:1] == ["--"] else arguments
    if sys.version_info < OLDEST_PYTHON:
        say(f"needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, this is {sys.version.split()[0]}")
        return 2
    in_ci = is_in_ci()
    try:
        if in_ci and environment.compiled and (missing := missing_packages(COMPILER)):
            install_packages(missing)
        environment.prepare()
        prepare_servers(install=in_ci)
        prepare_sdks(strict=in_ci)
        prepare_helm(build=in_ci)
    except (subprocess.CalledProcessError, OSError) as failure:
        say(f"could not set up: {failure}")
        return 2
    if only_prepare:
        return 0
    for line in beginning(arguments, os.environ):
        say(line)
    strict = ["--need-servers"] if in_ci else []
    return environment.pytest([*strict, *arguments])


if __name__ == "__main__":
    sys.exit(main())
