"""The command line of the benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.gateways import Gateway, known
from tests.bench.peers import PEERS, Peer

SECTIONS = {
    "peers": "CPU time of a GET and a stamped POST, against other proxies",
    "sizes": "the same with responses and bodies of 20 KB, against nginx",
    "processes": "two processes on one port, against one; needs redis-server",
    "features": "what each feature that is off by default costs when it is on; needs redis-server",
    "flat": "cost by the number of routes, keys, connections, items, and by the size of bodies; memory",
    "latency": "latency added to direct requests, at half of the rate at which the gateway is saturated",
    "soak": "memory under a mixed load for --minutes; runs only if it is named",
}
_SHORT = tuple(name for name in SECTIONS if name != "soak")
_EXAMPLES = """
examples:
  python3 -m tests.bench                               all sections but soak: twenty minutes or so
  python3 -m tests.bench peers --rounds 5              one section
  python3 -m tests.bench peers --peers nginx,envoy     some peers only
  python3 -m tests.bench peers sizes --json r.json --svg r.svg
  python3 -m tests.bench peers --gateway 'before=/path/to/another/bin/blnk-gateway'
                                                       two versions in one run
  python3 -m tests.bench soak --minutes 10
  python3 -m tests.bench --quick                       under a minute, for CI: has the gateway become slower?

exit codes: 0 no bound is missed; 1 one is missed; 2 the benchmark could not run.
A bound that cannot be measured is not missed; its row says why there is no figure.
A request that gets another response than the expected one ends the run: refusals are cheap.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The wishes of a command line; empty sections stand for all but the long one."""

    sections: tuple[str, ...]
    peers: tuple[Peer, ...]
    gateways: tuple[Gateway, ...]
    seconds: int
    rounds: int
    connections: int
    minutes: float
    json: Path | None
    svg: Path | None
    quick: bool


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line; print help, or the error, and exit if that is all there is."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        gateways = known(given.gateway)
        peers = _peers(given.peers)
    except ValueError as wrong:
        parser.error(str(wrong))
    problem = _problem(given)
    if problem:
        parser.error(problem)
    return Options(
        sections=tuple(given.sections) or _SHORT,
        peers=peers,
        gateways=tuple(gateways),
        seconds=given.seconds,
        rounds=given.rounds,
        connections=given.connections,
        minutes=given.minutes,
        json=given.json,
        svg=given.svg,
        quick=given.quick,
    )


def _problem(given: argparse.Namespace) -> str:
    """Return what is wrong with arguments that parse, or nothing."""
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        return f"unknown section {', '.join(unknown)}; known are {', '.join(SECTIONS)}"
    if given.quick and given.sections:
        return "--quick has a measurement of its own: name no section with it"
    if given.svg and (given.quick or "peers" not in (given.sections or _SHORT)):
        return "--svg shows the section peers: name it too"
    for option, file in (("--json", given.json), ("--svg", given.svg)):
        if file and not file.parent.is_dir():
            return f"{option}: there is no folder {file.parent}"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.bench",
        description="Measure the CPU time, latency and memory of the gateway, beside other proxies.",
        epilog="sections:\n"
        + "".join(f"  {name:<11}{what}\n" for name, what in SECTIONS.items())
        + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help="sections to run; without any, all but soak")
    add("--peers", metavar="A,B", help=f"the peers to run, of {', '.join(p.id for p in PEERS)} (all)")
    add(
        "--gateway",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a further gateway, by the command that stands for blnk-gateway; may be repeated",
    )
    add("--seconds", type=_positive, default=1, help="whole seconds of each load (1)")
    add("--rounds", type=_positive, default=7, help="how often each load is repeated (7)")
    add("--connections", type=_positive, default=16, help="connections of the load (16)")
    add("--minutes", type=_minutes, default=10.0, help="of the soak (10)")
    add("--json", type=Path, metavar="FILE", help="write every sample, the machine and the versions")
    add("--svg", type=Path, metavar="FILE", help="draw the section peers")
    add("--quick", action="store_true", help="compare with the plain aiohttp proxy alone, under a minute")
    return parser


def _peers(names: str | None) -> tuple[Peer, ...]:
    """Return the peers of a list; all without one. Raises ValueError."""
    if names is None:
        return PEERS
    by_id = {peer.id: peer for peer in PEERS}
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in by_id]
    if unknown:
        raise ValueError(f"unknown peer {', '.join(map(repr, unknown))}; known are {', '.join(by_id)}")
    return tuple(by_id[name] for name in wanted)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of 1 or more")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0")
    return minutes
