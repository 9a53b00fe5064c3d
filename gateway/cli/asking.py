"""Core, asked by a verb with the master key, as a gateway asks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cli.stores import fail
from gateway.config import BadValueError, Config
from gateway.errors import Code
from gateway.exits import Exit
from gateway.forwarding import Forwarder, MasterKey
from gateway.keys.core_writes import Ask
from gateway.keys.resource import Answer
from gateway.server import open_pool, read_master_key


class _Unobserved:
    """A verb tells what became of its request itself."""

    def upstream(self, failure: Code | None) -> None:
        """Nobody keeps whether Core answers."""

    def refused(self) -> None:
        """The verb's own failure says so."""


@asynccontextmanager
async def asking_core(config: Config) -> AsyncIterator[Ask]:
    """Core at `upstream.url`; exits with 2 if it is asked and the file of its master key cannot be read."""
    pool = open_pool(config, asyncio.get_running_loop())
    forwarder: Forwarder | None = None

    async def ask(method: str, target: str, body: bytes) -> Answer:
        nonlocal forwarder
        if forwarder is None:
            forwarder = Forwarder(config, _master_key(config), pool, _Unobserved(), time.monotonic)
            forwarder.open = True
        return await forwarder.ask(method, target, body)

    try:
        yield ask
    finally:
        pool.abort()


def _master_key(config: Config) -> MasterKey:
    try:
        return MasterKey(read_master_key(config).reveal())
    except BadValueError as error:
        fail(f"upstream.master_key_file: {error}", Exit.USAGE)
