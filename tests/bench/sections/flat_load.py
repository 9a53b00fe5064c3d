"""Cost by the number of connections, by the size of bodies, and by the items of a bulk request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.gateways import Gateway, start_gateway
from tests.bench.messages import GET, Call, bulk_of, transaction_of
from tests.bench.paced import Plan, message, paced_cpu_us
from tests.bench.sections import series
from tests.bench.sections.context import Context
from tests.bench.sections.series import Point, Series
from tests.bench.servers import Server, Stage
from tests.bench.upstream import start_upstream

CONNECTIONS = (1, 10, 100, 1_000, 5_000)
RATE = 4_000
BODIES_KB = (1, 10, 100, 1_000, 5_000)
ITEMS = (1, 10, 100, 1_000, 10_000)
_AT_ONCE = 1e9
"""A rate at which every request is due at once: a connection sends its next one after each response."""
_UNITS = 40_000
_MOST = 2_000
"""KB or items of a measurement, and its requests at most."""
_FEW = 4
"""Connections of large bodies: 16 of 5 MB are more than the gateway holds at once."""


def connections(context: Context, gateway: Gateway) -> Iterator[Series]:
    """Yield the cost of a GET by the number of open connections, which take turns."""
    say = context.teller(f"flat, {gateway.name}, connections")
    with Stage.opened(context.cores) as stage:
        server = start_gateway(stage, gateway, start_upstream(stage).port)
        points = [_over(context, server, count) for count in CONNECTIONS]
        rounds = series.measured(points, context.options.rounds, say)
    title = f"GET at {RATE:,} requests a second, by connections that take turns"
    yield Series(title, "connections", "us/request", CONNECTIONS, rounds)


def _over(context: Context, server: Server, count: int) -> Point:
    total = RATE * context.options.seconds
    plan = Plan(server.port, [message(server.request(GET))], RATE, total, count)
    return lambda: paced_cpu_us(server, plan, context.cores.load)


def bodies(context: Context, gateway: Gateway) -> Iterator[Series]:
    """Yield the cost of a stamped POST by the size of its body."""
    calls = [
        Call(f"POST {size} KB", "POST", "/transactions", transaction_of(size * 1_000)) for size in BODIES_KB
    ]
    title = "POST with stamp by KB of its body, most of them members of meta_data"
    yield _by_call(context, gateway, calls, Series(title, "KB", "us/request", BODIES_KB, (), "KB"))


def bulk(context: Context, gateway: Gateway) -> Iterator[Series]:
    """Yield the cost of a bulk request by its items."""
    calls = [Call(f"bulk {count}", "POST", "/transactions/bulk", bulk_of(count)) for count in ITEMS]
    title = "POST of a bulk with a stamp in each item"
    yield _by_call(context, gateway, calls, Series(title, "items", "us/request", ITEMS, (), "item"))


def _by_call(context: Context, gateway: Gateway, calls: list[Call], empty: Series) -> Series:
    say = context.teller(f"flat, {gateway.name}, {empty.x_name}")
    with Stage.opened(context.cores) as stage:
        server = start_gateway(stage, gateway, start_upstream(stage).port)
        points = [_whole(context, server, call, x) for call, x in zip(calls, empty.xs, strict=True)]
        return replace(empty, rounds=series.measured(points, context.options.rounds, say))


def _whole(context: Context, server: Server, call: Call, units: float) -> Point:
    """Return a point of so many requests that they take a second or so, all of which get their response.

    Few requests of a second each fit into a load that ends by the clock, and one that is cut would count as
    CPU time and not as a request.
    """
    count = max(2 * _FEW, min(_MOST, int(_UNITS / units)))
    plan = Plan(server.port, [message(server.request(call))], _AT_ONCE, count, _FEW)
    return lambda: paced_cpu_us(server, plan, context.cores.load)
