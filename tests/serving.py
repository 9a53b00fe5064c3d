"""`blnk-gateway serve` as a process of its own, for signals, exit codes and standard error."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.config import Address
from tests.raw_client import PATIENCE
from tests.running import MASTER_KEY, ROOT

SERVE = "from gateway.__main__ import main; main()"


@dataclass(slots=True)
class Ended:
    """The end of a process: its exit code and its output."""

    code: int
    events: list[dict[str, Any]]
    stderr: str


@dataclass(slots=True)
class Serving:
    """A running process, whose log is read line by line."""

    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event of this name in the log."""
        assert self.process.stdout is not None
        async with asyncio.timeout(3 * PATIENCE):
            while line := await self.process.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"ended without {name!r}: {self.events}")

    async def listening(self) -> tuple[Address, Address]:
        """Return the addresses of the clients' and the admin listener."""
        event = await self.event("listening")
        return _address(event["clients"]), _address(event["admin"])

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> Ended:
        """Wait for the end of the process."""
        async with asyncio.timeout(3 * PATIENCE):
            out, err = await self.process.communicate()
        self.events += [json.loads(line) for line in out.splitlines()]
        assert self.process.returncode is not None
        return Ended(self.process.returncode, self.events, err.decode())


@asynccontextmanager
async def serving(
    upstream: str,
    settings: Mapping[str, str],
    *,
    command: Sequence[str] = (),
    script: str = SERVE,
    options: Sequence[str] = (),
    stdin: int | None = None,
) -> AsyncIterator[Serving]:
    """Run `serve` with the shipped file in front of `upstream`; `settings` are further `BLNK_GATEWAY_*`.

    `command` starts it, as `timeout 5`; `script` is what Python runs, `options` are further ones of `serve`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environment |= {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
        "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
        "BLNK_GATEWAY_UPSTREAM__URL": upstream,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
    }
    environment |= {f"BLNK_GATEWAY_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(*command, sys.executable),
        *("-c", script, "serve", "--config", str(ROOT / "gateway.yaml"), *options),
        cwd=ROOT,
        env=environment,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Serving(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))
