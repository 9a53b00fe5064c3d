"""A request to Core as the pool sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.wire.client_presence import ClientPresence
from gateway.wire.slot_shares import SlotHolder


class UpstreamRequest(SlotHolder, Protocol):
    """A request that is sent to Core on one of the pool's connections."""

    @property
    def changes(self) -> bool:
        """True if the request may change something at Core."""

    @property
    def repeatable(self) -> bool:
        """True if it may be sent a second time, where a reused connection gave no byte."""

    @property
    def bodiless(self) -> bool:
        """True if its response has no body."""

    @property
    def first_byte(self) -> float:
        """Seconds until the response begins; 0 for the pool's own limit."""

    def passes(self) -> bool:
        """Return True if it may be sent, False if that cannot be told at once: then call `renew`."""

    async def renew(self) -> None:
        """Return if it may be sent, else raise."""

    def unsent(self) -> None:
        """Take note that nothing of it was sent, for want of a slot, a client or a permission."""

    def ended_late(self, status: int | None) -> None:
        """Take the status of a response that came after the request's time; None if the connection broke."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnRequest:
    """A request of the gateway's own: it has no client that could leave, and it may always be sent."""

    party: str = "gateway"
    network: str = "gateway"
    changes: bool = False
    repeatable: bool = False
    bodiless: bool = False
    first_byte: float = 0.0
    client: ClientPresence | None = None

    def passes(self) -> bool:
        """Return True."""
        return True

    async def renew(self) -> None:
        """Return at once."""

    def unsent(self) -> None:
        """Drop this."""

    def ended_late(self, status: int | None) -> None:
        """Drop the status."""
