"""The pipeline of a gateway that decides: authenticate, match, authorize, limit, stamp, forward.

Rules kept here:
- The order is: public route, key, target, route, scope, limit, body, Core.
- Without a live key nothing but 401 is said (503 where the key store cannot tell).
- A key is authenticated and authorized anew whenever bytes leave for Core later than the decision counts.
- The master key is added to the head for Core, and to nothing else.
"""

from __future__ import annotations

from gateway.keys.cache import CACHED_VALID_SECONDS, LOOKUP_VALID_SECONDS
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.values import Deny
from gateway.proxy.authenticate import UnknownKey
from gateway.proxy.bodies import stamps
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import RequestContext
from gateway.proxy.core_requests import core_head
from gateway.proxy.stages import Stages


class Pipeline:
    """Processes the requests of all clients; a `proxy.handler.Processor`."""

    def __init__(self, stages: Stages, clocks: Clocks) -> None:
        self._authenticator = stages.authenticator
        self._authorizer = stages.authorizer
        self._limiter = stages.limiter
        self._reauthorizer = stages.reauthorizer
        self._api_keys = stages.api_keys
        self._bodies = stages.bodies
        self._core = stages.core
        self._forwarder = stages.forwarder
        self.responder = stages.responder
        self._monotonic = clocks.monotonic

    async def process(self, context: RequestContext) -> None:
        """Respond to one request.

        Raises GatewayError, DeniedMeanwhileError or ClientGoneError where there is no response yet.
        """
        exchange, entry, route = context.exchange, context.entry, context.public_route
        if route is not None:
            context.admit(route, None)
            entry.route, entry.decision = route.name, "allow"
        else:
            # Authenticate.
            valid_until = context.began + CACHED_VALID_SECONDS
            principal = self._authenticator.authenticate(context)
            if not isinstance(principal, ApiKey):
                # The log names the route also where the key is not good or cannot be looked up.
                context.label()
            if isinstance(principal, UnknownKey):
                principal = await self._authenticator.look_up(context, principal)
                valid_until = self._monotonic() + LOOKUP_VALID_SECONDS
            if isinstance(principal, Deny):
                self.responder.deny(context, principal)
                return

            # Match and authorize. Limit: what is refused counts as well.
            decision = self._authorizer.authorize(context, principal)
            self._limiter.limit(context, principal)
            if isinstance(decision, Deny):
                self.responder.deny(context, decision)
                return
            recheck = self._reauthorizer if isinstance(principal, ApiKey) else None
            context.admit(decision.route, principal, recheck)
            context.reauthorized(principal, valid_until)
            self._authorizer.note_use(principal, decision)
            entry.decision = "allow"
            if decision.would_deny is not None:
                entry.would_deny(decision.would_deny.code.code)
            if decision.route.served:
                await self._serve(context, principal)
                return

        # Stamp. Before Core was verified no body is read. Most bodies are whole by now, and need no stage.
        self._core.require_verified()
        if exchange.body.complete and not stamps(context):
            body: bytes | None = exchange.body.take_buffered()
        else:
            body = await self._bodies.read(context)

        # Forward, with the master key but for a public route.
        head = core_head(context, self._core, master=route is None)
        await self._forwarder.forward(context, head, body)

    async def _serve(self, context: RequestContext, principal: Principal) -> None:
        """Respond to a request for `/api-keys`, which never goes to Core."""
        response = await self._api_keys.respond(context, principal)
        if isinstance(response, Deny):
            self.responder.deny(context, response)
        else:
            self.responder.send(context, response)
