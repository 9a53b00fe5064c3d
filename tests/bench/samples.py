"""Measure servers in turn, and keep a sample of each round.

Rules kept here:
- The loads alternate (A B C A B C ...), so that other load on the machine affects all of them alike.
- CPU time per request is the figure to trust; rates and latencies depend on other load on the machine.
- CPU time is read after postponed work, such as writing the log, is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.bench.load import NoResponseError, load
from tests.bench.messages import Call
from tests.bench.processes import busy_seconds
from tests.bench.servers import Cores, Server

# The gateway writes its log every 0.2 s.
SETTLED_SECONDS = 0.3
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one server under one load.

    `cpu_us` is its own CPU time for a request; `others` is the part of the proxies' core that other processes
    used meanwhile.
    """

    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float
    others: float = 0.0


Samples = dict[tuple[str, str], list[Sample]]
"""(server, call) -> a sample of each round."""


@dataclass(frozen=True, slots=True)
class Amount:
    """The seconds of each load, how often it is repeated, its connections, and the cores that are used."""

    seconds: int
    rounds: int
    connections: int
    cores: Cores


def measured(server: Server, call: Call, amount: Amount) -> Sample:
    """Measure one load on one server; repeat it if no response came. Raises LoadError."""
    for _ in range(_TRIES - 1):
        with suppress(NoResponseError):
            return _once(server, call, amount)
    return _once(server, call, amount)


def _once(server: Server, call: Call, amount: Amount) -> Sample:
    cores = amount.cores
    began, before, busy = time.monotonic(), server.cpu_seconds(), busy_seconds(cores.proxy)
    seen = load(server.request(call), seconds=amount.seconds, connections=amount.connections, core=cores.load)
    time.sleep(SETTLED_SECONDS)
    spent, passed = server.cpu_seconds() - before, time.monotonic() - began
    others = max(0.0, busy_seconds(cores.proxy) - busy - spent) / passed
    return Sample(
        spent / seen.requests * 1e6, seen.requests / seen.seconds, seen.p50_ms, seen.p99_ms, round(others, 3)
    )


def compare(loads: Sequence[tuple[Server, Call]], amount: Amount, say: Callable[[str], None]) -> Samples:
    """Return a sample of each round for every server and call. Raises LoadError."""
    samples: Samples = {(server.name, call.name): [] for server, call in loads}
    each = len(loads) * (amount.seconds + SETTLED_SECONDS)
    for number in range(1, amount.rounds + 1):
        say(f"round {number} of {amount.rounds}, {each:.0f} s")
        for server, call in loads:
            samples[server.name, call.name].append(measured(server, call, amount))
    return samples


def cpu_of(samples: Samples, server: str, call: str) -> list[float]:
    """Return the CPU time of a request in each round, in microseconds."""
    return [sample.cpu_us for sample in samples[server, call]]


def ratios(samples: Samples, call: str, ours: str, theirs: str) -> list[float]:
    """Return the CPU time of one server divided by that of another in each round."""
    pairs = zip(cpu_of(samples, ours, call), cpu_of(samples, theirs, call), strict=True)
    return [one / other for one, other in pairs]


def ratio(samples: Samples, call: str, ours: str, theirs: str) -> float:
    """Return the median of the rounds' ratios: what slows a whole round cancels out."""
    return median(ratios(samples, call, ours, theirs))


def others_of(samples: Samples) -> float:
    """Return the part of the proxies' core that other processes used: the median of the loads."""
    return median(sample.others for rounds in samples.values() for sample in rounds)


def as_json(samples: Samples) -> list[dict[str, Any]]:
    """Return every sample as JSON holds it."""
    return [
        {"server": server, "request": call, "round": number, **asdict(sample)}
        for (server, call), rounds in samples.items()
        for number, sample in enumerate(rounds, 1)
    ]
