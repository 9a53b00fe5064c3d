"""Sends a command's requests to Core with the master key, as a gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config import Config
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.writer import Ask
from gateway.proxy.core_client import CoreClient
from gateway.server.upstream import core_access, core_tls, open_pool


class _NoObserver:
    """Ignores what a gateway would count: a command reports its own failures."""

    def core_responded(self) -> None:
        """Keep no state of Core."""

    def key_refused(self) -> None:
        """Read no key again: a command takes a moment."""

    def key_accepted(self) -> None:
        """Ignore that Core accepted another master key."""

    def refused(self) -> None:
        """Ignore that Core refused the master key."""


@asynccontextmanager
async def open_core_client(config: Config) -> AsyncIterator[Ask]:
    """Open a client of Core at `upstream.url`; the first request reads the master key."""
    pool = open_pool(config, asyncio.get_running_loop(), core_tls(config))
    client: CoreClient | None = None

    async def ask(method: str, target: str, body: bytes) -> ApiResponse:
        nonlocal client
        if client is None:
            access = core_access(config)
            access.verify()
            client = CoreClient(pool, access, _NoObserver())
        return await client.ask(method, target, body)

    try:
        yield ask
    finally:
        pool.abort()
