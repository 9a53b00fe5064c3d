"""Start servers on a core of their own, each with a folder for its files, and end them all together.

Rules kept here:
- A server counts as started once it returns the upstream's response.
- If it does not start, the error has its name and its output.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tests.bench.load import Request
from tests.bench.messages import GET, RESPONSE, Call
from tests.bench.processes import cpu_seconds, started

_CONFIGS = Path(__file__).resolve().parent / "configs"
_PATIENCE = 30.0
_SHOWN = 2_000
"""Characters of a server's output that an error shows."""

Command = Sequence[str | Path]


class StartError(Exception):
    """A server did not start, or does not do its job; the text has its name and its output."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Two CPU cores: one for the proxy that is measured, one for the load and the upstream."""

    proxy: int
    load: int

    @classmethod
    def available(cls) -> Cores | None:
        """Return two cores that this process may use, or None if there is only one."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(proxy=cores[1], load=cores[0]) if len(cores) > 1 else None


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, of one process or more, and the key that it accepts."""

    name: str
    port: int
    key: str
    processes: tuple[subprocess.Popen[bytes], ...]
    scheme: str = "http"

    def request(self, call: Call) -> Request:
        """Return the request of a call to this server."""
        return Request(self.port, call.method, call.target, self.key, call.body, self.scheme)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that its processes have used."""
        return sum(cpu_seconds(process.pid) for process in self.processes)


@dataclass(frozen=True, slots=True)
class Stage:
    """The processes of a measurement, which end together, and the folder of their files."""

    folder: Path
    cores: Cores
    running: contextlib.ExitStack

    @classmethod
    @contextlib.contextmanager
    def opened(cls, cores: Cores) -> Iterator[Stage]:
        """Yield an empty stage; at the end of the block its processes are ended and its files removed."""
        with TemporaryDirectory(prefix="blnk-gateway-bench-") as folder, contextlib.ExitStack() as running:
            # If root starts nginx, it works as another user.
            Path(folder).chmod(0o755)
            yield cls(Path(folder), cores, running)

    def folder_of(self, name: str) -> Path:
        """Return the folder of a server, made if it is not there."""
        made = self.folder / name.replace(" ", "-")
        made.mkdir(exist_ok=True)
        return made

    def run(self, name: str, command: Command, core: int, environ: Mapping[str, str]) -> Process:
        """Start a process with the environment of this one and `environ`, without `BLNK_` of this one.

        Raises StartError if there is no such program.
        """
        output = Path(mkdtemp(dir=self.folder)) / "output"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("BLNK_")}
        try:
            process = self.running.enter_context(started(command, core, output, inherited | dict(environ)))
        except OSError as error:
            raise StartError(f"{name}: cannot run {command[0]}: {error.strerror}") from None
        return Process(name, process, output)


def end_on_sigterm() -> None:
    """Make SIGTERM end this process with exit code 2, and its stages with it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the stage and the file with its output."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the process is ready; a connection error means not yet. Raises StartError."""
        deadline = time.monotonic() + _PATIENCE
        while self.popen.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(0.02)
        ended = self.popen.poll()
        how = f"did not start within {_PATIENCE:.0f} s" if ended is None else f"ended with exit code {ended}"
        told = self.output.read_text(errors="replace")[-_SHOWN:]
        raise StartError(f"{self.name} {how}. The end of its output:\n{told}")

    def wait_until_proxied(self, port: int, key: str, scheme: str = "http") -> None:
        """Wait until the server returns the upstream's response. Raises StartError."""
        self.wait_until(lambda: ask(port, GET, key, scheme=scheme).body == RESPONSE.encode())


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the body of a response."""

    status: int
    body: bytes


def ask(
    port: int, call: Call, key: str, headers: Mapping[str, str] | None = None, scheme: str = "http"
) -> Answer:
    """Send one request, without a key if it is empty; no certificate is verified. Raises OSError."""
    sent = dict(headers or {}) | ({"X-Blnk-Key": key} if key else {})
    body = call.body.encode() if call.body else None
    if body:
        sent["Content-Type"] = "application/json"
    url = f"{scheme}://127.0.0.1:{port}{call.target}"
    request = urllib.request.Request(url, body, sent, method=call.method)  # noqa: S310 - http or https
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )
    try:
        with opener.open(request, timeout=_PATIENCE) as response:
            return Answer(response.status, response.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read())


def filled(template: str, folder: Path, values: Mapping[str, object]) -> Path:
    """Write a file of `configs/` into the folder, with each `@NAME@` replaced; return its path."""
    text = (_CONFIGS / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    made = folder / template
    made.write_text(text)
    return made
