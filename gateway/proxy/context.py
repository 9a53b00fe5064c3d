"""One request, and all that the stages of the pipeline know of it."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.config import Config
from gateway.fairness.shares import network_of
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Route
from gateway.policy.targets import parse_target
from gateway.policy.values import Ambiguous, Target
from gateway.proxy.body_budget import Hold
from gateway.telemetry import AccessEntry
from gateway.telemetry.trace_context import TraceContext
from gateway.wire.exchange import Exchange

_SAFE: Final = ("GET", "HEAD")


class Recheck(Protocol):
    """Tells whether an admitted request may still be sent; asked whenever its bytes leave for Core."""

    def passes(self, context: RequestContext) -> bool:
        """Return True if it may be sent; False if it may not, or if that must be asked: then call `renew`."""

    async def renew(self, context: RequestContext) -> None:
        """Return if it may be sent, else raise."""


class CountedUse(Protocol):
    """Counts the requests of a key that are in progress."""

    def leave(self) -> None:
        """Count a request as ended."""


class LateEnding(Protocol):
    """Observes how Core ended a request whose time was over."""

    def ended_late(self, entry: AccessEntry, status: int | None) -> None:
        """Take note of the status; None where the connection broke."""


class RequestContext:
    """A request on its way; a `wire.upstream_request.UpstreamRequest` once it is admitted.

    Args:
        exchange: the client's side of it.
        entry: its line in the log; the client's address is known.
        config: the configuration that it began with, which holds to its end.
        observer: observes a late ending.
        began: when it began (monotonic seconds).

    Attributes:
        target: the request target as it can be read, or that it is ambiguous.
        route: the route that it takes, once it is admitted.
        principal: the caller; None on a public route, and where Core decides.
        recheck: None where nothing can change meanwhile.
        valid_until: until when the principal counts without a new look (monotonic seconds).
        first_byte: seconds until Core's response begins; 0 for the pool's own.
        bodiless: True if its response has no body.
        trace: its trace; None if requests are not traced.
        sent: when it was given to the connections to Core (monotonic seconds); 0 if nothing of it was sent.
        hold: the bytes that its body holds of the budget; None for none.
        limit_lines: the header lines that tell the client about the limit of its key; empty without one.
        use: counts it as in progress; None for a key without a limit.
    """

    __slots__ = (
        "_observer",
        "began",
        "bodiless",
        "client",
        "config",
        "entry",
        "exchange",
        "first_byte",
        "hold",
        "limit_lines",
        "principal",
        "recheck",
        "route",
        "sent",
        "target",
        "trace",
        "use",
        "valid_until",
    )

    route: Route
    principal: Principal | None
    recheck: Recheck | None

    def __init__(
        self, exchange: Exchange, entry: AccessEntry, config: Config, observer: LateEnding, began: float
    ) -> None:
        self.exchange = exchange
        self.client = exchange
        self.began = began
        self.entry = entry
        self.config = config
        self.target: Target | Ambiguous = parse_target(exchange.target)
        self.bodiless = exchange.method == "HEAD"
        self.hold: Hold | None = None
        self.trace: TraceContext | None = None
        self.sent = 0.0
        self.limit_lines = b""
        self.use: CountedUse | None = None
        self.valid_until = 0.0
        self._observer = observer

    def admit(self, route: Route, principal: Principal | None, recheck: Recheck | None = None) -> None:
        """Let the request take its route, as this principal, for as long as `recheck` lets it."""
        self.route = route
        self.principal = principal
        self.recheck = recheck
        self.first_byte = route.first_byte

    def reauthorized(self, principal: Principal, until: float) -> None:
        """Take note of the principal as it is now, which counts until then (monotonic seconds)."""
        self.principal = principal
        self.valid_until = until

    def hold_bytes(self, hold: Hold) -> Hold:
        """Count the body's bytes by `hold`, and return it."""
        self.hold = hold
        return hold

    def release_bytes(self) -> None:
        """Hold none of the body's bytes any more."""
        if self.hold is not None:
            self.hold.release()

    def release(self) -> None:
        """Hold none of the body's bytes any more, and count the request as ended."""
        self.release_bytes()
        if self.use is not None:
            self.use.leave()
            self.use = None

    # For the log.

    def label(self) -> None:
        """Name in the log the route that the request would take; nothing if none is listed."""
        route = self.matched_route
        self.entry.route = "" if route is None else route.name

    # For the stages.

    @property
    def public_route(self) -> Route | None:
        """The public route of the request, if it takes one."""
        if isinstance(self.target, Target):
            return self.config.routes.public(self.exchange.method, self.target.segments)
        return None

    @property
    def matched_route(self) -> Route | None:
        """The route that lists the request, if one does."""
        if isinstance(self.target, Target):
            return self.config.routes.match(self.exchange.method, self.target.segments)
        return None

    # For the pool, which asks only where requests wait, or something fails.

    @property
    def party(self) -> str:
        """The party its slots and bytes are counted for: the key's id, or without a key the network."""
        if isinstance(self.principal, ApiKey):
            return self.principal.id
        return "master" if self.principal is not None else self.network

    @property
    def network(self) -> str:
        """The network of its client, for which its place is counted as well."""
        return network_of(self.entry.client)

    @property
    def changes(self) -> bool:
        """True if it may change something at Core."""
        return self.exchange.method not in _SAFE

    @property
    def repeatable(self) -> bool:
        """True if it may be sent a second time: a GET without a body."""
        return self.exchange.method == "GET" and not self.exchange.body.bytes_in

    def unsent(self) -> None:
        """Take note that nothing of it was sent."""
        self.sent = 0.0

    def ended_late(self, status: int | None) -> None:
        """Report how it ended at Core after its time."""
        self._observer.ended_late(self.entry, status)

    # For the pool, which asks of each request.

    def passes(self) -> bool:
        """Return True if it may be sent, as far as is known at once."""
        return self.recheck is None or self.recheck.passes(self)

    async def renew(self) -> None:
        """Return if it may be sent, else raise what its recheck raises."""
        if self.recheck is not None:
            await self.recheck.renew(self)
