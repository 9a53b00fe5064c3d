"""Core, asked by a command with the master key, as a gateway asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.writer import Ask
from gateway.proxy.core_access import CoreAccess
from gateway.proxy.core_client import CoreClient
from gateway.server.upstream import host_line, open_pool, read_master_key


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
    client: CoreClient | None = None

    async def ask(method: str, target: str, body: bytes) -> ApiResponse:
        nonlocal client
        if client is None:
            access = CoreAccess(config.upstream.url, read_master_key(config))
            access.verify()
            client = CoreClient(pool, access, _Unobserved(), host_line(config))
        return await client.ask(method, target, body)

    try:
        yield ask
    finally:
        pool.abort()
