"""The latency that the gateway adds to a direct request, at half of the rate at which it is saturated.

Rules kept here:
- Requests are due at fixed times, and a latency counts from then (`open_loop`), so that no wait is hidden.
- What is added is the difference to direct requests of the same round. The difference of a second direct load
  to the first is the noise of the machine: a difference within it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from tests.bench.gateways import start_gateway
from tests.bench.load import load
from tests.bench.messages import GET, POST, Call
from tests.bench.paced import Paced, Plan, message, paced
from tests.bench.peers import NGINX, start_peer
from tests.bench.report import Result
from tests.bench.sections.context import Context
from tests.bench.servers import Server, Stage
from tests.bench.tables import Column, markdown
from tests.bench.upstream import start_upstream

AGAIN = "direct, again (noise)"
_SATURATED = 2
"""Seconds for which a gateway is saturated to find its rate."""
_COLUMNS = (
    Column("request", is_text=True),
    Column("server", is_text=True),
    Column("p50 us"),
    Column("p99 us"),
    Column("p50 added"),
    Column("least-most"),
    Column("p99 added"),
    Column("least-most"),
)


@dataclass(frozen=True, slots=True)
class Load:
    """A load on one server under the name that the table shows."""

    name: str
    server: Server
    call: Call


Rounds = dict[tuple[str, str], list[Paced]]
"""(call, name) -> the latencies of each round."""


def latency(context: Context) -> Result:
    """Measure direct, twice, then nginx and each gateway, in turn. Raises StartError, LoadError."""
    say = context.teller("latency")
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        gateways = [start_gateway(stage, one, upstream.port) for one in context.options.gateways]
        proxies = [start_peer(stage, NGINX, upstream.port), *gateways]
        rate = min(_saturation(context, server) for server in gateways) / 2
        say(f"{rate:,.0f} requests a second, half of what the slowest gateway can serve")
        rounds: Rounds = {}
        for number in range(1, context.options.rounds + 1):
            say(f"round {number} of {context.options.rounds}")
            for each in _loads(upstream.server, proxies):
                found = _play(context, each, rate)
                rounds.setdefault((each.call.name, each.name), []).append(found)
    lines = [
        f"Open loop, {rate:,.0f} requests a second over {context.options.connections} connections, rounds of "
        f"{context.options.seconds} s in turn. Added is the difference to direct in the same round.",
        "",
        *markdown(_COLUMNS, list(_rows(rounds, upstream.server.name))),
    ]
    data = {
        "rate": rate,
        "samples": [
            {"request": call, "server": name, "round": number, **asdict(sample)}
            for (call, name), samples in rounds.items()
            for number, sample in enumerate(samples, 1)
        ],
    }
    return Result("Latency", lines, (), data)


def _saturation(context: Context, server: Server) -> float:
    """Return the POSTs a second that a gateway serves when it is saturated."""
    seen = load(
        server.request(POST),
        seconds=_SATURATED,
        connections=context.options.connections,
        core=context.cores.load,
    )
    return seen.requests / seen.seconds


def _loads(direct: Server, proxies: Sequence[Server]) -> Iterator[Load]:
    for call in (GET, POST):
        yield Load(direct.name, direct, call)
        yield Load(AGAIN, direct, call)
        for server in proxies:
            yield Load(server.name, server, call)


def _play(context: Context, wanted: Load, rate: float) -> Paced:
    server, options = wanted.server, context.options
    count = int(rate * options.seconds)
    requests = [message(server.request(wanted.call))]
    return paced(Plan(server.port, requests, rate, count, options.connections), context.cores.load)


def _rows(rounds: Rounds, direct: str) -> Iterator[list[str]]:
    for (call, name), samples in rounds.items():
        base = rounds[call, direct]
        row = [
            call,
            name,
            _us(median(one.p50_ms for one in samples)),
            _us(median(one.p99_ms for one in samples)),
        ]
        if name == direct:
            yield [*row, "-", "-", "-", "-"]
            continue
        pairs = list(zip(samples, base, strict=True))
        yield [
            *row,
            *_spread([one.p50_ms - other.p50_ms for one, other in pairs]),
            *_spread([one.p99_ms - other.p99_ms for one, other in pairs]),
        ]


def _spread(differences: Sequence[float]) -> list[str]:
    """Return the median of the differences, and the least and the most, in microseconds."""
    return [_us(median(differences)), f"{_us(min(differences))} to {_us(max(differences))}"]


def _us(milliseconds: float) -> str:
    return f"{milliseconds * 1e3:,.0f}"
