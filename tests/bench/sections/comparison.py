"""Compare the gateways with other proxies: the sections `peers` and `sizes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from tests.bench.bounds import PEER_BOUNDS, SIZE_BOUNDS, Bound, judged
from tests.bench.gateways import COMPILED, COMPILED_COMMAND, DOES, start_gateway
from tests.bench.messages import GET, GET_LARGE, POST, POST_LARGE, Call
from tests.bench.peers import NGINX, Duty, Peer, missing, start_peer
from tests.bench.plot import bars, drawn
from tests.bench.report import About, Result, compared, disturbance
from tests.bench.samples import Samples, as_json, compare
from tests.bench.sections.context import Context
from tests.bench.servers import Server, Stage
from tests.bench.upstream import start_upstream
from tests.bench.verify import verify

_DIRECT_DOES = "no proxy: the upstream itself"


@dataclass(frozen=True, slots=True)
class Measured:
    """The servers of a comparison by name, with their samples."""

    about: dict[str, About]
    samples: Samples


def peers(context: Context) -> Result:
    """Compare a GET and a stamped POST with every peer that is installed. Raises StartError, LoadError."""
    found = _measured(context, "peers", context.options.peers, (GET, POST))
    ours = [gateway.name for gateway in context.options.gateways]
    picture = drawn(bars(found.samples, found.about, ours))
    return replace(_result(context, "Peers", found, PEER_BOUNDS), picture=picture)


def sizes(context: Context) -> Result:
    """Compare responses and bodies of 20 KB with nginx. Raises StartError, LoadError."""
    found = _measured(context, "sizes", (NGINX,), (GET_LARGE, POST_LARGE))
    return _result(context, "Responses and bodies of 20 KB", found, SIZE_BOUNDS)


def _measured(context: Context, section: str, wanted: Sequence[Peer], calls: Sequence[Call]) -> Measured:
    say = context.teller(section)
    for line in missing(wanted):
        say(line)
    if not COMPILED_COMMAND.exists():
        say(f"{COMPILED} is not installed: there is no {COMPILED_COMMAND}")
    with Stage.opened(context.cores) as stage:
        say("starting the servers")
        upstream = start_upstream(stage)
        about = {upstream.server.name: About(_DIRECT_DOES, keeps_numbers=True)}
        servers: list[Server] = []
        for peer in (peer for peer in wanted if peer.installed()):
            server = start_peer(stage, peer, upstream.port)
            about[server.name] = About(peer.does, verify(server, peer.duties))
            servers.append(server)
        for gateway in context.options.gateways:
            server = start_gateway(stage, gateway, upstream.port)
            about[server.name] = About(DOES, verify(server, frozenset(Duty)))
            servers.append(server)
        loads = [(server, call) for call in calls for server in (upstream.server, *servers)]
        return Measured(about, compare(loads, context.amount(), say))


def _result(context: Context, title: str, found: Measured, bounds: Sequence[Bound]) -> Result:
    amount = context.amount()
    lines = [
        f"{amount.rounds} rounds of {amount.seconds} s in turn, {amount.connections} connections; medians of "
        f"the rounds, and of the rounds' ratios to nginx. {disturbance(found.samples)}",
        "",
        *compared(found.samples, found.about, NGINX.name),
    ]
    data = {
        "servers": {name: asdict(about) for name, about in found.about.items()},
        "samples": as_json(found.samples),
    }
    return Result(title, lines, list(judged(found.samples, bounds)), data)
