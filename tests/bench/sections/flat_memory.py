"""Memory by the number of idle connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.bounds import Verdict
from tests.bench.gateways import Gateway, start_gateway
from tests.bench.messages import GET
from tests.bench.paced import Plan, connected, message
from tests.bench.processes import memory_kb
from tests.bench.sections.context import Context
from tests.bench.sections.series import Series
from tests.bench.servers import Stage
from tests.bench.slopes import fit
from tests.bench.tables import Column, markdown
from tests.bench.upstream import start_upstream

CONNECTIONS = (0, 1_000, 5_000)
MOST_KB = 12.0
_COLUMNS = (Column("idle connections"), Column("PSS KB"), Column("RSS KB"), Column("PSS KB/connection"))


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a gateway by its connections."""

    lines: Sequence[str]
    verdicts: Sequence[Verdict]
    series: Series


def connections(context: Context, gateway: Gateway) -> Memory:
    """Measure a new gateway for each number of connections, each of which has had a response before.

    Raises StartError, LoadError.
    """
    say = context.teller(f"flat, {gateway.name}, memory")
    rounds = min(3, context.options.rounds)
    found: list[list[dict[str, int]]] = [[] for _ in CONNECTIONS]
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        for count, figures in zip(CONNECTIONS, found, strict=True):
            figures.append(_with_connections(context, gateway, count))
    pss = [tuple(float(figure["Pss"]) for figure in figures) for figures in found]
    rss = [median(figure["Rss"] for figure in figures) for figures in found]
    medians = [median(figures) for figures in pss]
    rows = [
        [
            f"{count:,}",
            f"{used:,.0f}",
            f"{resident:,.0f}",
            f"{(used - medians[0]) / count:.1f}" if count else "-",
        ]
        for count, used, resident in zip(CONNECTIONS, medians, rss, strict=True)
    ]
    slope = fit(CONNECTIONS, medians)
    verdict = Verdict(f"{gateway.name}: KB of PSS for each idle connection", slope.slope, MOST_KB)
    series = Series(
        f"{gateway.name}: PSS by idle connections", "connections", "KB", CONNECTIONS, tuple(pss), "connection"
    )
    return Memory(list(markdown(_COLUMNS, rows)), [verdict], series)


def _with_connections(context: Context, gateway: Gateway, count: int) -> dict[str, int]:
    with Stage.opened(context.cores) as stage:
        server = start_gateway(stage, gateway, start_upstream(stage).port)
        request = message(server.request(GET))
        # One more, so that a gateway without idle connections has served requests too.
        with connected(Plan(server.port, [request], 1, 1, count + 1), context.cores.load):
            return memory_kb(server.processes[0].pid)
