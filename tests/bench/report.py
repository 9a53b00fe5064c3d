"""Show measurements as Markdown tables.

Rules kept here:
- CPU time is shown as the median of the rounds, with the least and the most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.bounds import Verdict
from tests.bench.samples import Samples, others_of, ratio
from tests.bench.tables import Column, markdown

WITHOUT_CPU = "direct"


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a section: lines to print, verdicts, every sample as JSON holds it, and a picture."""

    title: str
    lines: Sequence[str]
    verdicts: Sequence[Verdict] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    picture: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """A server's part of the gateway's job, and whether it changes numbers that a double cannot hold."""

    does: str
    keeps_numbers: bool

    @property
    def shown(self) -> str:
        return self.does if self.keeps_numbers else f"{self.does}; changes large numbers"


def _columns(base: str) -> list[Column]:
    return [
        Column("request", is_text=True),
        Column("server", is_text=True),
        Column("CPU us/request"),
        Column("least-most"),
        Column(f"x {base}"),
        Column("requests/s"),
        Column("p50 ms"),
        Column("p99 ms"),
        Column("does", is_text=True),
    ]


def compared(samples: Samples, about: Mapping[str, About], base: str) -> Iterator[str]:
    """Yield a table of the samples, with the ratio of each server to `base` in the same round."""

    def row(server: str, call: str) -> list[str]:
        rounds = samples[server, call]
        cpu = [sample.cpu_us for sample in rounds]
        shown = server != WITHOUT_CPU
        return [
            call,
            server,
            f"{median(cpu):.1f}" if shown else "-",
            f"{min(cpu):.1f}-{max(cpu):.1f}" if shown else "-",
            f"{ratio(samples, call, server, base):.2f}" if shown and (base, call) in samples else "-",
            f"{median(sample.rate for sample in rounds):,.0f}",
            f"{median(sample.p50_ms for sample in rounds):.2f}",
            f"{median(sample.p99_ms for sample in rounds):.2f}",
            about[server].shown,
        ]

    yield from markdown(_columns(base), [row(server, call) for server, call in samples])


def disturbance(samples: Samples) -> str:
    """Return a sentence about other processes on the core of the proxies, which make all figures larger."""
    most = max(sample.others for rounds in samples.values() for sample in rounds)
    return (
        f"Other processes used {others_of(samples):.0%} of the proxies' core (median of the loads; "
        f"at most {most:.0%})."
    )
