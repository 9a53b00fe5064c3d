"""The end of a peer whose bytes are not read, as the kernel knows it.

Rules kept here:
- Nothing is read: what the peer sent before its end stays where it is.
- A peer that has only ended its side has not left: it may wait for responses to what is not read yet.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any


def has_left(transport: asyncio.Transport) -> bool:
    """Return True if the peer of a socket neither sends nor receives any more, as after a reset."""
    if transport.is_closing():
        return False
    opened: Any = transport.get_extra_info("socket")
    kernel = select.poll()
    # Of these the kernel always tells, whatever else is asked for.
    kernel.register(opened.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in kernel.poll(0))
