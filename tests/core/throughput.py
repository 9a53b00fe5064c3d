"""Measure a scoped key at Core and behind the gateway: `python3 -m tests.core.throughput [SECONDS]`.

Rules kept here:
- The live Core is on this machine. The runs alternate, so that other load affects all of them.
- The gateway runs as shipped, by its command, with its keys in memory.
- Each scoped key is minted at the server where it is used, with the same scope.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.__main__ import ROOT
from tests.addresses import free_ports
from tests.bench.load import Request, Seen, load
from tests.bench.processes import started
from tests.bench.servers import Cores
from tests.core.live import REQUIRED, Core, named

ROUNDS = 2
CONNECTIONS = 4  # with more, scoped requests at Core take longer than the 2 s that wrk waits
SECONDS = 8
TARGET = "/ledgers?limit=1"
PATIENCE = 15.0


@contextmanager
def gateway(core: Core, cpu: int) -> Iterator[int]:
    """Run a gateway in front of this Core; yield its port once it is ready."""
    listen, admin = free_ports(2)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")} | {
        "BLNK_MASTER_KEY": core.master_key,
        "BLNK_GATEWAY_LISTEN": f"127.0.0.1:{listen}",
        "BLNK_GATEWAY_ADMIN": f"127.0.0.1:{admin}",
        "BLNK_GATEWAY_UPSTREAM__URL": core.url,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
        "BLNK_GATEWAY_DRAIN__DELAY": "0s",
    }
    program = Path(sys.executable).with_name("blnk-gateway")
    command: list[str | Path] = [program, "serve", "--config", ROOT / "gateway.yaml"]
    with TemporaryDirectory() as directory, started(command, cpu, Path(directory, "log"), environ):
        until_ready(admin)
        yield listen


def until_ready(admin: int) -> None:
    """Return once the gateway is ready. Raises OSError after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            opened(f"http://127.0.0.1:{admin}/health/ready").close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def opened(request: urllib.request.Request | str) -> HTTPResponse:
    """Return a successful response, without the use of a proxy. Raises OSError for any other."""
    response: HTTPResponse = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        request, timeout=PATIENCE
    )
    return response


def mint(port: int, master_key: str) -> str:
    """Return a key that may read ledgers, minted at the server on this port."""
    wanted = {
        "name": "throughput",
        "owner": "throughput",
        "scopes": ["ledgers:read"],
        "expires_at": "2099-01-01T00:00:00Z",
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api-keys", json.dumps(wanted).encode(), {"X-Blnk-Key": master_key}
    )
    with opened(request) as response:
        key: str = json.load(response)["key"]
        return key


def measure(core: Core, cores: Cores, seconds: int) -> dict[str, list[Seen]]:
    """Return what wrk measured for each way to send the request, once for each round."""
    native = core.address.port
    with gateway(core, cores.proxy) as port:
        ways = {
            "Core, scoped key": (native, mint(native, core.master_key)),
            "gateway, scoped key": (port, mint(port, core.master_key)),
            "Core, master key": (native, core.master_key),
        }
        seen: dict[str, list[Seen]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (asked, key) in ways.items():
                request = Request(asked, "GET", TARGET, key)
                seen[way].append(load(request, seconds=seconds, connections=CONNECTIONS, core=cores.load))
        return seen


def main() -> int:
    """Print the medians of the rounds as a table in Markdown."""
    core, cores = named(os.environ), Cores.available()
    if core is None or cores is None:
        sys.stderr.write(f"needs two cores and a live Blnk Core here: set {' and '.join(REQUIRED)}\n")
        return 2
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    sys.stdout.write(f"| GET {TARGET} | requests/s | p50 ms | p99 ms |\n|---|---|---|---|\n")
    for way, runs in measure(core, cores, seconds).items():
        rate = median(seen.requests / seen.seconds for seen in runs)
        p50, p99 = median(seen.p50_ms for seen in runs), median(seen.p99_ms for seen in runs)
        sys.stdout.write(f"| {way} | {rate:.0f} | {p50:.1f} | {p99:.1f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
