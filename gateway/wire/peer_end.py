"""The end of a peer whose bytes are not read, as the kernel knows it.

Rules kept here:
- Nothing is read: what the peer sent before its end stays where it is.
"""

from __future__ import annotations

import asyncio
import enum
import select
from typing import Any, Final

# Only Linux has it. Elsewhere a peer that has ended its side is found once its bytes are read.
_SIDE_ENDED: Final[int] = getattr(select, "POLLRDHUP", 0)


class PeerEnd(enum.Enum):
    """What a peer has ended."""

    NOTHING = "it may send and receive"
    SIDE = "it sends nothing more"
    CONNECTION = "it neither sends nor receives"


def end_of_peer(transport: asyncio.Transport) -> PeerEnd:
    """Return what the peer of a socket has ended; nothing, if this side closes the connection already.

    An end is known once everything before it has arrived; a reset is known at once.
    """
    if transport.is_closing():
        return PeerEnd.NOTHING
    opened: Any = transport.get_extra_info("socket")
    kernel = select.poll()
    kernel.register(opened.fileno(), _SIDE_ENDED)
    events = [event for _, event in kernel.poll(0)]
    if not events:
        return PeerEnd.NOTHING
    return PeerEnd.CONNECTION if events[0] & (select.POLLHUP | select.POLLERR) else PeerEnd.SIDE
