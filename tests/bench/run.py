"""Measure each server in turn, several times, and print the results; runs in the tests' environment.

Rules kept here:
- The loads alternate (A B C A B C ...), so that other load on the machine affects all of them alike.
- CPU time per request is the figure to trust; rates and latencies depend on other load on the machine.
- CPU time is read after postponed work, such as writing the log, is done.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.load import LoadError, Request, load
from tests.bench.processes import cpu_seconds
from tests.bench.report import Sample, Samples, table, verdicts
from tests.bench.servers import Cores, Server, StartError, servers

# The gateway writes its log every 0.2 s.
_SETTLED_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds of each load, how often it is repeated, and its number of connections."""

    seconds: int
    rounds: int
    connections: int


def settings() -> Settings:
    """Return the settings of the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=_positive, default=1, help="whole seconds of each load (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=7, help="how often each load is repeated (default: 7)"
    )
    parser.add_argument("--connections", type=_positive, default=16, help="connections of wrk (default: 16)")
    given = parser.parse_args()
    return Settings(given.seconds, given.rounds, given.connections)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def measure(server: Server, request: Request, wanted: Settings, core: int) -> Sample:
    """Measure one load on one server. Raises LoadError."""
    before = cpu_seconds(server.process.pid)
    seen = load(request, seconds=wanted.seconds, connections=wanted.connections, core=core)
    time.sleep(_SETTLED_SECONDS)
    spent = cpu_seconds(server.process.pid) - before
    return Sample(spent / seen.requests * 1e6, seen.requests / seen.seconds, seen.p50_ms, seen.p99_ms)


def compare(wanted: Settings, cores: Cores, directory: Path) -> Samples:
    """Return a sample of each round for every server and method. Raises StartError, LoadError."""
    with servers(directory, cores) as running:
        loads = running.loads()
        samples: Samples = {(server.name, request.method): [] for server, request in loads}
        for _ in range(wanted.rounds):
            for server, request in loads:
                samples[server.name, request.method].append(measure(server, request, wanted, cores.load))
        return samples


def main() -> int:
    wanted = settings()
    # SIGTERM must end the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    cores = Cores.available()
    if cores is None:
        sys.stderr.write("tests.bench: needs two cores\n")
        return 2
    with TemporaryDirectory(prefix="blnk-gateway-bench-") as directory:
        # If root starts nginx, it works as another user.
        Path(directory).chmod(0o755)
        try:
            samples = compare(wanted, cores, Path(directory))
        except (StartError, LoadError) as problem:
            sys.stderr.write(f"tests.bench: {problem}\n")
            return 2
    return report(wanted, samples)


def report(wanted: Settings, samples: Samples) -> int:
    """Print the results; return 1 if a bound was missed, else 0."""
    judged = list(verdicts(samples))
    lines = [
        f"{wanted.rounds} rounds of {wanted.seconds} s, {wanted.connections} connections, medians; "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}",
        "",
        *table(samples),
        "",
        *(line for _, line in judged),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if all(kept for kept, _ in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
