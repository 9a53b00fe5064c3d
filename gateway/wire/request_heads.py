"""Heads that Core takes and the request parser does not, and what is wrong with all the others. Pure.

Rules kept here:
- Core (Go's net/http) takes a `User-Agent` or `Content-Type` that is sent twice, and any byte above ASCII in
  a query. The parser gets such a head with placeholders of the same length, none of which frames a message
  or ends a line, and what it reads gets the client's own bytes back.
- Host, Content-Length and Transfer-Encoding are never replaced: whoever sends one of them twice is refused.
- What is said of a malformed head names a header at most, never a value, and no name that could be a key.
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

# What aiohttp's parser refuses where it stands twice, but for what frames a message or names its host.
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
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [^\x00-\x20\x7f]+ HTTP/1\.[01]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A key has 44 characters, so no name that is one is repeated to anybody.
_NAMED: Final = 40


def with_placeholders(head: bytes) -> bytes:
    """`head`, whole or not, as the parser takes it; itself where nothing is to be replaced."""
    first, end, rest = head.partition(b"\r\n")
    path, mark, query = first.partition(b"?")
    lines = rest.split(b"\r\n")
    for place in _doubled(lines):
        lines[place] = _PLACEHOLDER + lines[place][1:]
    return path + mark + _BEYOND_ASCII.sub(b"x", query) + end + b"\r\n".join(lines)


def own_names(head: bytes) -> dict[int, bytes]:
    """The names that were replaced in a whole head, each by the place of its header."""
    lines = head.split(b"\r\n")[1:]
    return {place: lines[place].partition(b":")[0] for place in _doubled(lines)}


def malformed(head: bytes) -> GatewayError:
    """What is told of a head, whole or not, that the parser refused."""
    first, _, rest = head.partition(b"\r\n")
    headers, end, _ = (b"\r\n" + rest).partition(HEAD_END)
    lines = headers.split(b"\r\n")[1:]
    if len(lines) > MAX_HEADERS:
        return HeadTooLargeError()
    fault = _fault_of_line(first) or _fault_of(lines, whole=bool(end))
    return BadFramingError.because(fault) if fault else BadFramingError()


def _doubled(lines: list[bytes]) -> list[int]:
    """Which lines repeat a header that Core takes twice."""
    seen: set[bytes] = set()
    places = []
    for place, line in enumerate(lines):
        name, colon, _ = line.partition(b":")
        name = name.lower()
        if not colon or name not in _DOUBLED:
            continue
        if name in seen:
            places.append(place)
        seen.add(name)
    return places


def _fault_of_line(line: bytes) -> str:
    if not _REQUEST_LINE.fullmatch(line):
        return "the request line is not METHOD /path HTTP/1.1"
    if not line.partition(b"?")[0].isascii():
        return "a byte outside ASCII in the path; percent-encode it"
    return ""


def _fault_of(lines: list[bytes], *, whole: bool) -> str:
    """What is wrong with the first header that is malformed; empty where no header can be named."""
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
