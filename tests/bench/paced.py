"""Send load at a fixed rate with `open_loop`, from a process of its own, and read what it measured.

Rules kept here:
- A status other than the expected one fails the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import PIPE

from tests.bench.load import LoadError, Request
from tests.bench.processes import end, start
from tests.bench.samples import SETTLED_SECONDS
from tests.bench.servers import Server

_COMMAND = (sys.executable, "-m", "tests.bench.open_loop")


@dataclass(frozen=True, slots=True)
class Plan:
    """`count` requests, in turn from `requests`, at `rate` a second over `connections` connections.

    `first` is sent once on each connection before the load; it is the first of the requests if not given.
    `refused` has the statuses that are expected beside success, and how many of each.
    """

    port: int
    requests: Sequence[bytes]
    rate: float
    count: int
    connections: int
    first: bytes = b""
    refused: Mapping[str, int] = field(default_factory=dict)

    def written(self) -> bytes:
        """Return the plan as a line for `open_loop`."""
        text = json.dumps(
            {
                "port": self.port,
                "requests": [request.decode("latin-1") for request in self.requests],
                "first": (self.first or self.requests[0]).decode("latin-1"),
                "rate": self.rate,
                "count": self.count,
                "connections": self.connections,
            }
        )
        return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Paced:
    """The responses of a load, and their latencies in milliseconds from when each request was due."""

    requests: int
    p50_ms: float
    p99_ms: float
    longest_ms: float


def message(request: Request) -> bytes:
    """Return the bytes of a request."""
    body = request.body.encode()
    head = (
        f"{request.method} {request.target} HTTP/1.1\r\nHost: 127.0.0.1:{request.port}\r\n"
        f"X-Blnk-Key: {request.key}\r\n"
    )
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@contextmanager
def connected(plan: Plan, core: int) -> Iterator[Callable[[], Paced]]:
    """Open the connections of a plan; yield a function that sends its load once. Raises LoadError."""
    process = start(_COMMAND, core, PIPE, stdin=PIPE)
    try:
        _tell(process, plan.written())
        if _line(process) != "ready":
            raise LoadError(f"port {plan.port}: the connections were not opened")

        def play() -> Paced:
            _tell(process, b"go\n")
            return _read(_line(process), plan)

        yield play
    finally:
        end(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def paced(plan: Plan, core: int) -> Paced:
    """Send the load of a plan. Raises LoadError."""
    with connected(plan, core) as play:
        return play()


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        raise LoadError(_line(process)) from None


def _line(process: subprocess.Popen[bytes]) -> str:
    """Return the next line; if the process failed, raise LoadError with its last line."""
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if line == "ready" or line.startswith("{"):
        return line
    rest = process.stdout.read().decode().strip().splitlines()
    raise LoadError(f"the load failed: {rest[-1] if rest else line}")


def _read(line: str, plan: Plan) -> Paced:
    found = json.loads(line)
    odd = {status: count for status, count in found["statuses"].items() if not status.startswith("2")}
    if odd != plan.refused:
        raise LoadError(f"port {plan.port}: responses were not a success: {odd}")
    return Paced(found["requests"], found["p50_ms"], found["p99_ms"], found["longest_ms"])


def paced_cpu_us(server: Server, plan: Plan, core: int) -> float:
    """Send the load of a plan; return the server's CPU time of a request in us. Raises LoadError."""
    with connected(plan, core) as play:
        # What the new connections left to do.
        time.sleep(SETTLED_SECONDS)
        before = server.cpu_seconds()
        seen = play()
        time.sleep(SETTLED_SECONDS)
        return (server.cpu_seconds() - before) / seen.requests * 1e6
