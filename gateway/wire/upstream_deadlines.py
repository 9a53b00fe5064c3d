"""The phases of a connection to Core, and the bounds of the pool that the connections belong to.

Not compiled: mypyc makes no enum whose members have an `__init__`.

Rules kept here:
- Each phase has its deadline in one table.

Ways between the phases:
- IDLE, CLAIMED -> WAITING: a whole request is sent; -> UPLOADING: a head is sent, and its body follows.
- UPLOADING <-> CLOGGED: Core takes no more of the body, and takes more again.
- UPLOADING, CLOGGED -> WAITING: the last byte of the body is sent.
- WAITING -> HALF_CLOSED: the client ends its side, and the request changes nothing.
- WAITING, HALF_CLOSED -> READING: the response begins. READING -> WAITING: it was an interim one.
- READING <-> HELD: the client does not take the response, and takes more again.
- WITH_CORE -> DETACHED: the time of a request is over that may change something.
- WAITING -> CLAIMED: the request was not sent after all.
- any -> IDLE: the response is whole, or nothing was sent. Every other end closes the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.wire.client_presence import HALF_CLOSED_SECONDS
from gateway.wire.deadline_timer import NEVER
from gateway.wire.timed_phase import TimedPhase


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool: counts, and deadlines in seconds; `connect` includes the wait for a free slot.

    `queue_wait` is about the longest wait for a slot while requests wait all the time; 0 for no less.
    """

    connections: int
    queue: int
    connect: float
    first_byte: float
    between_bytes: float
    idle: float
    age: float = 300.0
    """The age at which a connection is not used again: a name that moves is followed under load, too."""
    queue_wait: float = 0.0


class UpstreamPhase(TimedPhase):
    """The phase of a connection to Core, and the seconds that it may take."""

    CLAIMED = ("claimed", lambda _: NEVER)
    """A request has the connection, and nothing of it was sent."""
    UPLOADING = ("uploading", lambda _: NEVER)
    """The request's body comes from its client, whose own deadline applies."""
    CLOGGED = ("clogged", lambda limits: limits.between_bytes)
    """The body is held back: Core takes no more of it for now."""
    WAITING = ("waiting", lambda limits: limits.first_byte)
    """The request is sent. Nothing of the response has come but interim ones (RFC 9110 section 15.2)."""
    HALF_CLOSED = ("half closed", lambda _: HALF_CLOSED_SECONDS)
    """As WAITING, for a request that changes nothing and whose client has ended its side."""
    READING = ("reading", lambda limits: limits.between_bytes)
    """The response comes: its head in all, and then each part of its body."""
    HELD = ("held", lambda _: NEVER)
    """The response is held back for its client, whose own deadline applies."""
    DETACHED = ("detached", lambda _: NEVER)
    """The request's time is over. It runs to its end without its caller."""
    IDLE = ("idle", lambda limits: limits.idle)
    """No request has the connection."""


# By their own names as well: to look a member up in its enum takes 0.1 us, and a request does so often.
CLAIMED, UPLOADING, CLOGGED, WAITING, HALF_CLOSED, READING, HELD, DETACHED, IDLE = UpstreamPhase

OF_RESPONSE: Final = (WAITING, HALF_CLOSED, READING)
"""The phases in which Core is to give something of the response."""
WITH_CORE: Final = (WAITING, HALF_CLOSED, READING, HELD)
"""The phases in which Core has the whole request."""
WITH_CLIENT: Final = (UPLOADING, HELD)
"""The phases in which the client is to give or to take something."""
