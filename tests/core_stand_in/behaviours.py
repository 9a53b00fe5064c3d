"""Behaviours of the stand-in for Core, which can be nested: `delayed(0.1, cut_after(18))`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from tests.core_stand_in.exchange import RECORDS, Behaviour, Exchange
from tests.http_messages import build_head

REFUSAL = b'{"error":"no","error_detail":{"code":"AUTH_MISSING_API_KEY","message":"no"}}'

_PIECE = b"x" * (64 * 1024)
# A reset discards what the gateway has not read; after this time it has read what came before.
_READ_SECONDS = 0.005


async def like_core(exchange: Exchange) -> None:
    """Read the body, then respond with 200 and a record of every kind."""
    await exchange.body()
    await exchange.respond()


async def refuse(exchange: Exchange) -> None:
    """Read the body, then respond with 401, as Core does to a request without a valid key."""
    await exchange.body()
    await exchange.respond("401 Unauthorized", REFUSAL)


async def echo(exchange: Exchange) -> None:
    """Read the body, then respond with the method, the target and the length of the body."""
    await exchange.body()
    request = exchange.request
    seen = [request.method, request.target, request.body_length]
    await exchange.respond(body=json.dumps(seen, separators=(",", ":")).encode())


async def never(exchange: Exchange) -> None:
    """Read the body and never respond."""
    await exchange.body()
    await exchange.never()


async def abort(exchange: Exchange) -> None:
    """Read the body and reset the connection without a byte."""
    await exchange.body()
    exchange.abort()


def responding(
    status: str = "200 OK", body: bytes = RECORDS, headers: Iterable[tuple[str, str]] = ()
) -> Behaviour:
    """Read the body, then send this response."""

    async def behave(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.respond(status, body, headers)

    return behave


def early(status: str = "413 Payload Too Large", body: bytes = RECORDS) -> Behaviour:
    """Respond before the body has been read, and read none of it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.respond(status, body, [("Connection", "close")])
        await exchange.never()

    return behave


def raw(*pieces: bytes, pause: float = 0.0, close: bool = True, reset: bool = False) -> Behaviour:
    """Read the body, write these bytes, `pause` seconds apart, and end or reset the connection."""

    async def behave(exchange: Exchange) -> None:
        await exchange.body()
        for number, data in enumerate(pieces):
            if number:
                await asyncio.sleep(pause)
            await exchange.write(data)
        if reset:
            await _abort_behind(exchange)
        elif close:
            exchange.close()

    return behave


def of_size(size: int) -> Behaviour:
    """Send a response of `size` bytes as fast as the gateway reads it, without reading the request's body."""

    async def behave(exchange: Exchange) -> None:
        await exchange.write(build_head("HTTP/1.1 200 OK", [("Content-Length", str(size))]))
        for start in range(0, size, len(_PIECE)):
            await exchange.write(_PIECE[: size - start])

    return behave


def held(release: asyncio.Event, then: Behaviour = like_core) -> Behaviour:
    """Wait for `release`, then behave as `then`."""

    async def behave(exchange: Exchange) -> None:
        await release.wait()
        await then(exchange)

    return behave


def delayed(seconds: float, then: Behaviour = like_core) -> Behaviour:
    """Wait, then behave as `then`."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await then(exchange)

    return behave


def in_halves(pause: float, then: Behaviour = like_core) -> Behaviour:
    """Hold the last eight bytes of each write back for `pause` seconds, if it is above zero."""

    async def behave(exchange: Exchange) -> None:
        async def halve(data: bytes) -> None:
            await exchange.send(data[:-8])
            await asyncio.sleep(pause)
            await exchange.send(data[-8:])

        if pause:
            exchange.outlet = halve
        await then(exchange)

    return behave


def cut_after(count: int, then: Behaviour = like_core) -> Behaviour:
    """Reset the connection after `count` bytes of the first write; if negative, before its last bytes."""

    async def behave(exchange: Exchange) -> None:
        async def cut(data: bytes) -> None:
            await exchange.send(data[:count])
            await _abort_behind(exchange)

        exchange.outlet = cut
        await then(exchange)

    return behave


async def _abort_behind(exchange: Exchange) -> None:
    await asyncio.sleep(_READ_SECONDS)
    exchange.abort()
