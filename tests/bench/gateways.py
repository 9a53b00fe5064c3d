"""The gateways that are measured: each by its command, with the shipped file.

Rules kept here:
- Settings are changed by environment variables, as an operator would; only the addresses and the store
  differ from the shipped ones, unless a section says so.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.__main__ import ROOT
from tests.addresses import free_ports
from tests.bench.messages import MASTER_KEY, Call, compact
from tests.bench.servers import Process, Server, Stage, StartError, ask

INTERPRETED = "gateway"
COMPILED = "gateway, compiled"
COMPILED_COMMAND = ROOT / ".venv" / "compiled" / "bin" / "blnk-gateway"
SCOPES = ("transactions:read", "transactions:write")
MEMORY = "memory://"
DOES = "key, scope, stamp, limits, log, metrics"
_MINT = Call(
    "mint",
    "POST",
    "/api-keys",
    compact(
        {"name": "benchmark", "owner": "benchmark", "scopes": SCOPES, "expires_at": "2099-01-01T00:00:00Z"}
    ),
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway by the name that tables show, and the command that stands for `blnk-gateway`."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The way a gateway is run: its file, its store, further settings and options of `serve`.

    `key` is a key that the store has already; empty: one is minted. Clients speak `scheme`.
    """

    name: str = ""
    config: Path = ROOT / "gateway.yaml"
    store: str = MEMORY
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    key: str = ""
    scheme: str = "http"


def known(named: Sequence[str]) -> list[Gateway]:
    """Return the interpreted gateway of this environment, the compiled one if it is there, and `named`.

    Each of `named` is NAME=COMMAND. Raises ValueError if one is not, or if a name is taken.
    """
    found = [Gateway(INTERPRETED, (str(Path(sys.executable).with_name("blnk-gateway")),))]
    if COMPILED_COMMAND.exists():
        found.append(Gateway(COMPILED, (str(COMPILED_COMMAND),)))
    for gateway in map(_named, named):
        if gateway.name in (other.name for other in found):
            raise ValueError(f"there is a gateway named {gateway.name!r} already: choose another name")
        found.append(gateway)
    return found


def _named(text: str) -> Gateway:
    """Return the gateway of NAME=COMMAND. Raises ValueError."""
    name, _, command = text.partition("=")
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not name or not words:
        raise ValueError(f"{text!r}: write NAME=COMMAND, as 'before=/path/to/blnk-gateway'")
    return Gateway(name, tuple(words))


def start_gateway(stage: Stage, gateway: Gateway, upstream: int, wanted: Wanted | None = None) -> Server:
    """Run a gateway on the core of the proxies until the stage ends. Raises StartError."""
    wanted = wanted or Wanted()
    (port,) = free_ports(1)
    process = run_gateway(stage, gateway, (port, upstream), wanted)
    key = wanted.key or mint(process.name, port)
    return Server(wanted.name or gateway.name, port, key, (process.popen,), wanted.scheme)


def run_gateway(
    stage: Stage, gateway: Gateway, ports: tuple[int, int], wanted: Wanted, core: int | None = None
) -> Process:
    """Run one process of a gateway between two ports, clients' and upstream's. Raises StartError."""
    listen, upstream = ports
    (admin,) = free_ports(1)
    command = [*gateway.command, "serve", "--config", str(wanted.config), *wanted.options]
    settings = {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_LISTEN": f"127.0.0.1:{listen}",
        "BLNK_GATEWAY_ADMIN": f"127.0.0.1:{admin}",
        "BLNK_GATEWAY_UPSTREAM__URL": f"http://127.0.0.1:{upstream}",
        "BLNK_GATEWAY_KEYS__STORE": wanted.store,
        "BLNK_GATEWAY_DRAIN__DELAY": "0s",
    }
    process = stage.run(
        wanted.name or gateway.name,
        command,
        stage.cores.proxy if core is None else core,
        settings | dict(wanted.settings),
    )
    ready = Call("ready", "GET", "/health/ready")
    process.wait_until(lambda: ask(admin, ready, "").status == 200)
    process.wait_until_proxied(listen, MASTER_KEY, wanted.scheme)
    return process


def mint(name: str, port: int) -> str:
    """Return a new key of the gateway with SCOPES. Raises StartError."""
    answer = ask(port, _MINT, MASTER_KEY)
    if answer.status != 201:
        raise StartError(f"{name} minted no key: {answer.status} {answer.body.decode(errors='replace')}")
    return str(json.loads(answer.body)["key"])
