"""The head of a request, read by the grammar of RFC 9112. Pure.

Rules kept here:
- Two expressions are the grammar (RFC 9112 sections 2.2, 3 and 5) without its obsolete parts: no line ends in
  a bare CR or LF, none is folded, no blank surrounds a name, and a value holds no control byte but a tab.
  Core accepts bytes above ASCII in a query, and so does the grammar.
- Each line has to match its expression from its first byte to its last. Nothing is repaired.
- One header at most frames the body, and it has one reading: `Content-Length` is digits, `Transfer-Encoding`
  is exactly `chunked` and of HTTP/1.1 (RFC 9112 section 6). Of `Host` there is one (section 3.2).
- Any other header may be sent more than once, as Core allows. A method is capital letters alone: that of each
  route is.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.wire.errors import HeadTooLargeError
from gateway.wire.grammar import CHUNKED, CLOSE, FIELD_LINE, KEEP_ALIVE, LENGTH, has_stray, options
from gateway.wire.head_faults import malformed
from gateway.wire.headers import Header
from gateway.wire.request_headers import RequestHeaders

MAX_PART: Final = 8190
"""Bytes of a method, of a target, of a header's name and of its value."""
MAX_HEADERS: Final = 128
"""Headers of a request."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a head, with the empty lines before it."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]++) ([!->@-~]++(?:\?[!-~\x80-\xff]*+)?) HTTP/1\.([01])\r\n")
# Behind a request to change the protocol its client may go on in another one.
_ENDING: Final = frozenset({CLOSE, b"upgrade"})


class RequestHead:
    """The head of one request.

    `target` is text as `RequestHeaders` makes it, and `minor` the minor version. `length` is the number of
    bytes of the body, None for a chunked one. `keep_alive` says that another request may follow.
    """

    __slots__ = ("headers", "keep_alive", "length", "method", "minor", "target")

    def __init__(
        self, method: str, target: str, minor: int, headers: RequestHeaders, length: int | None
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.headers = headers
        self.length = length
        self.keep_alive = _persists(minor, headers)

    def asking(self, method: str, target: str) -> RequestHead:
        """Return the head of the request that this one asks about: all else is the same."""
        return RequestHead(method, target, self.minor, self.headers, self.length)

    @property
    def expects_continue(self) -> bool:
        """True if the client waits to be asked for its body (RFC 9110 section 10.1.1)."""
        return self.minor == 1 and self.headers.value(b"expect").strip(b" \t").lower() == b"100-continue"


def read_head(head: bytes) -> RequestHead:
    """Return what a whole head says; it ends with its empty line.

    Raises BadFramingError if it is malformed or has no one reading, and HeadTooLargeError.
    """
    # The first line and the empty line are no headers.
    count = head.count(b"\n") - 2
    if len(head) > MAX_HEAD or count > MAX_HEADERS:
        raise HeadTooLargeError
    first = _REQUEST_LINE.match(head)
    fields: list[Header] = [] if first is None else FIELD_LINE.findall(head, first.end())
    # Each match is a line, so that all lines match if there are as many.
    if first is None or len(fields) != count:
        raise malformed(head)
    method, target, minor = first.groups()
    if head.find(b" \r\n") >= 0:
        fields = [(name, value.rstrip(b" ")) for name, value in fields]
    if len(head) > MAX_PART:
        _check_sizes([method, target, *[part for field in fields for part in field]])
    headers = RequestHeaders(fields)
    length = None if headers.count(b"transfer-encoding") else _length(headers)
    if not _is_sound(method, minor, headers, length):
        raise malformed(head)
    return RequestHead(
        method.decode(), target.decode("utf-8", "surrogateescape"), int(minor), headers, length
    )


def check_begun(begun: bytes, new: int) -> None:
    """Refuse the beginning of a head, of which the bytes from `new` on have just come, if it cannot go on.

    Raises BadFramingError or HeadTooLargeError.
    """
    if len(begun) > MAX_HEAD:
        raise HeadTooLargeError
    if has_stray(begun, new) or not _lines_match(begun, new):
        raise malformed(begun)


def _lines_match(begun: bytes, new: int) -> bool:
    """Return whether the lines match that end at index `new` or behind it. Raises HeadTooLargeError."""
    end = begun.rfind(b"\n", new) + 1
    if not end:
        return True
    if begun.count(b"\n") > MAX_HEADERS + 1:
        raise HeadTooLargeError
    at = begun.rfind(b"\n", 0, new) + 1
    if not at:
        first = _REQUEST_LINE.match(begun)
        if first is None:
            return False
        at = first.end()
    return len(FIELD_LINE.findall(begun, at, end)) == begun.count(b"\n", at, end)


def _check_sizes(parts: list[bytes]) -> None:
    if max(map(len, parts)) > MAX_PART:
        raise HeadTooLargeError


def _length(headers: RequestHeaders) -> int:
    """Return the announced length of the body; -1 for one that is no number."""
    if not headers.count(b"content-length"):
        return 0
    value = headers.value(b"content-length")
    return int(value) if LENGTH.fullmatch(value) else -1


def _is_sound(method: bytes, minor: bytes, headers: RequestHeaders, length: int | None) -> bool:
    """Return whether the body has one framing, and the request one host and no tunnel."""
    hosts = headers.count(b"host")
    if hosts > 1 or (hosts == 0 and minor == b"1") or method == b"CONNECT":
        return False
    if headers.count(b"content-length") + headers.count(b"transfer-encoding") > 1:
        return False
    if length is None:
        return minor == b"1" and headers.value(b"transfer-encoding") == CHUNKED
    return length >= 0


def _persists(minor: int, headers: RequestHeaders) -> bool:
    """Return whether another request may follow (RFC 9112 section 9.3)."""
    if not headers.count(b"connection"):
        return minor == 1
    named = options(headers.values(b"connection"))
    return _ENDING.isdisjoint(named) and (minor == 1 or KEEP_ALIVE in named)
