"""Bytes of one client in, its requests out, in order.

Rules kept here:
- Requests of one connection are handled one after the other; reading stops while any waits.
- One turn of the event loop parses a bounded number of bytes (`parse_budget`). A body of known length is only
  copied, and does not count.
- Nothing is read behind the last request of a connection.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.wire.body_framing import FramedBody
from gateway.wire.deadline_timer import Deadlines
from gateway.wire.exchange import ClientLink, Exchange
from gateway.wire.flow import FlowControl
from gateway.wire.parse_budget import PIECE, ParseBudget
from gateway.wire.request_body import RequestBody
from gateway.wire.request_head import RequestHead
from gateway.wire.request_parser import RequestReader
from gateway.wire.request_queue import RequestQueue


class InputState(enum.Enum):
    """The use of the bytes that a client sends."""

    OPEN = "open"
    """They are read as requests."""
    IGNORED = "ignored"
    """They are thrown away: the connection takes no further request."""
    LINGERING = "lingering"
    """They are thrown away, and all is sent."""
    ENDED = "ended"
    """None can come."""


# By their own names as well: to look a member up in its enum takes 0.1 us, and a request does so often.
OPEN: Final = InputState.OPEN
IGNORED: Final = InputState.IGNORED
LINGERING: Final = InputState.LINGERING
ENDED: Final = InputState.ENDED


class InputOwner(Protocol):
    """The owner of all connections, as far as an input needs it."""

    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    parse_budget: ParseBudget


class InputConnection(ClientLink, Protocol):
    """The connection that an input is of."""

    party: str
    counted: int

    @property
    def flow(self) -> FlowControl:
        """Its flow control."""

    def advance(self) -> None:
        """Enter the phase that the connection is in now."""

    def count(self) -> None:
        """Count what the connection holds."""


class ClientInput:
    """The requests of one connection; `receiving` is the one whose body still comes."""

    __slots__ = (
        "_budget",
        "_connection",
        "_deadlines",
        "_flow",
        "_queue",
        "_reader",
        "_unparsed",
        "loop",
        "receiving",
        "state",
        "writer",
    )

    def __init__(self, connection: InputConnection, queue: RequestQueue, owner: InputOwner) -> None:
        self._connection = connection
        self._flow = connection.flow
        self._queue = queue
        self._deadlines = owner.deadlines
        self._budget = owner.parse_budget
        self._reader = RequestReader()
        # What was read and waits for its turn to be parsed.
        self._unparsed = b""
        self.loop = owner.loop
        self.writer = connection.writer
        self.state = OPEN
        self.receiving: Exchange | None = None

    @property
    def party(self) -> str:
        """The party that the connection is counted for."""
        return self._connection.party

    @property
    def head_begun(self) -> bool:
        """True if a part of a head has come, parsed or waiting for its turn."""
        return self._reader.head_begun or bool(self._unparsed)

    @property
    def held(self) -> int:
        """Bytes that are held of requests that are not whole."""
        held = self._reader.held + len(self._unparsed)
        return held if self.receiving is None else held + self.receiving.body.unasked

    # Bytes in.

    def receive(self, data: bytes) -> None:
        """Parse what may be parsed at once, and let the rest wait for its turn."""
        if self.state is not OPEN:
            return
        if not self._unparsed:
            data = self._parse_at_once(data)
            if self.state is not OPEN or not (data or self._unparsed):
                return
        self._unparsed += data
        self.pause_reading()
        self._budget.wait(self)
        self._connection.count()

    def _parse_at_once(self, data: bytes) -> bytes:
        """Parse what need not wait for its turn; return the rest."""
        if not self._is_of_body(data):
            if not self._budget.take(min(len(data), PIECE)):
                return data
            piece, data = data[:PIECE], data[PIECE:]
            self._parse(piece)
            # A body behind a request that waits has to wait as well: whole, it would not count as held.
            if not data or self._queue.behind or not self._is_of_body(data):
                return data
        self._parse(data)
        return b""

    def parse_next(self) -> int:
        """Parse a piece of what waits for its turn; return how many bytes it was."""
        if not self._unparsed or self._queue.behind:
            # What is behind requests that wait is parsed once they have been handled.
            return 0
        size = len(self._unparsed) if self._is_of_body(self._unparsed) else PIECE
        piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        self._parse(piece)
        if not self._queue.behind:
            self.resume_reading()
        return len(piece)

    def _is_of_body(self, data: bytes) -> bool:
        """Return True if all of `data` is of a body whose length is known: that is only copied."""
        if self.receiving is None:
            return False
        body = self.receiving.body
        return body.length is not None and len(data) <= body.length - body.bytes_in

    def _parse(self, data: bytes) -> None:
        """Parse bytes and queue the requests that they complete."""
        try:
            requests = self._reader.feed(data)
        except GatewayError as problem:
            self.refuse(problem)
            return
        unread = self._reader.take_unread()
        if unread:
            self._unparsed = unread + self._unparsed
        receiving = self.receiving
        if receiving is not None:
            receiving.body.take()
            if receiving.body.complete:
                self.receiving = None
                if not receiving.keep_alive:
                    self.ignore()
        for head, framed in requests:
            if self.state is not OPEN:
                break
            self._accept(head, framed)
        if self._queue.behind:
            self.pause_reading()
        connection = self._connection
        connection.advance()
        if connection.counted or self.receiving is not None or not requests:
            connection.count()

    def _accept(self, head: RequestHead, framed: FramedBody) -> None:
        """Queue a request."""
        body = RequestBody(self, head, framed, self._deadlines.now)
        exchange = Exchange(self._connection, head, body)
        if head.length != 0:
            body.take()
        if not body.complete:
            self.receiving = exchange
        if body.complete and not exchange.keep_alive:
            self.ignore()
        self._queue.put(exchange)

    def refuse(self, problem: GatewayError) -> None:
        """Refuse what cannot be read, behind the responses that are due before it."""
        self.ignore()
        receiving, self.receiving = self.receiving, None
        if receiving is not None:
            receiving.body.break_off(problem)
            self._queue.notify()
        else:
            self._queue.put(problem)
            if self._queue.current is not None:
                self.pause_reading()
        self._connection.advance()
        self._connection.count()

    # What becomes of further bytes.

    def ignore(self) -> None:
        """Read no further request; drop what is held of one that is not whole, or not read yet."""
        if self.state is OPEN:
            self.state = IGNORED
            self._unparsed = b""
            self._reader.close()

    def linger(self) -> None:
        """Throw away what still comes, once all is sent."""
        self.state = LINGERING
        self.receiving = None
        self._flow.resume_reading(self._deadlines.now)

    def end(self) -> None:
        """Take note that the client sends no more; drop what is held of requests that are not whole."""
        self.state = ENDED
        self._unparsed = b""
        self._reader.close()

    def leave(self) -> None:
        """Tell the requests on the connection that the client has left, or has ended its side."""
        receiving, current = self.receiving, self._queue.current
        if receiving is not None and receiving is not current:
            receiving.leave()
        if current is not None:
            current.leave()

    # Flow control, for the body.

    def pause_reading(self) -> None:
        """Stop reading; a client that is held back has no deadline."""
        if self._flow.pause_reading(self._deadlines.now):
            self._connection.advance()

    def resume_reading(self) -> None:
        """Read on, unless requests wait; what was read before and waits for its turn comes first."""
        if self._unparsed:
            self._budget.wait(self)
        elif self.state is not ENDED and self._flow.paused:
            paused = self._flow.resume_reading(self._deadlines.now)
            if self.receiving is not None:
                self.receiving.body.was_held_back(paused)
        self._connection.advance()
