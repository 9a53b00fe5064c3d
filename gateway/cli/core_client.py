"""Core, asked by a command with the master key, as a gateway asks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.writer import Ask
from gateway.proxy.forward import Forwarder, MasterKey
from gateway.proxy.reauthorize import Clocks
from gateway.server.build import open_pool, read_master_key


class _Unobserved:
    """A command tells what became of its request itself."""

    def upstream(self, failure: GatewayError | None) -> None:
        """Nobody keeps whether Core answers."""

    def refused(self) -> None:
        """The command's own failure says so."""


@asynccontextmanager
async def asking_core(config: Config) -> AsyncIterator[Ask]:
    """Core at `upstream.url`. The master key is read when Core is first asked; some commands never do."""
    pool = open_pool(config, asyncio.get_running_loop())
    forwarder: Forwarder | None = None

    async def ask(method: str, target: str, body: bytes) -> ApiResponse:
        nonlocal forwarder
        if forwarder is None:
            master = MasterKey(read_master_key(config).reveal())
            forwarder = Forwarder(config, master, pool, _Unobserved(), Clocks(time.time, time.monotonic))
            forwarder.open = True
        return await forwarder.ask(method, target, body)

    try:
        yield ask
    finally:
        pool.abort()
