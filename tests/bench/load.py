"""Send load with wrk, and read what it measured.

Rules kept here:
- A response that is not a success fails the run: refusals are cheap, and would look like speed.
- wrk sends the next request once it has the response, so it finds how much CPU time a request takes; for
  latencies at a given rate see `open_loop`.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

from tests.bench.processes import end, find, start

SCRIPT = Path(__file__).with_name("load.lua")


class LoadError(Exception):
    """A load was not sent as it should be, or a response was not a success."""


class NoResponseError(LoadError):
    """No response came while the load lasted; on a busy machine that happens to one load in some hundred."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is sent again and again, with its port and key."""

    port: int
    method: str
    target: str
    key: str
    body: str = ""
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Seen:
    """The counts of wrk: whole responses, seconds, and latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def load(request: Request, *, seconds: int, connections: int, core: int) -> Seen:
    """Send the request over `connections` connections for `seconds`, from `core`.

    Raises LoadError, and NoResponseError if the load may be tried again.
    """
    with ExitStack() as held:
        command = [
            find("wrk") or "wrk",
            "--threads=1",
            f"--connections={connections}",
            f"--duration={seconds}",
            "--timeout=10",
            f"--script={SCRIPT}",
            f"{request.scheme}://127.0.0.1:{request.port}{request.target}",
            "--",
            request.method,
            request.key,
        ]
        if request.body:
            file = held.enter_context(NamedTemporaryFile("w", encoding="utf-8"))
            file.write(request.body)
            file.flush()
            command.append(file.name)
        output = held.enter_context(TemporaryFile())
        process = start(command, core, output)
        held.callback(end, process)
        status = process.wait(seconds + 30)
        output.seek(0)
        text = output.read().decode()
    if status != 0:
        raise LoadError(text)
    counted = json.loads(text.splitlines()[-1])
    if not counted["failed"] and not counted["requests"]:
        raise NoResponseError(f"{request.method} {request.target}: no response within {seconds} s\n{text}")
    if counted["failed"]:
        raise LoadError(
            f"{request.method} {request.target}: {counted['failed']} responses were not a success\n{text}"
        )
    return Seen(
        requests=counted["requests"],
        seconds=counted["duration_us"] / 1e6,
        p50_ms=counted["p50_us"] / 1e3,
        p99_ms=counted["p99_us"] / 1e3,
    )
