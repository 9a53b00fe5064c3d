"""The requests of one connection, in the order in which they came (pipelining)."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.errors import GatewayError
from gateway.wire.exchange import Exchange


class RequestQueue:
    """The `current` request and those `waiting`; a GatewayError stands for what could not be read."""

    __slots__ = ("_change", "_loop", "current", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: deque[Exchange | GatewayError] = deque()
        self._change: asyncio.Future[None] | None = None
        self.current: Exchange | None = None

    @property
    def busy(self) -> bool:
        """True while a response is due."""
        return self.current is not None or bool(self.waiting)

    @property
    def behind(self) -> bool:
        """True while requests wait that have to be handled before more is read."""
        waiting = len(self.waiting)
        return waiting > 1 or (waiting == 1 and self.current is not None)

    def put(self, item: Exchange | GatewayError) -> None:
        """Queue a request, or a refusal."""
        self.waiting.append(item)
        self.notify()

    def take(self) -> Exchange | GatewayError:
        """Return the next item, which is current from now on if it is a request."""
        item = self.waiting.popleft()
        if isinstance(item, Exchange):
            self.current = item
        return item

    def finish(self) -> None:
        """Take note that the current request has its response."""
        self.current = None

    def change(self) -> asyncio.Future[None]:
        """Return what is done at the next `notify`."""
        self._change = self._loop.create_future()
        return self._change

    def notify(self) -> None:
        """Wake the task that waits for a change."""
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)
