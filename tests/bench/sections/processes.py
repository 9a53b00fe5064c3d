"""Two processes of the gateway on one port, against one: CPU time, and the spread of connections.

Rules kept here:
- Both sets of processes use one Redis and one key. One process has the core of the proxies; of two, each has
  one of the two cores, as where the gateway runs on every core.
- The load and the upstream share one of these cores, so rates say nothing; CPU time per request does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.addresses import free_ports
from tests.bench.bounds import Verdict, judged_ratios
from tests.bench.gateways import Gateway, Wanted, run_gateway, start_gateway
from tests.bench.messages import GET, POST, Call
from tests.bench.paced import Plan, connected, message
from tests.bench.processes import find
from tests.bench.report import About, Result, compared
from tests.bench.samples import Samples, as_json, compare
from tests.bench.sections.context import Context
from tests.bench.servers import Server, Stage, StartError
from tests.bench.store import INSTALL, key, start_store
from tests.bench.upstream import start_upstream

OPTION = "--reuse-port"
CONNECTIONS = 2_000
"""Connections whose spread is measured: with fewer, chance alone spreads them by some per cent."""
MOST_RATIO = 1.1
MOST_UNEVEN = 0.2
_ESTABLISHED = "01"


def processes(context: Context) -> Result:
    """Measure each gateway that has the option. Raises StartError, LoadError."""
    if find("redis-server") is None:
        return _not_measured(f"redis-server is not installed: {INSTALL}")
    able = [gateway for gateway in context.options.gateways if _has_option(gateway)]
    if not able:
        return _not_measured(f"the installed gateway has no option `{OPTION}` of `serve` yet")
    lines: list[str] = []
    verdicts: list[Verdict] = []
    samples: Samples = {}
    for gateway in able:
        found, spread = _measured(context, gateway)
        samples |= found
        one, two = _names(gateway)
        about = {
            one: About("one process", keeps_numbers=True),
            two: About("two processes", keeps_numbers=True),
        }
        shares = " and ".join(f"{count:,}" for count in spread)
        lines += [*compared(found, about, one), "", f"{sum(spread):,} connections: {shares}.", ""]
        verdicts += [
            judged_ratios(f"{call.name}: {two} / {one}", found, (call.name, two, one), MOST_RATIO)
            for call in (GET, POST)
        ]
        uneven = max(abs(count / (sum(spread) / len(spread)) - 1) for count in spread)
        verdicts.append(Verdict(f"{two}: distance from an even share of connections", uneven, MOST_UNEVEN))
    return Result("Two processes on one port", lines, verdicts, {"samples": as_json(samples)})


def _not_measured(why: str) -> Result:
    verdicts = [
        Verdict("two processes / one, CPU time of a request", None, MOST_RATIO, why),
        Verdict("distance from an even share of connections", None, MOST_UNEVEN, why),
    ]
    return Result("Two processes on one port", [f"Not measured: {why}."], verdicts)


def _has_option(gateway: Gateway) -> bool:
    """Return whether `serve` has the option. Raises StartError if the command does not run."""
    try:
        told = subprocess.run(
            [*gateway.command, "serve", "--help"], check=False, capture_output=True, text=True
        )
    except OSError as error:
        raise StartError(f"{gateway.name}: {error}") from None
    return OPTION in told.stdout


def _names(gateway: Gateway) -> tuple[str, str]:
    return f"{gateway.name}, 1 process", f"{gateway.name}, 2 processes"


def _measured(context: Context, gateway: Gateway) -> tuple[Samples, list[int]]:
    one_name, two_name = _names(gateway)
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        store = start_store(stage, "redis")
        store.fill(1)
        one = start_gateway(stage, gateway, upstream.port, Wanted(name=one_name, store=store.url, key=key(0)))
        wanted = Wanted(name=two_name, store=store.url, key=key(0), options=(OPTION,))
        (port,) = free_ports(1)
        both = tuple(
            run_gateway(stage, gateway, (port, upstream.port), wanted, core).popen
            for core in (context.cores.proxy, context.cores.load)
        )
        two = Server(two_name, port, key(0), both)
        loads: list[tuple[Server, Call]] = [(server, call) for call in (GET, POST) for server in (one, two)]
        samples = compare(loads, context.amount(), context.teller(f"processes, {gateway.name}"))
        return samples, _spread(two, context.cores.load)


def _spread(server: Server, core: int) -> list[int]:
    """Open connections; return how many each process has. Raises LoadError."""
    request = message(server.request(GET))
    with connected(Plan(server.port, [request], 1, 1, CONNECTIONS), core):
        held = _connections_of(server.port)
        return [len(held & _sockets_of(process.pid)) for process in server.processes]


def _connections_of(port: int) -> set[str]:
    """Return the inodes of the established connections that came to a port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED}


def _sockets_of(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    links = (link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir())
    return {name.removeprefix("socket:[").removesuffix("]") for name in links if name.startswith("socket:[")}
