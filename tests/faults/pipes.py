"""Copy bytes between two connections, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

_PIECE = 1 << 16


class Ends(NamedTuple):
    """The two directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Filter = Callable[[bytes], bytes]
"""Takes received bytes, and returns the bytes to pass on."""


def _all(data: bytes) -> bytes:
    return data


async def join(client: Ends, server: Ends, up: Filter = _all, down: Filter = _all) -> None:
    """Copy in both directions until either side ends; bytes that were read by then still arrive."""
    copies = {
        asyncio.ensure_future(_copy(client.reader, server.writer, up)),
        asyncio.ensure_future(_copy(server.reader, client.writer, down)),
    }
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        client.writer.close()
        server.writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, through: Filter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            if passed := through(data):
                writer.write(passed)
                await writer.drain()
