"""Heads that Core accepts and the request parser refuses, and what is wrong with all the others. Pure.

Rules kept here:
- Core (Go's net/http) accepts a `User-Agent` or `Content-Type` that is sent twice, and any byte above ASCII
  in a query. The parser gets such a head with placeholders of the same length, none of which frames a message
  or ends a line, and what it reads gets the client's own bytes back.
- Host, Content-Length and Transfer-Encoding are never replaced: a head with two of one of them is refused.
- The message about a malformed head names a header at most, never a value, and no name that could be a key.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import GatewayError
from gateway.wire.errors import BadFramingError, HeadTooLargeError

MAX_LINE: Final = 8190
MAX_HEADERS: Final = 128
MAX_HEAD: Final = 64 * 1024
HEAD_END: Final = b"\r\n\r\n"
END_SEAM: Final = len(HEAD_END) - 1
"""Bytes of the empty line behind a head or a chunked body that may have come in the segment before."""

# Headers that aiohttp's parser refuses if they are sent twice, but for those that frame or route a message.
_DOUBLED: Final = frozenset(
    {
        *(b"content-location", b"content-range", b"content-type", b"etag"),
        *(b"max-forwards", b"server", b"user-agent"),
    }
)
_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_PLACEHOLDER: Final = b"_"
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_EMPTY_LINES: Final = re.compile(rb"[\r\n]*")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [^\x00-\x20\x7f]+ HTTP/1\.[01]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A key has at least 44 characters, so no name that is one is repeated to anybody.
_NAMED: Final = 40


def with_placeholders(head: bytes) -> bytes:
    """Return `head`, whole or not, as the parser accepts it; itself if nothing is to be replaced."""
    first, end, rest = head.partition(b"\r\n")
    path, mark, query = first.partition(b"?")
    lines = rest.split(b"\r\n")
    for position in _doubled(lines):
        lines[position] = _PLACEHOLDER + lines[position][1:]
    return path + mark + _BEYOND_ASCII.sub(b"x", query) + end + b"\r\n".join(lines)


def bounded(head: bytes) -> bytes:
    """Return `head`, whole or not. Raises HeadTooLargeError if it is too long."""
    if len(head) > MAX_HEAD:
        raise HeadTooLargeError
    return head


def behind_empty_lines(text: bytes, at: int) -> int:
    """Return where the head begins that may have empty lines before it at `at` (RFC 9112 section 2.2)."""
    match = _EMPTY_LINES.match(text, at)
    return at if match is None else match.end()


def own_names(head: bytes) -> dict[int, bytes]:
    """Return the names that were replaced in a whole head, each by the position of its header."""
    lines = head.split(b"\r\n")[1:]
    return {at: lines[at].partition(b":")[0] for at in _doubled(lines)}


def malformed(head: bytes) -> GatewayError:
    """Return the failure that says why the parser refused a head, whole or not."""
    first, _, rest = head.partition(b"\r\n")
    headers, end, _ = (b"\r\n" + rest).partition(HEAD_END)
    lines = headers.split(b"\r\n")[1:]
    if len(lines) > MAX_HEADERS:
        return HeadTooLargeError()
    fault = _fault_of_line(first) or _fault_of(lines, whole=bool(end))
    return BadFramingError.because(fault) if fault else BadFramingError()


def _doubled(lines: list[bytes]) -> list[int]:
    """Return the positions of lines that repeat a header which Core accepts twice."""
    seen: set[bytes] = set()
    positions = []
    for position, line in enumerate(lines):
        name, colon, _ = line.partition(b":")
        name = name.lower()
        if not colon or name not in _DOUBLED:
            continue
        if name in seen:
            positions.append(position)
        seen.add(name)
    return positions


def _fault_of_line(line: bytes) -> str:
    if not _REQUEST_LINE.fullmatch(line):
        return "the request line is not METHOD /path HTTP/1.1"
    if not line.partition(b"?")[0].isascii():
        return "a byte outside ASCII in the path; percent-encode it"
    return ""


def _fault_of(lines: list[bytes], *, whole: bool) -> str:
    """Return what is wrong with the first malformed header; empty if no header can be named."""
    seen: set[bytes] = set()
    last = ""
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            return f"header {last} is folded" if last else ""
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            return ""
        last = name.decode() if len(name) <= _NAMED else "with a long name"
        lowered = name.lower()
        if lowered in _SINGLE and lowered in seen:
            return f"header {last} is sent twice"
        seen.add(lowered)
        if _CONTROL.search(value):
            return f"header {last} holds a control byte"
        if fault := _fault_of_framing(lowered, value.strip(b" \t"), seen):
            return f"header {last} {fault}"
    return "header Host is missing" if whole and b"host" not in seen else ""


def _fault_of_framing(name: bytes, value: bytes, seen: set[bytes]) -> str:
    if name == b"content-length" and not value.isdigit():
        return "is not a number"
    if name == b"transfer-encoding" and value != b"chunked":
        return "is not exactly chunked"
    if {b"content-length", b"transfer-encoding"} <= seen:
        return "is sent beside the other one that frames the body"
    return ""
