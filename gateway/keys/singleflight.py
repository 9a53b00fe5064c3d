"""One flight for all who ask the same at once.

Rules kept here:
- It goes on where who began it leaves, and all who wait have its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from gateway.errors import GatewayError

Found = TypeVar("Found")


async def shared(
    flights: dict[str, asyncio.Task[Found | GatewayError]],
    digest: str,
    begin: Callable[[], Coroutine[None, None, Found]],
) -> Found:
    """What comes of the one flight for a key; each who waits has a GatewayError of his own."""
    flight = flights.get(digest)
    if flight is None:
        flight = flights[digest] = asyncio.ensure_future(_outcome(begin()))
        flight.add_done_callback(lambda _: flights.pop(digest, None))
    # Shielded: a client that leaves must not fail the others that wait for it.
    outcome = await asyncio.shield(flight)
    if isinstance(outcome, GatewayError):
        raise outcome.again() from outcome
    return outcome


async def _outcome(work: Coroutine[None, None, Found]) -> Found | GatewayError:
    """A failure is returned, since those who waited for it may all have left."""
    try:
        return await work
    except GatewayError as failure:
        return failure
