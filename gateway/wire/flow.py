"""What connections of both sides know of each other: flow that can be held back, and a client that leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Flow(Protocol):
    """Something that can be told to hold back its bytes and to let them come again."""

    def pause_reading(self) -> None:
        """Hold back."""

    def resume_reading(self) -> None:
        """Let them come."""


class ClientGoneError(Exception):
    """The client left before its request was whole, or before anything of it was sent to Core."""


class Client(Protocol):
    """Who waits for a response."""

    @property
    def gone(self) -> bool:
        """Whether nobody can take a response any more."""

    @property
    def half_closed(self) -> bool:
        """Whether the client has ended its side: it has left, or it only says that it sends nothing more."""

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        """Call `react` when the client leaves or ends its side; None: nobody any more."""
