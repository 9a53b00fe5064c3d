"""Core's bytes in, responses out: httptools' parser, one response at a time.

Rules kept here:
- A response without a length ends with its connection; anything else that the end meets was cut short.
- A trailer never reaches the next response. The parser would hand it over as a header of the next head, so it
  is replaced after a chunked response.
- A connection on which a second response begins behind a whole one is not used again.
"""

from __future__ import annotations

import enum
from typing import Final

import httptools

from gateway.wire.connect_errors import unparsable, unreachable
from gateway.wire.headers import Header
from gateway.wire.upstream_response import ResponseSource, UpstreamResponse

_INTERIM: Final = 200
# Compared first: most headers are ruled out by their length alone.
_FRAMING_LENGTHS: Final = frozenset({len(b"content-length"), len(b"transfer-encoding")})
_NO_BODY: Final = frozenset({204, 304})


class Part(enum.Enum):
    """The part of a response that the parser reads."""

    NONE = "nothing has begun, or only interim responses have come"
    HEAD = "head"
    BODY = "body"
    BODY_UNTIL_CLOSE = "a body that ends with the connection"
    WHOLE = "the response is whole"
    SURPLUS = "a second response has begun, and is dropped"


# By their own names as well: to look a member up in its enum takes 0.1 us, and a request does so often.
NONE: Final = Part.NONE
HEAD: Final = Part.HEAD
BODY: Final = Part.BODY
BODY_UNTIL_CLOSE: Final = Part.BODY_UNTIL_CLOSE
WHOLE: Final = Part.WHOLE
SURPLUS: Final = Part.SURPLUS
_IN_BODY: Final = (BODY, BODY_UNTIL_CLOSE)


class ResponseParser:
    """Reads the responses of one connection.

    `response` is there once its head is whole. `silent` says that no byte has come since `expect`.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_headers",
        "_parser",
        "_persistent",
        "_source",
        "part",
        "response",
        "silent",
    )

    def __init__(self) -> None:
        self._source: ResponseSource | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[Header] = []
        self._bodiless = False
        self._chunked = False
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
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
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
        if self._chunked:
            self._chunked = False
            self._parser = httptools.HttpResponseParser(self)
        return self._persistent

    def close(self) -> None:
        """Let go of httptools' parser, which holds this object, and of the source."""
        self._source = None
        self._parser = None  # type: ignore[assignment]  # ends the reference cycle

    def _finish(self) -> None:
        self.part = WHOLE
        if self.response is not None:
            self.response.finish()

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        """Begin a head; one behind a whole response belongs to nothing that was asked."""
        if self.response is None:
            self.part = HEAD
        else:
            self.part = SURPLUS
            self._persistent = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; drop trailers."""
        if self.response is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin a response, or pass over an interim one."""
        if self.part is not HEAD or self._source is None:
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < _INTERIM:
            self.part = NONE
            return
        response = self.response = UpstreamResponse(self._source, status, headers)
        framed = False
        for name, value in headers:
            if len(name) not in _FRAMING_LENGTHS:
                continue
            lowered = name.lower()
            if lowered == b"content-length":
                response.length, framed = int(value), True
            elif lowered == b"transfer-encoding":
                framed = self._chunked = True
        self.part = BODY
        if self._bodiless:
            # The parser cannot be told that this response has no body, so it ends here.
            self._persistent = False
            self._finish()
        elif not framed and status not in _NO_BODY:
            self.part = BODY_UNTIL_CLOSE
            self._persistent = False
        elif not self._parser.should_keep_alive():
            self._persistent = False

    def on_body(self, data: bytes) -> None:
        """Pass bytes of the body on; drop those of anything else."""
        if self.part in _IN_BODY and self.response is not None:
            self.response.feed(data)

    def on_message_complete(self) -> None:
        """End a response; the end of an interim one is none."""
        if self.part in _IN_BODY:
            self._finish()
