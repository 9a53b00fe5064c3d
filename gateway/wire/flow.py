"""What connections of both sides know of each other: flow that can be held back, and a client that leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.fairness.errors import OverloadedError
from gateway.wire.deadlines import NEVER
from gateway.wire.errors import ClientGoneError


class Pausable(Protocol):
    """Something that can be told to hold back its bytes and to let them come again."""

    def pause_reading(self) -> None:
        """Hold back."""

    def resume_reading(self) -> None:
        """Let them come."""


HALF_CLOSED_SECONDS: Final = 0.5
"""How long a client that has ended its side still counts as one that waits: most have left, and a few only
say that they send nothing more (`shutdown`)."""


STALLED_SECONDS: Final = 1.0
"""How long a client may keep us waiting before what it holds can be taken for another party."""


class Client(Protocol):
    """Who waits for a response."""

    @property
    def ended_at(self) -> float:
        """When the client ended its side, in seconds of the pool's clock; `NEVER` for one that has not."""

    @property
    def gone(self) -> bool:
        """Whether nobody can take a response any more."""

    @property
    def abandoned(self) -> bool:
        """Whether the client has ended its side some time ago, so that nothing more is begun for it."""

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        """Call `react` when the client leaves or ends its side; None: nobody any more."""


def refuse_abandoned(client: Client | None) -> None:
    """Raise ClientGoneError where nobody waits, OverloadedError where most likely nobody does."""
    if client is None or client.ended_at == NEVER:
        return
    if client.gone:
        raise ClientGoneError
    if client.abandoned:
        raise OverloadedError
