"""Memory under a mixed load for minutes: does it grow?

Rules kept here:
- The load is of every kind: reads, stamped writes, large ones, bulk requests, refusals. Every ten seconds
  it comes over new connections.
- Growth counts after a warm-up of a fifth of the time, and only if it is more than twice its error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count

from tests.bench.bounds import Verdict
from tests.bench.gateways import start_gateway
from tests.bench.messages import GET, GET_LARGE, POST, POST_LARGE, Call, bulk_of
from tests.bench.paced import Plan, message, paced
from tests.bench.processes import memory_kb
from tests.bench.report import Result
from tests.bench.sections.context import Context
from tests.bench.servers import Server, Stage
from tests.bench.slopes import Fit, fit
from tests.bench.tables import Column, markdown
from tests.bench.upstream import start_upstream

RATE = 400
"""Requests a second for each gateway."""
EVERY_SECONDS = 10
CONNECTIONS = 64
WARM_UP = 0.2
MOST_KB = 50.0
"""Growth for each minute that counts as flat: 72 MB a day."""
_BULK = Call("bulk", "POST", "/transactions/bulk", bulk_of(20))
_MIX = (GET, GET, GET, GET, POST, POST, POST, GET_LARGE, POST_LARGE, _BULK)
_REFUSED = Call("refused", "GET", "/ledgers")
_COLUMNS = (
    Column("gateway", is_text=True),
    Column("first RSS KB"),
    Column("after warm-up"),
    Column("last"),
    Column("KB/minute after warm-up"),
    Column("error"),
    Column("requests"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The memory of a gateway at one moment."""

    seconds: float
    rss_kb: int
    pss_kb: int


def soak(context: Context) -> Result:
    """Load each gateway in turn, every ten seconds anew. Raises StartError, LoadError."""
    say = context.teller("soak")
    readings: dict[str, list[Reading]] = {}
    requests: dict[str, int] = {}
    with Stage.opened(context.cores) as stage:
        upstream = start_upstream(stage)
        servers = [start_gateway(stage, one, upstream.port) for one in context.options.gateways]
        began = time.monotonic()
        for number in count(1):
            for server in servers:
                requests[server.name] = requests.get(server.name, 0) + _play(context, server, len(servers))
            passed = time.monotonic() - began
            for server in servers:
                readings.setdefault(server.name, []).append(_read(server, passed))
            if number % 6 == 0:
                say(f"{passed / 60:.1f} of {context.options.minutes:g} minutes")
            if passed >= context.options.minutes * 60:
                break
    return _result(context, readings, requests)


def _play(context: Context, server: Server, servers: int) -> int:
    """Send the mixed load for a part of ten seconds; return the number of requests."""
    requests = [message(server.request(call)) for call in (*_MIX, _REFUSED)]
    amount = int(RATE * EVERY_SECONDS / servers)
    plan = Plan(server.port, requests, RATE, amount, CONNECTIONS, refused={"403": amount // len(requests)})
    return paced(plan, context.cores.load).requests


def _read(server: Server, seconds: float) -> Reading:
    memory = memory_kb(server.processes[0].pid)
    return Reading(seconds, memory["Rss"], memory["Pss"])


def growth(readings: list[Reading]) -> tuple[Reading, Fit]:
    """Return the first reading after the warm-up, and the growth of RSS after it in KB for each minute."""
    warm = [each for each in readings if each.seconds >= WARM_UP * readings[-1].seconds]
    return warm[0], fit([each.seconds / 60 for each in warm], [each.rss_kb for each in warm])


def _result(context: Context, readings: dict[str, list[Reading]], requests: dict[str, int]) -> Result:
    rows: list[list[str]] = []
    verdicts: list[Verdict] = []
    for name, found in readings.items():
        warm, slope = growth(found)
        shown = [f"{each.rss_kb:,}" for each in (found[0], warm, found[-1])]
        rows.append([name, *shown, f"{slope.slope:+.1f}", f"{slope.error:.1f}", f"{requests[name]:,}"])
        sure = max(0.0, slope.slope - 2 * slope.error)
        verdicts.append(Verdict(f"{name}: KB of RSS for each minute, less twice the error", sure, MOST_KB))
    lines = [
        f"{context.options.minutes:g} minutes, RSS after every {EVERY_SECONDS} s of a mixed load.",
        "",
        *markdown(_COLUMNS, rows),
    ]
    data = {
        "readings": {
            name: [[each.seconds, each.rss_kb, each.pss_kb] for each in found]
            for name, found in readings.items()
        }
    }
    return Result("Soak", lines, verdicts, data)
