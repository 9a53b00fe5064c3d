"""The servers that are measured: the gateway, nginx and a plain aiohttp proxy, in front of one upstream.

Rules kept here:
- All proxies forward with the master key; nginx and the gateway log every request; the gateway also checks
  a scoped key and stamps.
- The gateway runs as shipped, by its command and its `gateway.yaml`, with its keys in memory.
- A server counts as started once it returns the upstream's response.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.__main__ import ROOT
from tests.bench.load import Request
from tests.bench.processes import find, free_ports, started

HERE = Path(__file__).resolve().parent
MASTER_KEY = "the-master-key-of-the-benchmark"
TRANSACTION_ID = "txn_6164573b-6cc8-45a4-ad2e-7b4ba6a60f7d"
RESPONSE = json.dumps(
    {
        "transaction_id": TRANSACTION_ID,
        "amount": 750,
        "precise_amount": 75000,
        "precision": 100,
        "currency": "USD",
        "reference": "ref_001adcfgf",
        "source": "@FundingPool",
        "destination": "bln_28edb3e5-c168-4127-a1c4-16274e7a28d3",
        "status": "QUEUED",
        "created_at": "2026-01-26T15:05:37.814937Z",
    },
    separators=(",", ":"),
)
TRANSACTION = json.dumps(
    {
        "amount": 750,
        "precision": 100,
        "currency": "USD",
        "reference": "ref_001adcfgf",
        "source": "@FundingPool",
        "destination": "bln_28edb3e5-c168-4127-a1c4-16274e7a28d3",
        "description": "Card payment, order 4711",
        "allow_overdraft": True,
        "meta_data": {"sender_name": "John Doe", "sender_internal_id": "563728", "channel": "mobile"},
    },
    separators=(",", ":"),
)
_PLAIN = (sys.executable, "-m", "tests.bench.plain_proxy")
_PATIENCE = 15.0

Command = Sequence[str | Path]


class StartError(Exception):
    """A server did not start; the text is its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Servers:
    """All servers that are measured; `key` is a scoped key of the gateway."""

    upstream: Server
    nginx: Server
    gateway: Server
    plain: Server
    key: str

    def loads(self) -> list[tuple[Server, Request]]:
        """Return the loads of a round: a read from each server, then a write through each proxy."""
        proxies = (self.nginx, self.gateway, self.plain)
        reads = [(server, self._get(server)) for server in (self.upstream, *proxies)]
        return reads + [(server, self._post(server)) for server in proxies]

    def _get(self, server: Server) -> Request:
        return Request(server.port, "GET", f"/transactions/{TRANSACTION_ID}", self._key(server))

    def _post(self, server: Server) -> Request:
        return Request(server.port, "POST", "/transactions", self._key(server), TRANSACTION)

    def _key(self, server: Server) -> str:
        return self.key if server is self.gateway else MASTER_KEY


@dataclass(frozen=True, slots=True)
class Cores:
    """Two CPU cores: one for the proxy that is measured, one for the load and the upstream."""

    proxy: int
    load: int

    @classmethod
    def available(cls) -> Cores | None:
        """Return two cores that this process may use, or None if there is only one."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(proxy=cores[1], load=cores[0]) if len(cores) > 1 else None


@contextlib.contextmanager
def servers(directory: Path, cores: Cores) -> Iterator[Servers]:
    """Run all servers with their files in `directory`. Raises StartError."""
    upstream, nginx, gateway, admin, plain = free_ports(5)
    url = f"http://127.0.0.1:{upstream}"
    shipped: Command = [
        Path(sys.executable).with_name("blnk-gateway"),
        "serve",
        "--config",
        ROOT / "gateway.yaml",
    ]
    settings = {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_LISTEN": f"127.0.0.1:{gateway}",
        "BLNK_GATEWAY_ADMIN": f"127.0.0.1:{admin}",
        "BLNK_GATEWAY_UPSTREAM__URL": url,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
        "BLNK_GATEWAY_DRAIN__DELAY": "0s",
    }
    with contextlib.ExitStack() as running:

        def run(name: str, port: int, command: Command, core: int) -> Server:
            output = directory / f"{name}.out"
            process = running.enter_context(started(command, core, output, _environ() | settings))
            _wait_until_started(port, process, output)
            return Server(name, port, process)

        yield Servers(
            upstream=run("direct", upstream, _nginx(directory, "upstream.conf", PORT=upstream), cores.load),
            nginx=run(
                "nginx", nginx, _nginx(directory, "proxy.conf", PORT=nginx, UPSTREAM=upstream), cores.proxy
            ),
            gateway=run("gateway", gateway, shipped, cores.proxy),
            plain=run("plain aiohttp", plain, [*_PLAIN, str(plain), url, MASTER_KEY], cores.proxy),
            key=_mint(gateway),
        )


def _environ() -> dict[str, str]:
    """Return the environment without variables that change the gateway's configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}


def _nginx(directory: Path, template: str, **values: int) -> Command:
    text = (HERE / template).read_text().replace("@MASTER_KEY@", MASTER_KEY).replace("@RESPONSE@", RESPONSE)
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    (directory / template).write_text(text)
    return [find("nginx") or "nginx", "-p", directory, "-c", directory / template, "-e", "stderr"]


def _wait_until_started(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the server returns the upstream's response. Raises StartError."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if _ask(port, "GET", "/ledgers") == RESPONSE.encode():
                return
        time.sleep(0.05)
    raise StartError(f"{output.stem} did not start:\n{output.read_text()}")


def _mint(port: int) -> str:
    wanted = {
        "name": "benchmark",
        "owner": "benchmark",
        "scopes": ["transactions:read", "transactions:write"],
        "expires_at": "2099-01-01T00:00:00Z",
    }
    return str(json.loads(_ask(port, "POST", "/api-keys", json.dumps(wanted).encode()))["key"])


def _ask(port: int, method: str, target: str, body: bytes | None = None) -> bytes:
    """Return the body of a successful response. Raises OSError for any other."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{target}", body, {"X-Blnk-Key": MASTER_KEY}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PATIENCE) as response:
        return bytes(response.read())
