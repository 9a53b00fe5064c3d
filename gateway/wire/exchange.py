"""One request of a client and the response to it: the head, the body's way in, the response's way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.wire.errors import ClientGoneError
from gateway.wire.flow import Pausable
from gateway.wire.request_body import RequestBody
from gateway.wire.request_head import RequestHead


class ResponseWriter(Protocol):
    """The way out to the client."""

    def write(self, data: bytes) -> None:
        """Send bytes, if the client is still there."""

    def reset(self) -> None:
        """Break the connection so that the client sees it."""


class SourceControl(Protocol):
    """The flow control of a connection, as far as a response needs it."""

    def follow(self, source: Pausable | None) -> None:
        """Hold back `source` from now on while the client is slow; None: nothing any more."""


class ClientLink(Protocol):
    """The connection that an exchange takes place on."""

    peer: str
    scheme: str
    certificate: str
    subject: str
    ended_at: float
    gone: bool

    @property
    def writer(self) -> ResponseWriter:
        """The way out to the client."""

    @property
    def flow(self) -> SourceControl:
        """Its flow control."""

    @property
    def ending(self) -> bool:
        """True if no further request is taken."""

    @property
    def abandoned(self) -> bool:
        """True if the client ended its side some time ago."""


class Exchange:
    """One request of a client, and the response to it; a `ClientPresence`.

    `peer` is the address of the connection's other end, without its port, and `scheme` is `https` or `http`.
    `certificate` is the SHA-256, in hexadecimal, of the certificate that the client showed, and `subject` its
    subject; "" for none. `responded` says that a response has begun. Its `status` is 0 before that, and again
    once the response was cut.
    """

    __slots__ = (
        "_connection",
        "_head",
        "_react",
        "body",
        "bytes_out",
        "certificate",
        "headers",
        "keep_alive",
        "method",
        "minor",
        "peer",
        "responded",
        "scheme",
        "status",
        "subject",
        "target",
    )

    def __init__(self, connection: ClientLink, head: RequestHead, body: RequestBody) -> None:
        self._connection = connection
        self._head = head
        self._react: Callable[[], None] | None = None
        self.peer = connection.peer
        self.scheme = connection.scheme
        self.certificate = connection.certificate
        self.subject = connection.subject
        self.method = head.method
        self.target = head.target
        self.headers = head.headers
        self.minor = head.minor
        self.keep_alive = head.keep_alive
        self.body = body
        self.bytes_out = 0
        self.responded = False
        self.status = 0

    def about(self, method: str, target: str) -> Exchange:
        """Return the exchange of another request that this one asks about, which showed no certificate."""
        other = Exchange(self._connection, self._head.asking(method, target), self.body)
        other.certificate = ""
        return other

    # The client's presence.

    @property
    def ended_at(self) -> float:
        """The time when the client ended its side, in seconds of the loop's clock; `NEVER` if it has not."""
        return self._connection.ended_at

    @property
    def gone(self) -> bool:
        """True if the client has closed the connection: nobody can take a response."""
        return self._connection.gone

    @property
    def abandoned(self) -> bool:
        """True if the client ended its side some time ago, so that nothing more is begun for it."""
        return self._connection.abandoned

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        """Call `react` when the client leaves or ends its side; None takes the last one back."""
        self._react = react

    def leave(self) -> None:
        """Take note that the client has left, or has ended its side."""
        self.body.break_off(ClientGoneError())
        if self._react is not None:
            self._react()

    # The response's way out.

    def settle_keep_alive(self) -> bool:
        """Decide whether the connection goes on after the response; to be called when its head is made."""
        if not self.body.complete or self._connection.ending:
            self.keep_alive = False
        return self.keep_alive

    def end_with_connection(self) -> bool:
        """Let the connection end after the response; return False, as `settle_keep_alive` does then."""
        self.keep_alive = False
        return False

    def send(self, head: bytes, body: bytes, status: int) -> None:
        """Send a whole response."""
        self.responded = True
        self.status = status
        self.bytes_out += len(body)
        self._connection.writer.write(head + body if body else head)

    def begin(self, head: bytes, status: int, source: Pausable) -> None:
        """Send the head of a response whose body follows by `write`; `source` is held back if need be."""
        self.responded = True
        self.status = status
        self._connection.flow.follow(source)
        self._connection.writer.write(head)

    def write(self, data: bytes, size: int) -> None:
        """Send `size` bytes of the body, framed as `data`."""
        self.bytes_out += size
        self._connection.writer.write(data)

    def finish(self) -> None:
        """Take note that the response is whole."""
        self._connection.flow.follow(None)

    def cut(self) -> None:
        """Break the connection: the response cannot be made whole."""
        self.keep_alive = False
        self.status = 0
        self._connection.writer.reset()
