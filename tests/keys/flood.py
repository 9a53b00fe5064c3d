"""Clients that each send one unknown key after the other without a pause."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.keys.minting import mint_key
from tests.http_messages import HEAD_END, read_status_and_length
from tests.raw_client import Endpoint, request

ATTACKER = "127.0.0.66"
"""Where the flood comes from; tests ask from 127.0.0.1."""


@asynccontextmanager
async def flood(address: Endpoint, connections: int, source: str = ATTACKER) -> AsyncIterator[Counter[int]]:
    """Keep `connections` clients busy; yield how many responses each status has had."""
    statuses: Counter[int] = Counter()
    clients = [asyncio.create_task(_send_unknown_keys(address, source, statuses)) for _ in range(connections)]
    try:
        async with asyncio.timeout(10):
            while statuses.total() < connections:
                await asyncio.sleep(0.01)
        yield statuses
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _send_unknown_keys(address: Endpoint, source: str, statuses: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=(source, 0))
    try:
        while True:
            key = mint_key(os.urandom)
            writer.write(request("GET", "/ledgers", key=key))
            status, length = read_status_and_length(await reader.readuntil(HEAD_END))
            await reader.readexactly(length)
            statuses[int(status)] += 1
    finally:
        writer.close()
