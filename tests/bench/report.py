"""Show the measurements as a table, and as ratios with their bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one server under one load; `cpu_us` is its own CPU time for a request."""

    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float


Samples = dict[tuple[str, str], list[Sample]]
"""(server, method) -> a sample of each round."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound for one method: the gateway may take at most `most` times the CPU time of the other server."""

    method: str
    other: str
    most: float


BOUNDS = (
    Bound("GET", "nginx", 3),
    Bound("POST", "nginx", 4),
    Bound("GET", "plain aiohttp", 1 / 3),
    Bound("POST", "plain aiohttp", 1 / 3),
)


def table(samples: Samples) -> Iterator[str]:
    """Yield lines of Markdown: medians of the rounds, and the span of the CPU time."""
    yield f"| request | {'server':<13} | CPU us/request | lowest-highest | requests/s | p50 ms | p99 ms |"
    yield f"|{'-' * 9}|{'-' * 15}|{'-' * 15}:|{'-' * 15}:|{'-' * 11}:|{'-' * 7}:|{'-' * 7}:|"
    for (server, method), rounds in samples.items():
        cpu = [sample.cpu_us for sample in rounds]
        span = f"{min(cpu):.1f}-{max(cpu):.1f}"
        rate, p50, p99 = (
            median(column)
            for column in zip(*((one.rate, one.p50_ms, one.p99_ms) for one in rounds), strict=True)
        )
        yield (
            f"| {method:<7} | {server:<13} | {median(cpu):14.1f} | {span:>14} "
            f"| {rate:10,.0f} | {p50:6.2f} | {p99:6.2f} |"
        )


def ratio(samples: Samples, bound: Bound) -> float:
    """Return the gateway's median CPU time divided by the other server's."""
    ours, theirs = (
        median(sample.cpu_us for sample in samples[server, bound.method])
        for server in ("gateway", bound.other)
    )
    return ours / theirs


def verdicts(samples: Samples) -> Iterator[tuple[bool, str]]:
    """Yield for each bound whether it holds, and a line that says so."""
    for bound in BOUNDS:
        found = ratio(samples, bound)
        kept = found <= bound.most
        comparison = f"{bound.method}: gateway / {bound.other}"
        yield kept, f"{comparison:<30} {found:5.2f}   at most {bound.most:.2f}   {'ok' if kept else 'MISSED'}"
