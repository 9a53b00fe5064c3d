"""Core's bytes in, responses out: one response at a time.

Rules kept here:
- A response without a length ends with its connection; anything else that the end meets was cut short.
- A connection on which a byte comes behind a whole response is not used again.
"""

from __future__ import annotations

import enum
from typing import Final

from gateway.wire.body_framing import ChunkedBody, FramedBody, SizedBody
from gateway.wire.connect_errors import unparsable, unreachable
from gateway.wire.errors import BadFramingError
from gateway.wire.grammar import has_stray, head_end
from gateway.wire.upstream_head import HeadReader, UpstreamHead
from gateway.wire.upstream_response import ResponseSource, UpstreamResponse

_INTERIM: Final = 200
_MAX_HEAD: Final = 256 * 1024
_BEGINNING: Final = b"HTTP/1."


class Part(enum.Enum):
    """The part of a response that comes next, or is coming."""

    NONE = "nothing has begun, or only interim responses have come"
    HEAD = "head"
    BODY = "body"
    BODY_UNTIL_CLOSE = "a body that ends with the connection"
    WHOLE = "the response is whole"
    SURPLUS = "more has come behind it, and is dropped"


# By their own names as well: to look a member up in its enum takes 0.1 us, and a request does so often.
NONE: Final = Part.NONE
HEAD: Final = Part.HEAD
BODY: Final = Part.BODY
BODY_UNTIL_CLOSE: Final = Part.BODY_UNTIL_CLOSE
WHOLE: Final = Part.WHOLE
SURPLUS: Final = Part.SURPLUS
_IN_HEAD: Final = (NONE, HEAD)
_BEHIND: Final = (WHOLE, SURPLUS)


class ResponseParser:
    """Reads the responses of one connection.

    `response` is there once its head is whole. `silent` says that no byte has come since `expect`.
    """

    __slots__ = (
        "_bodiless",
        "_body",
        "_heads",
        "_held",
        "_persistent",
        "_source",
        "part",
        "response",
        "silent",
    )

    def __init__(self, heads: HeadReader) -> None:
        self._heads = heads
        self._source: ResponseSource | None = None
        # The body that comes, and what came of a head, or of a line of its framing, that is not whole.
        self._body: FramedBody | None = None
        self._held = b""
        self._bodiless = False
        self._persistent = True
        self.part = NONE
        self.response: UpstreamResponse | None = None
        self.silent = True

    def expect(self, source: ResponseSource, *, bodiless: bool) -> None:
        """Begin to read the response that comes from `source`; `bodiless` if its head alone comes."""
        self._source = source
        self._bodiless = bodiless
        self.part = NONE
        self.silent = True

    def feed(self, data: bytes) -> None:
        """Parse bytes. Raises UpstreamUnreachableError if they are no HTTP response."""
        first, self.silent = self.silent, False
        try:
            self._feed(data)
        except BadFramingError:
            raise unreachable(unparsable(data if first else b"")) from None

    def end(self) -> bool:
        """Take the end of the connection; return True if it is the end of the response's body."""
        if self.part is not BODY_UNTIL_CLOSE:
            return False
        self._finish()
        return True

    def conclude(self) -> bool:
        """Let go of a response that is whole; return True if another one may follow on the connection."""
        self._source = None
        self.response = None
        return self._persistent

    def close(self) -> None:
        """Let go of the source, and of what is held; nothing may be fed any more."""
        self._source = self._body = None
        self._held = b""

    def _feed(self, data: bytes) -> None:
        new = len(self._held)
        text = self._held + data if new else data
        self._held = b""
        at = 0
        while at < len(text):
            if self.part in _IN_HEAD:
                end = head_end(text, at, new)
                if end < 0:
                    self._hold_head(text[at:], max(new - at, 0))
                    break
                if end - at > _MAX_HEAD:
                    raise BadFramingError
                self._begin(self._heads.read(text[at:end]))
                at = end
            elif self.part in _BEHIND:
                self.part = SURPLUS
                self._persistent = False
                break
            else:
                at = self._read_body(text, at, new)

    def _hold_head(self, begun: bytes, new: int) -> None:
        """Hold the beginning of a head, of which the bytes from `new` on have just come."""
        begins = begun.startswith(_BEGINNING) or _BEGINNING.startswith(begun)
        if not begins or len(begun) > _MAX_HEAD or has_stray(begun, new):
            raise BadFramingError
        self.part = HEAD
        self._held = begun

    def _begin(self, head: UpstreamHead) -> None:
        """Begin a response, or pass over an interim one."""
        source = self._source
        # For the type: `expect` was called before.
        if head.status < _INTERIM or source is None:
            self.part = NONE
            return
        self.response = UpstreamResponse(source, head)
        self.part = BODY
        self._persistent = head.keep_alive
        if self._bodiless:
            # A server that sends a body all the same would send it as the next response.
            self._persistent = False
            self._finish()
        elif head.bodiless or head.length == 0:
            self._finish()
        elif head.chunked:
            self._body = ChunkedBody()
        elif head.length is not None:
            self._body = SizedBody(head.length)
        else:
            self.part = BODY_UNTIL_CLOSE
            self._persistent = False

    def _read_body(self, text: bytes, at: int, new: int) -> int:
        """Pass on what belongs to the body; return the index behind it. What is not whole is held."""
        body, response = self._body, self.response
        # For the type: there is a response while a body comes.
        if response is None:
            return len(text)
        if body is None:
            response.feed(text[at:])
            return len(text)
        at = body.read(text, at, new)
        if data := body.take():
            response.feed(data)
        if not body.complete:
            self._held = text[at:]
            return len(text)
        self._body = None
        self._finish()
        return at

    def _finish(self) -> None:
        self.part = WHOLE
        if self.response is not None:
            self.response.finish()
