"""`serve --observe`: every request goes to Core as it came, and what the gateway would have done is noted.

Rules kept here:
- Core decides: the client's own key and body go on unchanged, `/api-keys` too; the gateway's master key is
  never added. What HTTP itself forbids is refused as always.
- The verdict is the proxy's own, worked out by the same code.
- A verdict never costs the request: a store that is slow or down, a body that is too large, a budget that is
  spent are what the gateway would have refused, and the request goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from gateway.errors import Code, GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.policy.decisions import Deny
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Access, Route, Stamp
from gateway.policy.targets import Target, parse_target
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import code_of
from gateway.proxy.forward import Forwarder
from gateway.proxy.limits import Hold
from gateway.proxy.pipeline import Proxy
from gateway.proxy.stream import SMALL
from gateway.telemetry import AccessEntry
from gateway.wire.errors import BodyTooLargeError, UpstreamUnreachableError
from gateway.wire.exchange import Exchange
from gateway.wire.headers import credential_lines

MEANING: Final = "Core decides on every request, nothing is enforced here"
NOTICE: Final = f"observing: {MEANING}"

# The route that every request takes here, for Core decides; with the `first_byte` of its own.
_OBSERVED: Final = Route(method="GET", pattern="/", access=Access.MASTER)
# How long a request may wait for the store to know its key.
_KNOWN_SECONDS: Final = 0.25


class ObservingForwarder(Forwarder):
    """Forwards requests as they came; tries the stamp on a copy of the body."""

    async def pass_on(self, context: RequestContext, stamping: tuple[Route, ApiKey] | None) -> None:
        """Send the request to Core with the client's own credentials, and Core's response to the client.

        `stamping` is the route and key by which the body would be stamped.
        Raises what `forward` raises.
        """
        if not self.open:
            raise UpstreamUnreachableError
        hold = self.hold(context)
        try:
            if stamping is None:
                await self._collect_small(context, hold)
                await self._send(context, None)
            else:
                await self._send(context, await self._tried(context, hold, *stamping))
        finally:
            hold.release()

    @staticmethod
    async def _collect_small(context: RequestContext, hold: Hold) -> None:
        """Hold a small body until it is whole, so that it goes at Core's pace."""
        exchange = context.exchange
        if not exchange.complete and (exchange.length is None or exchange.length <= SMALL):
            with contextlib.suppress(GatewayError):
                await exchange.collect(SMALL, hold)

    async def _send(self, context: RequestContext, body: bytes | None) -> None:
        exchange = context.exchange
        head = self._head(context) + credential_lines(exchange.raw_headers)
        if body is None and not exchange.complete:
            await self._exchange_streamed(context, head)
        else:
            await self._exchange_whole(context, head, exchange.take_held() if body is None else body)

    async def _tried(self, context: RequestContext, hold: Hold, route: Route, key: ApiKey) -> bytes | None:
        """The body, once its stamp was tried; None for one that cannot be held, and is still to be read."""
        limit, entry, exchange = context.config.limits.body, context.entry, context.exchange
        try:
            body = await exchange.read(limit, hold)
        except GatewayError as refusal:
            if not isinstance(refusal, (BodyTooLargeError, OverloadedError)):
                raise
            _note(entry, code_of(refusal))
            return None
        try:
            stamped = await self._stamped(context, body, route, key)
        except GatewayError as refusal:
            _note(entry, code_of(refusal))
        else:
            if stamped != body and not entry.would_code:
                entry.decision = "would_stamp"
        return body


class ObservingProxy(Proxy):
    """Notes what would be answered or rewritten, and lets Core answer."""

    _forwarder: ObservingForwarder

    async def _answer(self, exchange: Exchange, entry: AccessEntry, began: float) -> None:
        context = RequestContext(exchange, entry, self.config, self._observer.ended_late)
        context.admit(_OBSERVED, None)
        await self._forwarder.pass_on(context, await self._stamping(context))

    async def _stamping(self, context: RequestContext) -> tuple[Route, ApiKey] | None:
        """Note the verdict; the route and the key by which the body would be stamped, if it would."""
        exchange, entry, config = context.exchange, context.entry, context.config
        target = parse_target(exchange.target)
        if isinstance(target, Target):
            matched = config.routes.match(exchange.method, target.segments)
            if matched is not None:
                entry.route = matched.name
            if matched is not None and matched.first_byte:
                context.admit(replace(_OBSERVED, first_byte=matched.first_byte), None)
            if config.routes.public(exchange.method, target.segments) is not None:
                entry.decision = "allow"
                return None
        principal = await self._known(exchange)
        if isinstance(principal, Deny):
            _note(entry, principal.code)
            return None
        try:
            route = self._admit(entry, principal, target, config)
        except GatewayError as refusal:
            _note(entry, code_of(refusal))
            return None
        if isinstance(route, Deny):
            _note(entry, route.code)
            return None
        if route.served and not entry.would_code:
            entry.decision = "would_serve"
        if isinstance(principal, ApiKey) and route.stamp is not Stamp.NONE:
            return route, principal
        return None

    async def _known(self, exchange: Exchange) -> Principal | Deny:
        found = self.identify(exchange)
        if not isinstance(found, tuple):
            return found
        try:
            async with asyncio.timeout(_KNOWN_SECONDS):
                return await self.look_up(*found)
        except (TimeoutError, GatewayError):
            return Deny(Code.KEY_STORE_UNAVAILABLE, Code.KEY_STORE_UNAVAILABLE.message)


def _note(entry: AccessEntry, code: Code) -> None:
    entry.decision, entry.would_code = "would_deny", code.code
