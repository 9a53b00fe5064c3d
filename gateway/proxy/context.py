"""One request and all that its stages need of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.config import Config
from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import network_of
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Access, Route
from gateway.telemetry import AccessEntry
from gateway.wire.exchange import Exchange

_SAFE: Final = ("GET", "HEAD")


class SendPermission(Protocol):
    """Whether a request may still be sent, asked whenever its bytes leave."""

    def passes(self) -> bool:
        """True if it may, False where that cannot be told at once: then `renew`."""

    async def renew(self) -> None:
        """Return if it may be sent, else raise."""


class RequestContext:
    """A request on its way; a `wire.upstream.Call` once it is admitted.

    Args:
        exchange: its client's side.
        entry: its line in the log; its client is known.
        config: the configuration that it began with.
        late: told how it ended at Core where its time was over before: the status, or None where the
            connection broke.
    """

    __slots__ = (
        "_late",
        "bodiless",
        "client",
        "config",
        "entry",
        "exchange",
        "first_byte",
        "gate",
        "principal",
        "route",
    )

    route: Route
    """The route that it takes."""
    principal: Principal | None
    """Who calls; None on a public route."""
    gate: SendPermission | None
    """None where nothing can change meanwhile."""
    first_byte: float
    """Seconds until Core's response begins; 0 for the pool's own."""
    bodiless: bool
    """Whether its response has no body."""

    def __init__(
        self,
        exchange: Exchange,
        entry: AccessEntry,
        config: Config,
        late: Callable[[AccessEntry, int | None], None],
    ) -> None:
        self.exchange = exchange
        self.client = exchange
        self.entry = entry
        self.config = config
        self.bodiless = exchange.method == "HEAD"
        self._late = late

    def admit(self, route: Route, principal: Principal | None, gate: SendPermission | None = None) -> None:
        """Let the request take its route, as whom, and under which gate."""
        self.route = route
        self.principal = principal
        self.gate = gate
        self.first_byte = route.first_byte

    @property
    def streams(self) -> bool:
        """Whether a large body may go to Core as it comes: nobody needs one of a GET, or without a key."""
        return self.changes and self.route.access is not Access.PUBLIC

    # What the pool asks only where requests wait, or something fails.

    @property
    def party(self) -> str:
        """Whom its places and bytes are counted for: the key's id, or a client's network without a key."""
        if isinstance(self.principal, ApiKey):
            return self.principal.id
        return "master" if self.principal is not None else self.network

    @property
    def network(self) -> str:
        """The network of its client, for which its place is counted as well."""
        return network_of(self.entry.client)

    @property
    def changes(self) -> bool:
        """Whether it may change something at Core."""
        return self.exchange.method not in _SAFE

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent a second time: a GET without a body."""
        return self.exchange.method == "GET" and not self.exchange.bytes_in

    def give_up_body(self) -> None:
        """Refuse the request, whose body still comes: others need the bytes that it holds."""
        self.exchange.break_off(OverloadedError())

    def ended_late(self, status: int | None) -> None:
        """Tell how it ended at Core after its time."""
        self._late(self.entry, status)

    # What it asks of each request.

    def passes(self) -> bool:
        """Whether it may be sent, as far as is known at once."""
        return self.gate is None or self.gate.passes()

    async def renew(self) -> None:
        """Return if it may be sent, else raise what its gate raises."""
        if self.gate is not None:
            await self.gate.renew()
