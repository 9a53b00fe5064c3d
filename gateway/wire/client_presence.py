"""The presence of a client that waits for a response, and the time that it may keep the gateway waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.fairness.errors import OverloadedError
from gateway.wire.deadline_timer import NEVER
from gateway.wire.errors import ClientGoneError

HALF_CLOSED_SECONDS: Final = 0.5
"""The time for which a client that has ended its side still counts as waiting. Most have left; a few only say
that they send nothing more (`shutdown`)."""
STALLED_SECONDS: Final = 1.0
"""The time for which a client may keep the gateway waiting before another party can get what it holds."""


class ClientPresence(Protocol):
    """The client that waits for a response, as long as it is there."""

    @property
    def ended_at(self) -> float:
        """The time when the client ended its side, in seconds of the loop's clock; `NEVER` if it has not."""

    @property
    def gone(self) -> bool:
        """True if the client has closed the connection: nobody can take a response."""

    @property
    def abandoned(self) -> bool:
        """True if the client ended its side some time ago, so that nothing more is begun for it."""

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        """Call `react` when the client leaves or ends its side; None takes the last one back."""


def require_present(client: ClientPresence | None) -> None:
    """Raise ClientGoneError if the client is gone, OverloadedError if it has abandoned its request."""
    if client is None or client.ended_at == NEVER:
        return
    if client.gone:
        raise ClientGoneError
    if client.abandoned:
        raise OverloadedError
