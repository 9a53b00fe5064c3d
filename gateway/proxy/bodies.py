"""The bodies of requests, as they go to Core: stamped, held until they are whole, or streamed.

Rules kept here:
- The body of a stamping route is read whole, under a limit, and gets the key's id.
- Of any other body the first 64 KiB are read before Core is asked for a connection: a small one goes at
  Core's pace, and only a larger one flows at its client's.
- Bytes are counted as they come, and shared between the callers (`body_budget`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Caller
from gateway.policy.principals import ApiKey
from gateway.policy.routes import Access, Route, Stamp
from gateway.proxy.body_budget import BufferBudget, Hold
from gateway.proxy.context import RequestContext
from gateway.proxy.stamp_queue import StampQueue
from gateway.proxy.stream import SMALL
from gateway.wire.errors import BodyTooLargeError

# Bound once: each look-up of a member through its class takes 0.1 to 0.2 us in Python 3.11.
_NO_STAMP: Final = Stamp.NONE
_PUBLIC: Final = Access.PUBLIC


class BodyReader:
    """Reads bodies within one budget, and stamps them in one queue."""

    def __init__(self, budget: BufferBudget, queue: StampQueue) -> None:
        self._budget = budget
        self._queue = queue

    async def read(self, context: RequestContext) -> bytes | None:
        """Return the body for Core, stamped where the route stamps; None for one that streams.

        Raises GatewayError, and ClientGoneError where nobody is left to respond to.
        """
        exchange, key = context.exchange, context.principal
        if stamps(context) and isinstance(key, ApiKey):
            return await self._read_stamped(context, key)
        if exchange.body.complete:
            return exchange.body.take_buffered()
        if exchange.body.length is None or exchange.body.length <= SMALL:
            hold = self.hold(context)
            hold.comes(_give_up(context))
            await exchange.body.collect(SMALL, hold)
            if exchange.body.complete:
                hold.settle(exchange.body.bytes_in)
                return exchange.body.take_buffered()
        if not _streams(context):
            raise BodyTooLargeError
        return None

    def hold(self, context: RequestContext) -> Hold:
        """Begin to count the bytes of the body, until the request ends."""
        return context.hold_bytes(self._budget.hold(context))

    async def read_whole(self, context: RequestContext, limit: int) -> bytes:
        """Return the whole body, of at most `limit` bytes; raises as `read`."""
        hold = self.hold(context)
        hold.comes(_give_up(context))
        return await context.exchange.body.read(limit, hold)

    async def stamp(self, context: RequestContext, body: bytes, route: Route, key: ApiKey) -> bytes:
        """Return the body with its stamp; the same object where it needs none.

        Raises what `StampQueue.stamp` raises.
        """
        exchange, most = context.exchange, context.config.upstream.max_body
        caller = Caller(key.id, context.network)
        return await self._queue.stamp(body, route, caller, most, lambda: not exchange.gone)

    async def _read_stamped(self, context: RequestContext, key: ApiKey) -> bytes:
        exchange, config = context.exchange, context.config
        limit = min(config.limits.body, config.upstream.max_body)
        if exchange.body.complete and exchange.body.bytes_in <= limit:
            self.hold(context).grow(exchange.body.bytes_in)
            body = exchange.body.take_buffered()
        else:
            body = await self.read_whole(context, limit)
        stamped = await self.stamp(context, body, context.route, key)
        context.entry.stamped = stamped is not body
        if context.hold is not None:
            context.hold.settle(len(stamped), config.upstream.max_body)
        return stamped


def stamps(context: RequestContext) -> bool:
    """Return True if the body of an admitted request gets the key's id."""
    return context.route.stamp is not _NO_STAMP and isinstance(context.principal, ApiKey)


def _streams(context: RequestContext) -> bool:
    """Return True if a large body may stream: nobody needs one of a GET, or without a key."""
    return context.changes and context.route.access is not _PUBLIC


def _give_up(context: RequestContext) -> Callable[[], None]:
    """Return what refuses a request whose body is coming in, when others need the bytes that it holds."""
    return lambda: context.exchange.body.break_off(OverloadedError())
