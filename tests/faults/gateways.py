"""Run gateways by their command, with the file that ships, each as a process of its own.

Rules kept here:
- Settings are changed by environment variables, as an operator would.
- The output of a gateway is kept, and is judged after it has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Address
from tests.addresses import free_ports
from tests.faults.requests import OWNER, Key, key_wanted
from tests.raw_client import BrokenResponse, RawClient
from tests.running import MASTER_KEY, ROOT

_PATIENCE = 15.0
_POLL_SECONDS = 0.02
_QUICK = {
    # Requests that wait for a connection must be refused within a fault of a second.
    "BLNK_GATEWAY_TIMEOUTS__CONNECT": "400ms",
}
_TROUBLE = re.compile(r'Traceback|never retrieved|"event": ?"fault"')
_IN_USE = re.compile(
    r'^blnk_gateway_(?:connections|upstream_connections\{state="(?:busy|waiting|detached)"\}) (\S+)$',
    re.MULTILINE,
)


class StartError(Exception):
    """A gateway did not start; the text is its output."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A running gateway; `listen` is where clients connect."""

    listen: Address
    admin: Address
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def port(self) -> int:
        return self.listen.port

    async def started(self) -> None:
        """Wait until the gateway is ready. Raises StartError."""
        deadline = time.monotonic() + _PATIENCE
        while not await self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"a gateway did not start:\n{self.output.read_text()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def ready(self) -> bool:
        """Return whether the gateway says that it is ready."""
        try:
            return (await _get(self.admin, "/health/ready"))[0] == 200
        except (OSError, BrokenResponse):
            return False

    async def held(self, patience: float) -> int:
        """Return how many client connections, busy connections to Core and waiting requests the gateway has.

        Wait up to `patience` seconds until there are none.
        """
        deadline = time.monotonic() + patience
        while True:
            _, text = await _get(self.admin, "/metrics")
            count = sum(int(float(value)) for value in _IN_USE.findall(text))
            if not count or time.monotonic() > deadline:
                return count
            await asyncio.sleep(_POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> None:
        """Wait until the gateway has ended; fail if it does not."""
        deadline = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the gateway has not ended in time"
            await asyncio.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def trouble(self) -> list[str]:
        """Return logged faults of the gateway itself, the master key if it is logged, and a bad exit code."""
        written = self.output.read_text()
        found = [line for line in written.splitlines() if _TROUBLE.search(line)]
        if MASTER_KEY in written:
            found.append("the master key is in the log")
        if self.process.poll() not in (None, 0, -signal.SIGKILL):
            found.append(f"a gateway ended with {self.process.returncode}")
        return found


def launch(folder: Path, name: str, settings: Mapping[str, str]) -> Replica:
    """Start a gateway with a short timeout for connections to Core."""
    return serve(folder, name, _QUICK | dict(settings))


def serve(
    folder: Path, name: str, settings: Mapping[str, str], *, files: int = 0, log: int | None = None
) -> Replica:
    """Start a gateway with the timeouts that ship.

    It may open `files` files (0: no limit), and logs to the descriptor `log`, or into a file if that is None.
    """
    listen, admin = (Address("127.0.0.1", port) for port in free_ports(2))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environ = inherited | {"BLNK_MASTER_KEY": MASTER_KEY} | dict(settings)
    environ |= {"BLNK_GATEWAY_LISTEN": str(listen), "BLNK_GATEWAY_ADMIN": str(admin)}
    limited = ("bash", "-c", f'ulimit -n {files}; exec "$0" "$@"') if files else ()
    command: list[str | Path] = [
        *limited,
        Path(sys.executable).with_name("blnk-gateway"),
        "serve",
        "--config",
        ROOT / "gateway.yaml",
    ]
    output = folder / f"{name}.out"
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream if log is None else log, stderr=stream, env=environ)
    return Replica(listen, admin, process, output)


async def mint(replica: Replica, name: str) -> Key:
    """Mint a key that may send all requests of the load."""
    async with await RawClient.connect(replica.listen) as client:
        body = key_wanted(name, ["transactions:read", "transactions:write"])
        response = await client.ask("POST", "/api-keys", key=MASTER_KEY, body=json.dumps(body).encode())
    made = response.json()
    return Key(made["key"], made["api_key_id"])


async def key_names(replica: Replica) -> list[str]:
    """Return the names of all keys that were minted at this gateway."""
    async with await RawClient.connect(replica.listen) as client:
        response = await client.ask("GET", f"/api-keys?owner={OWNER}", key=MASTER_KEY)
    return [key["name"] for key in response.json()]


async def _get(address: Address, path: str) -> tuple[int, str]:
    async with await RawClient.connect(address) as client:
        response = await client.ask("GET", path, host=str(address))
    return response.status, response.body.decode()
