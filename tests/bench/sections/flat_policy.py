"""Cost by the number of routes in the file, and of keys in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.__main__ import ROOT
from tests.bench.gateways import Gateway, Wanted, start_gateway
from tests.bench.messages import GET
from tests.bench.paced import Plan, message, paced_cpu_us
from tests.bench.processes import find
from tests.bench.samples import measured
from tests.bench.sections import series
from tests.bench.sections.context import Context
from tests.bench.sections.series import Point, Series
from tests.bench.servers import Server, Stage
from tests.bench.store import INSTALL, key, start_store
from tests.bench.upstream import start_upstream

ROUTES = (10, 100, 1_000, 10_000)
KEYS = (10, 1_000, 100_000, 1_000_000)
RATE = 2_000
"""Look-ups a second, of new keys and of one that is known."""
LOOKUPS = 2_000
"""Look-ups of a round."""
_NEEDED = ("GET /transactions/{id}: transactions:read", "POST /api-keys: api-keys:write")


def routes(context: Context, gateway: Gateway) -> Iterator[Series]:
    """Yield the cost of a GET by the number of routes. Raises StartError, LoadError."""
    say = context.teller(f"flat, {gateway.name}, routes")
    say("starting the gateways")
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        points: list[Point] = []
        for count in ROUTES:
            wanted = Wanted(name=f"{count} routes", config=_file_of(stage.folder, count))
            points.append(_saturated(context, start_gateway(stage, gateway, upstream.port, wanted)))
        rounds = series.measured(points, context.options.rounds, say)
    yield Series("GET by routes", "routes", "us/request", ROUTES, rounds)


def _saturated(context: Context, server: Server) -> Point:
    return lambda: measured(server, GET, context.amount()).cpu_us


def _file_of(folder: Path, count: int) -> Path:
    """Write the shipped file with so many routes in place of its own; return its path."""
    head, _, _ = (ROOT / "gateway.yaml").read_text().partition("\nroutes:\n")
    more = (
        f"GET /transactions/{{id}}/extra-{number}/{{part}}:  transactions:read" for number in range(count)
    )
    wanted = [*_NEEDED, *more][:count]
    file = folder / f"{count}-routes.yaml"
    file.write_text(f"{head}\nroutes:\n" + "".join(f"  {line}\n" for line in wanted))
    return file


def keys(context: Context, gateway: Gateway) -> Iterator[Series]:
    """Yield the cost of a GET by the number of keys, known and new. Raises StartError, LoadError."""
    say = context.teller(f"flat, {gateway.name}, keys")
    if find("redis-server") is None:
        say(f"redis-server is not installed: {INSTALL}")
        return
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        servers = [_with_keys(stage, gateway, upstream.port, count, say) for count in KEYS]
        warm = series.measured([_saturated(context, each) for each in servers], context.options.rounds, say)
        yield Series("GET with a known key, by keys in Redis", "keys", "us/request", KEYS, warm)
        # With fewer keys, too few are new.
        large = [(count, each) for count, each in zip(KEYS, servers, strict=True) if count >= 100_000]
        pace = [_Pace(context, server, new=False) for _, server in large]
        new = [_Pace(context, server, new=True) for _, server in large]
        found = series.measured([each.point for each in (*pace, *new)], context.options.rounds, say)
        counts = tuple(float(count) for count, _ in large)
        title = f"at {RATE:,} requests a second"
        yield Series(f"GET with a known key, {title}", "keys", "us/request", counts, found[: len(pace)])
        yield Series(f"GET with a new key, {title}", "keys", "us/request", counts, found[len(pace) :])


def _with_keys(
    stage: Stage, gateway: Gateway, upstream: int, count: int, say: Callable[[str], None]
) -> Server:
    say(f"storing {count:,} keys")
    store = start_store(stage, f"redis {count}")
    store.fill(count)
    wanted = Wanted(name=f"{count} keys", store=store.url, key=key(0))
    return start_gateway(stage, gateway, upstream, wanted)


class _Pace:
    """Sends GETs at a fixed rate: with a key that the gateway knows, or each with a new one."""

    def __init__(self, context: Context, server: Server, *, new: bool) -> None:
        self._context = context
        self._server = server
        self._new = new
        self._next = 1

    def point(self) -> float:
        """Return the CPU time of a request in microseconds. Raises LoadError."""
        first = message(self._server.request(GET))
        plan = Plan(self._server.port, self._requests(first), RATE, LOOKUPS, 16, first)
        return paced_cpu_us(self._server, plan, self._context.cores.load)

    def _requests(self, first: bytes) -> Sequence[bytes]:
        if not self._new:
            return [first]
        numbers = range(self._next, self._next + LOOKUPS)
        self._next += LOOKUPS
        return [first.replace(self._server.key.encode(), key(number).encode()) for number in numbers]
