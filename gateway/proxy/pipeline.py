"""One request, top to bottom: who calls, may they, send it on or answer it here, note it down.

Rules kept here:
- The order is the design's: public route, key, target, route, scope, body, Core, answer, log.
- Without a live key nothing but 401 is said (503 where the store cannot tell).
- One answer for each request, one log line, one set of metrics.
- `config` is read once for each request, so a reload never splits one.
- Whether a key may make its request is judged again when bytes leave for Core later than that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final, Protocol

from gateway.config import Config
from gateway.errors import Code, GatewayError
from gateway.fairness.concurrency import ConcurrencyLimit
from gateway.keys.api.resource import ApiResponse, KeysResource
from gateway.keys.authority import Authority
from gateway.keys.cache import CACHED_VALID_SECONDS, LOOKUP_VALID_SECONDS
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError, UnreadableListError
from gateway.keys.usage import LastUsed
from gateway.policy.decisions import Deny, decide
from gateway.policy.principals import MASTER, ApiKey, Principal
from gateway.policy.routes import Route
from gateway.policy.targets import Ambiguous, Target, parse_target
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import RateLimitedError, code_of, message_of
from gateway.proxy.forward import CoreObserver, Forwarder
from gateway.proxy.limits import RateLimit
from gateway.proxy.reauthorize import Clocks, DeniedMeanwhileError, RequestRecheck
from gateway.telemetry import AccessEntry
from gateway.telemetry.scope_use import ScopeUse
from gateway.wire.client_address import client_of
from gateway.wire.errors import ClientGoneError, UpstreamTimeoutError, UpstreamUnreachableError
from gateway.wire.exchange import Exchange
from gateway.wire.response_heads import connection_line, own_head, refusal

_KEY: Final = "X-Blnk-Key"
_ELSEWHERE: Final = frozenset({b"x-blnk-key", b"authorization", b"x-api-key"})
# Reading and granting scopes is one step of the event loop: 1 MiB of them would hold it for 180 ms.
_KEYS_BODY: Final = 1 << 16
_LISTS: Final = 2
"""Lists of keys that are made at once: the largest that a client can cause has 18 MB."""
_LISTS_WAITING: Final = 8
"""Further ones that the keys of one owner may have waiting."""


class Observer(CoreObserver, Protocol):
    """Who is told what the proxy sees of its dependencies."""

    def record(self, entry: AccessEntry) -> None:
        """A request has ended."""

    def store_failed(self, failure: GatewayError | None) -> None:
        """The key store answered (None), or failed."""

    def keys_changed(self, entry: AccessEntry, answer: ApiResponse) -> None:
        """A request to `/api-keys` has made or revoked keys."""

    def fault(self, problem: Exception) -> None:
        """The gateway itself failed."""

    def ended_late(self, entry: AccessEntry, status: int | None) -> None:
        """Core ended a request whose time was over; `status` is None where the connection broke."""


class Proxy:
    """Handles the exchanges of all clients. `config` is replaced whole, never changed."""

    def __init__(
        self,
        config: Config,
        forwarder: Forwarder,
        *,
        keys: Authority,
        api_keys: KeysResource,
        last_used: LastUsed,
        scope_use: ScopeUse,
        observer: Observer,
        clocks: Clocks,
        request_ids: Callable[[], str],
    ) -> None:
        self.config = config
        self._forwarder = forwarder
        self._keys = keys
        self._api_keys = api_keys
        self._last_used = last_used
        self._scope_use = scope_use
        self._observer = observer
        self.clocks = clocks
        self._unix = clocks.unix
        self._monotonic = clocks.monotonic
        self._request_ids = request_ids
        self._rate = RateLimit(config.limits.rate)
        self._lists = ConcurrencyLimit(1, total=_LISTS, waiting=_LISTS_WAITING)

    def adopt(self, config: Config) -> None:
        """Answer by `config` from the next request on."""
        self.config = config
        self._rate.follow(config.limits.rate)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request. Raises nothing."""
        began = self._monotonic()
        entry = self._entry(exchange)
        try:
            await self._answer(exchange, entry, began)
        except GatewayError as failure:
            self._failed(exchange, entry, failure)
        except DeniedMeanwhileError as late:
            self._deny(exchange, entry, late.deny)
        except ClientGoneError:
            entry.status = 0
        except Exception as problem:  # the last resort: one request fails, not the gateway
            self._observer.fault(problem)
            self._failed(exchange, entry, GatewayError())
        entry.status = exchange.status
        entry.bytes_in = exchange.bytes_in
        entry.bytes_out = exchange.bytes_out
        entry.gateway_ms = (self._monotonic() - began) * 1000 - entry.upstream_ms
        self._observer.record(entry)

    def refusal(self, problem: GatewayError, peer: str) -> bytes:
        """The whole response to a request of `peer` that could not be read."""
        request_id, code = self._request_ids(), code_of(problem)
        closing = b"Connection: close\r\n"
        head, body = refusal(code, message_of(problem), request_id.encode(), closing, self._unix())
        entry = AccessEntry(
            time=self._unix(),
            request_id=request_id,
            client=peer,
            decision="deny",
            code=code.code,
            status=code.status,
            bytes_out=len(body),
        )
        self._observer.record(entry)
        return head + body

    def _entry(self, exchange: Exchange) -> AccessEntry:
        headers = exchange.headers
        return AccessEntry(
            time=self._unix(),
            request_id=self._request_id(exchange),
            client=self._client(exchange),
            user_agent=headers.get("User-Agent", ""),
            method=exchange.method,
            path=exchange.target.partition("?")[0],
        )

    async def _answer(self, exchange: Exchange, entry: AccessEntry, began: float) -> None:
        target = parse_target(exchange.target)
        config = self.config
        context = RequestContext(exchange, entry, config, self._observer.ended_late)
        if isinstance(target, Target):
            public = config.routes.public(exchange.method, target.segments)
            if public is not None:
                entry.route, entry.decision = public.name, "allow"
                context.admit(public, None)
                await self._forwarder.forward(context)
                return
        principal = self.identify(exchange)
        relied_until = began + CACHED_VALID_SECONDS
        if not isinstance(principal, ApiKey):
            # A request without a good key, or whose key the store cannot look up, has a route as well.
            entry.route = _label(exchange.method, target, config)
        if isinstance(principal, tuple):
            principal = await self.look_up(*principal)
            relied_until = self._monotonic() + LOOKUP_VALID_SECONDS
        if isinstance(principal, Deny):
            self._deny(exchange, entry, principal)
            return
        route = self._admit(entry, principal, target, config)
        if isinstance(route, Deny):
            entry.route = _label(exchange.method, target, config)
            self._deny(exchange, entry, route)
            return
        judgement = None
        if isinstance(principal, ApiKey):
            judgement = RequestRecheck(self, exchange, target, config, principal, relied_until)
        context.admit(route, principal, judgement)
        if route.served and isinstance(target, Target):
            await self._serve_keys(context, principal, target)
        else:
            await self._forwarder.forward(context)

    def _admit(
        self, entry: AccessEntry, principal: Principal, target: Target | Ambiguous, config: Config
    ) -> Route | Deny:
        """The route that the request may take. Raises RateLimitedError."""
        now = self._unix()
        if isinstance(principal, ApiKey):
            entry.key_id, entry.owner = principal.id, principal.owner
        else:
            entry.key_id = "master"
        decision = decide(principal, entry.method, target, config.routes, now, config.keys.report_only)
        if isinstance(decision, Deny) and decision.code.status == 401:
            # Without a live key nothing else is said.
            return decision
        # What is refused counts as well, or floods of 403 and 404 would be free.
        if not self._rate.allows(entry.key_id, self._monotonic()):
            entry.route, entry.decision = _label(entry.method, target, config), "rate_limited"
            raise RateLimitedError
        if isinstance(decision, Deny):
            return decision
        route = decision.route
        entry.route, entry.decision = route.name, "allow"
        if isinstance(principal, ApiKey):
            self._last_used.note(principal.id, now)
            self._scope_use.note(principal.id, route.name)
            if decision.would_deny is not None:
                entry.decision, entry.would_code = "would_deny", decision.would_deny.code.code
        return route

    # Who is calling.

    def identify(self, exchange: Exchange) -> Principal | Deny | tuple[str, str, str]:
        """Who calls, as far as is known here; digest, key and client where somebody has to be asked."""
        values = exchange.headers.getall(_KEY, ())
        if len(values) != 1:
            return _keyless(exchange, len(values))
        key = values[0].strip()
        if not key:
            return _refuse(Code.MISSING_KEY)
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        if hmac.compare_digest(digest, self._forwarder.master.digest):
            return MASTER if self.config.keys.master == "accept" else _refuse(Code.INVALID_KEY)
        return self._keys.peek(digest) or (digest, key, self._client(exchange))

    async def look_up(self, digest: str, key: str, client: str) -> Principal | Deny:
        """Who calls, by the authority of keys. Raises GatewayError where it cannot tell."""
        known = await self._keys.find(digest, key, client)
        self._observer.store_failed(None)
        return known if known is not None else _refuse(Code.INVALID_KEY)

    # What the gateway answers itself.

    async def _serve_keys(self, context: RequestContext, principal: Principal, target: Target) -> None:
        exchange, method = context.exchange, context.route.method
        if method == "POST":
            body = await self._read_keys_body(context)
            if isinstance(context.gate, RequestRecheck):
                # Its scopes and its owner may be others than when its request began.
                principal = context.gate.principal
            made = await self._api_keys.create(principal, body)
        elif method == "GET":
            # The master key lists any owner's keys, and has turns of its own.
            async with self._lists.turn(principal.owner if isinstance(principal, ApiKey) else ""):
                if exchange.gone:
                    raise ClientGoneError
                made = await self._api_keys.list(principal, target.query)
        else:
            made = await self._api_keys.revoke(principal, target.segments[1], target.query)
        self._observer.store_failed(None)
        if isinstance(made, ApiResponse):
            if made.created or made.revoked:
                self._observer.keys_changed(context.entry, made)
            self._send_own(exchange, context.entry, made)
        else:
            self._deny(exchange, context.entry, made)

    async def _read_keys_body(self, context: RequestContext) -> bytes:
        """The body, of a request that may still be served once it is whole."""
        exchange, hold = context.exchange, self._forwarder.hold(context)
        hold.comes(context.give_up_body)
        try:
            body = await exchange.read(_KEYS_BODY, hold)
        finally:
            hold.release()
        if not context.passes():
            await context.renew()
        if exchange.gone or exchange.abandoned:
            raise ClientGoneError
        return body

    def _send_own(self, exchange: Exchange, entry: AccessEntry, made: ApiResponse) -> None:
        connection = connection_line(persistent=exchange.settle_keep_alive(), minor=exchange.minor)
        head = own_head(made.status, len(made.body), entry.request_id.encode(), connection, self._unix())
        exchange.send(head + b"\r\n", made.body, made.status)

    def _deny(self, exchange: Exchange, entry: AccessEntry, deny: Deny) -> None:
        entry.decision = "deny"
        if deny.route is not None:
            entry.route = deny.route.name
        self._refuse(exchange, entry, deny.code, deny.message)

    def _failed(self, exchange: Exchange, entry: AccessEntry, failure: GatewayError) -> None:
        code = code_of(failure)
        if isinstance(failure, (UpstreamUnreachableError, UpstreamTimeoutError, UnreadableListError)):
            self._observer.upstream(failure)
        elif isinstance(failure, KeysUnavailableError) and not isinstance(failure, LookupOverloadError):
            self._observer.store_failed(failure)
        entry.code = code.code
        if exchange.answered:
            exchange.cut()
            return
        self._refuse(exchange, entry, code, message_of(failure))

    def _refuse(self, exchange: Exchange, entry: AccessEntry, code: Code, message: str) -> None:
        entry.code = code.code
        connection = connection_line(persistent=exchange.settle_keep_alive(), minor=exchange.minor)
        head, body = refusal(code, message, entry.request_id.encode(), connection, self._unix())
        exchange.send(head, b"" if exchange.method == "HEAD" else body, code.status)

    def _client(self, exchange: Exchange) -> str:
        """The client's address; behind a trusted proxy it is what that one says of it."""
        peer = exchange.peer
        if not self.config.trusted_proxies:
            return peer
        return client_of(peer, exchange.headers.getall("X-Forwarded-For", ()), self.config.trusts)

    def _request_id(self, exchange: Exchange) -> str:
        if self.config.trusts(exchange.peer):
            given: str = exchange.headers.get("X-Request-Id", "")
            if 0 < len(given) <= 128 and given.isascii() and given.isprintable():
                return given
        return self._request_ids()


def _label(method: str, target: Target | Ambiguous, config: Config) -> str:
    """The name of the route that a request would take, for log and metrics; "" if none is listed."""
    route = config.routes.match(method, target.segments) if isinstance(target, Target) else None
    return "" if route is None else route.name


def _refuse(code: Code) -> Deny:
    return Deny(code, code.message)


def _keyless(exchange: Exchange, count: int) -> Deny:
    if count == 0 and not any(
        name.lower().replace(b"_", b"-") in _ELSEWHERE and value for name, value in exchange.raw_headers
    ):
        return _refuse(Code.MISSING_KEY)
    return _refuse(Code.INVALID_KEY)
