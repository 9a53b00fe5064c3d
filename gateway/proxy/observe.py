"""The pipeline of `serve --observe`: every request goes to Core as it came, and the verdict on it is noted.

Rules kept here:
- Core decides: the client's own key and body go on unchanged, `/api-keys` too. The gateway's master key is
  never added. What HTTP itself forbids is refused as always.
- The verdict is worked out by the same stages that enforce it elsewhere.
- A verdict never costs the request. A slow or failed store, a body that is too large and a spent budget are
  noted as what the gateway would have refused, and the request goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from gateway.errors import Code, GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Access, Route, Stamp
from gateway.policy.values import Deny
from gateway.proxy.authenticate import UnknownKey
from gateway.proxy.context import RequestContext
from gateway.proxy.core_requests import core_head
from gateway.proxy.errors import code_of
from gateway.proxy.stages import Stages
from gateway.proxy.stream import SMALL
from gateway.wire.errors import BodyTooLargeError
from gateway.wire.headers import credential_lines

MEANING: Final = "Core decides on every request, nothing is enforced here"
NOTICE: Final = f"observing: {MEANING}"

# The route that every request takes here, since Core decides; with the `first_byte` of its own.
_OBSERVED: Final = Route(method="GET", pattern="/", access=Access.MASTER)
_LOOKUP_SECONDS: Final = 0.25
"""How long a request may wait for the store to know its key."""


class ObservePipeline:
    """Processes requests, notes what a `Pipeline` would do, and lets Core respond; a `Processor`."""

    def __init__(self, stages: Stages) -> None:
        self._authenticator = stages.authenticator
        self._authorizer = stages.authorizer
        self._limiter = stages.limiter
        self._bodies = stages.bodies
        self._core = stages.core
        self._forwarder = stages.forwarder
        self.responder = stages.responder

    async def process(self, context: RequestContext) -> None:
        """Send the request to Core with the client's own credentials; raises as `Pipeline.process`."""
        exchange, matched = context.exchange, context.matched_route
        first_byte = 0.0 if matched is None else matched.first_byte
        context.admit(replace(_OBSERVED, first_byte=first_byte) if first_byte else _OBSERVED, None)
        stamping = await self._note_verdict(context, matched)
        self._core.require_verified()
        if stamping is None:
            body = await self._read_small(context)
        else:
            body = await self._try_stamp(context, *stamping)
        head = core_head(context, self._core, master=False) + credential_lines(exchange.headers.lines)
        await self._forwarder.forward(context, head, body)

    async def _note_verdict(
        self, context: RequestContext, matched: Route | None
    ) -> tuple[Route, ApiKey] | None:
        """Note the verdict; return the route and the key by which the body would be stamped, if it would."""
        entry = context.entry
        if matched is not None:
            entry.route = matched.name
        if context.public_route is not None:
            entry.decision = "allow"
            return None
        principal = await self._authenticate(context)
        if isinstance(principal, Deny):
            entry.would_deny(principal.code.code)
            return None
        try:
            decision = self._authorizer.authorize(context, principal)
            self._limiter.limit(context, principal)
        except GatewayError as refusal:
            entry.would_deny(code_of(refusal).code)
            return None
        finally:
            # Core decides, and its response goes on as it came.
            context.limit_lines = b""
        if isinstance(decision, Deny):
            entry.would_deny(decision.code.code)
            return None
        self._authorizer.note_use(principal, decision)
        route, denied = decision.route, decision.would_deny
        entry.decision = "would_serve" if route.served else "allow"
        if denied is not None:
            entry.would_deny(denied.code.code)
        return (route, principal) if isinstance(principal, ApiKey) and route.stamp is not Stamp.NONE else None

    async def _authenticate(self, context: RequestContext) -> Principal | Deny:
        found = self._authenticator.authenticate(context)
        if not isinstance(found, UnknownKey):
            return found
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await self._authenticator.look_up(context, found)
        except (TimeoutError, GatewayError):
            return Deny(Code.KEY_STORE_UNAVAILABLE, Code.KEY_STORE_UNAVAILABLE.message)

    async def _read_small(self, context: RequestContext) -> bytes | None:
        """Return a small body once it is whole, so that it goes at Core's pace; None for any other."""
        exchange = context.exchange
        if not exchange.body.complete and (exchange.body.length is None or exchange.body.length <= SMALL):
            with contextlib.suppress(GatewayError):
                await exchange.body.collect(SMALL, self._bodies.hold(context))
        return exchange.body.take_buffered() if exchange.body.complete else None

    async def _try_stamp(self, context: RequestContext, route: Route, key: ApiKey) -> bytes | None:
        """Return the body once its stamp was tried on a copy; None for one that cannot be held."""
        entry, exchange = context.entry, context.exchange
        try:
            body = await exchange.body.read(context.config.limits.body, self._bodies.hold(context))
        except (BodyTooLargeError, OverloadedError) as refusal:
            entry.would_deny(code_of(refusal).code)
            return exchange.body.take_buffered() if exchange.body.complete else None
        try:
            stamped = await self._bodies.stamp(context, body, route, key)
        except GatewayError as refusal:
            entry.would_deny(code_of(refusal).code)
        else:
            if stamped != body and not entry.would_code:
                entry.decision = "would_stamp"
        return body
