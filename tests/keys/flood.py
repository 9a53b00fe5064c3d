"""Clients that send one unknown key after the other, as fast as they are answered."""

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
    """Keep so many connections busy meanwhile; what they are answered, by status."""
    told: Counter[int] = Counter()
    clients = [asyncio.create_task(_ask(address, source, told)) for _ in range(connections)]
    try:
        async with asyncio.timeout(10):
            while told.total() < connections:
                await asyncio.sleep(0.01)
        yield told
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _ask(address: Endpoint, source: str, told: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=(source, 0))
    try:
        while True:
            key = mint_key(os.urandom)
            writer.write(request("GET", "/ledgers", key=key))
            status, length = read_status_and_length(await reader.readuntil(HEAD_END))
            await reader.readexactly(length)
            told[int(status)] += 1
    finally:
        writer.close()
