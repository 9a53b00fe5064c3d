"""What is wrong with a malformed head. Pure.

Rules kept here:
- A header is named at most, never a value, and no name that could be a key.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import GatewayError
from gateway.wire.errors import BadFramingError
from gateway.wire.grammar import LENGTH

_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [^\x00-\x20\x7f]+ HTTP/1\.[01]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A key has at least 44 characters, so no name that is one is repeated to anybody.
_NAMED: Final = 40


def malformed(head: bytes) -> GatewayError:
    """Return the failure that says why a head, whole or not, is malformed."""
    first, _, rest = head.partition(b"\r\n")
    headers, end, _ = (b"\r\n" + rest).partition(b"\r\n\r\n")
    lines = headers.split(b"\r\n")[1:]
    fault = _fault_of_line(first) or _fault_of(lines, whole=bool(end))
    return BadFramingError.because(fault) if fault else BadFramingError()


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
        if fault := _fault_of_framing(lowered, value.strip(b" "), seen):
            return f"header {last} {fault}"
    return "header Host is missing" if whole and b"host" not in seen else ""


def _fault_of_framing(name: bytes, value: bytes, seen: set[bytes]) -> str:
    if name == b"content-length" and not LENGTH.fullmatch(value):
        return "is not a number"
    if name == b"transfer-encoding" and value != b"chunked":
        return "is not exactly chunked"
    if {b"content-length", b"transfer-encoding"} <= seen:
        return "is sent beside the other one that frames the body"
    return ""
