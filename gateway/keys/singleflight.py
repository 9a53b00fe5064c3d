"""Run the same work once for all who ask for it at the same time.

Rules kept here:
- The work goes on where the caller that began it leaves, and all callers that wait get its result.
- Each caller gets a GatewayError of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.errors import GatewayError

Found = TypeVar("Found")


async def result_of(shared: asyncio.Future[Found | GatewayError]) -> Found:
    """Return what a shared future holds; raises a copy of the GatewayError if it holds one."""
    # Shielded: a client that leaves must not fail the others that wait for it.
    outcome = await asyncio.shield(shared)
    if isinstance(outcome, GatewayError):
        raise outcome.again() from outcome
    return outcome


@dataclass(slots=True, eq=False)
class Call(Generic[Found]):
    """Work that is under way; its result counts for nobody once it is `forgotten`."""

    task: asyncio.Task[Found | GatewayError] = field(init=False)
    forgotten: bool = False


class SingleFlight(Generic[Found]):
    """Calls under way, by key. Work that can be forgotten gets its own `Call`."""

    def __init__(self) -> None:
        self._calls: dict[str, Call[Found]] = {}

    async def do(self, key: str, work: Callable[[], Coroutine[None, None, Found]]) -> Found:
        """Return the result of the call for a key, which begins now if there is none. Raises GatewayError."""
        return await result_of(self.start(key, lambda _: work()).task)

    def start(self, key: str, work: Callable[[Call[Found]], Coroutine[None, None, Found]]) -> Call[Found]:
        """Return the call for a key, which begins now if there is none."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = Call()
            call.task = asyncio.ensure_future(self._run(key, call, work))
        return call

    def forget(self, key: str) -> None:
        """Let the next caller for a key begin anew, and those that wait for the call under way as well."""
        call = self._calls.pop(key, None)
        if call is not None:
            call.forgotten = True

    def forget_all(self) -> None:
        """Forget every call under way."""
        for call in self._calls.values():
            call.forgotten = True
        self._calls.clear()

    async def close(self) -> None:
        """Cancel every call under way."""
        tasks = [call.task for call in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, key: str, call: Call[Found], work: Callable[[Call[Found]], Coroutine[None, None, Found]]
    ) -> Found | GatewayError:
        """Return a failure instead of raising it: all who waited for it may have left."""
        try:
            return await work(call)
        except GatewayError as failure:
            return failure
        finally:
            if self._calls.get(key) is call:
                del self._calls[key]
