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
from typing import Final

from gateway.config import Config
from gateway.errors import Code, GatewayError
from gateway.forwarding import Forwarder
from gateway.policy.decisions import Deny
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Route, Stamp
from gateway.policy.targets import Target, parse_target
from gateway.proxy import Proxy
from gateway.telemetry import AccessEntry
from gateway.wire.exchange import Exchange
from gateway.wire.headers import credential_lines

NOTICE: Final = "observing: Core decides on every request, nothing is enforced here"

# How long a request may wait for the store to know its key.
_KNOWN_SECONDS: Final = 0.25


class ObservingForwarder(Forwarder):
    """Forwards requests as they came; tries the stamp on a copy of the body."""

    async def pass_on(
        self, exchange: Exchange, entry: AccessEntry, config: Config, stamping: tuple[Route, ApiKey] | None
    ) -> None:
        """Send the request to Core with the client's own credentials, and Core's answer to the client.

        `stamping` is the route and key by which the body would be stamped.
        Raises what `forward` raises.
        """
        if not self.open:
            raise GatewayError(Code.UPSTREAM_UNREACHABLE)
        if stamping is None:
            await self._send(exchange, entry, config, None)
            return
        limit = config.limits.body
        room = min(exchange.length, limit) if exchange.length is not None else limit
        try:
            self._budget.reserve(room)
        except GatewayError as refusal:
            _note(entry, refusal.code)
            await self._send(exchange, entry, config, None)
            return
        try:
            body = await self._tried(exchange, entry, config, *stamping)
            await self._send(exchange, entry, config, body)
        finally:
            self._budget.release(room)

    async def _send(self, exchange: Exchange, entry: AccessEntry, config: Config, body: bytes | None) -> None:
        head = self._head(exchange, entry, config, None) + credential_lines(exchange.raw_headers)
        if body is None and not exchange.complete:
            await self._exchange_streamed(exchange, entry, None, head)
        else:
            await self._exchange_whole(exchange, entry, None, head, exchange.held() if body is None else body)

    async def _tried(
        self, exchange: Exchange, entry: AccessEntry, config: Config, route: Route, key: ApiKey
    ) -> bytes | None:
        """The body, once its stamp was tried; None for one that is too large and still to be read."""
        limit = config.limits.body
        try:
            body = await exchange.read(limit)
        except GatewayError as refusal:
            if refusal.code is not Code.BODY_TOO_LARGE:
                raise
            _note(entry, refusal.code)
            return None
        try:
            stamped = await self._stamped(exchange, config, body, route, key)
        except GatewayError as refusal:
            _note(entry, refusal.code)
        else:
            if stamped != body and not entry.would_code:
                entry.decision = "would_stamp"
        return body


class ObservingProxy(Proxy):
    """Notes what would be answered or rewritten, and lets Core answer."""

    _forwarder: ObservingForwarder

    async def _answer(self, exchange: Exchange, entry: AccessEntry, began: float) -> None:
        config = self.config
        stamping = await self._stamping(exchange, entry, config)
        await self._forwarder.pass_on(exchange, entry, config, stamping)

    async def _stamping(
        self, exchange: Exchange, entry: AccessEntry, config: Config
    ) -> tuple[Route, ApiKey] | None:
        """Note the verdict; the route and the key by which the body would be stamped, if it would."""
        target = parse_target(exchange.target)
        if isinstance(target, Target):
            matched = config.routes.match(exchange.method, target.segments)
            entry.route = matched.name if matched is not None else ""
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
            _note(entry, refusal.code)
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
