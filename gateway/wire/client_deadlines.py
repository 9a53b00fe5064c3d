"""The phases of a client's connection, and the bounds of the client's side.

Not compiled: mypyc makes no enum whose members have an `__init__`.

Rules kept here:
- Each phase has its deadline in one table. A request that is whole has no deadline of its client's.
- A client of which nothing is read is looked for now and then: its end would not be seen otherwise.
- The phase follows from the state of the connection (`ClientConnection.advance`); the first that applies
  counts: CLOSED, SENDING, LINGERING, HELD, BODY, HANDLING, HEAD, HANDSHAKE or IDLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.wire.deadline_timer import NEVER
from gateway.wire.held_bytes import HELD_BYTES
from gateway.wire.timed_phase import TimedPhase

LINGER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.25
"""The time after which it is found out whether a client of which nothing is read is still there."""
SLOWEST: Final = 1024
"""Bytes a second of a body, or of a response, once the first deadline of that phase is over."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of the client's side: a count of connections, deadlines in seconds, bytes that all hold."""

    connections: int
    head: float
    body: float
    idle: float
    write: float
    held_bytes: int = HELD_BYTES


class ClientPhase(TimedPhase):
    """The phase of a client's connection, and the seconds that it may take."""

    HANDSHAKE = ("handshake", lambda limits: limits.head)
    """The TLS handshake is not done; its time begins when the connection is accepted."""
    IDLE = ("idle", lambda limits: limits.idle)
    """Nothing of a request has come."""
    HEAD = ("head", lambda limits: limits.head)
    """A part of a head has come."""
    BODY = ("body", lambda limits: limits.body)
    """A body comes. The time is from byte to byte, and for the whole body by the slowest pace."""
    HELD = ("held", lambda _: LOOK_SECONDS)
    """Nothing is read: a body is held back, or further requests wait. At its end the client is looked for."""
    HANDLING = ("handling", lambda _: NEVER)
    """A whole request is handled."""
    SENDING = ("sending", lambda limits: limits.write)
    """The client is to take its response: `write` seconds' worth of the slowest pace each time."""
    LINGERING = ("lingering", lambda _: LINGER_SECONDS)
    """All is sent. What still comes is thrown away, so that the client can read the response."""
    CLOSED = ("closed", lambda _: NEVER)
    """The client has left."""


# By their own names as well: to look a member up in its enum takes 0.1 us, and a request does so often.
HANDSHAKE, IDLE, HEAD, BODY, HELD, HANDLING, SENDING, LINGERING, CLOSED = ClientPhase
