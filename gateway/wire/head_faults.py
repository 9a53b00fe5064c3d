"""What is wrong with a malformed head. Pure.

Rules kept here:
- A header is named at most, never a value, and no name that could be a key.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import GatewayError
from gateway.wire.errors import BadFramingError
from gateway.wire.grammar import CHUNKED, LENGTH, TOKEN

_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [^\x00-\x20?\x7f][^\x00-\x20\x7f]* HTTP/1\.[01]")
_NAME: Final = re.compile(TOKEN)
# A key has at least 44 characters, so no name that is one is repeated to anybody.
_NAMED: Final = 40


def malformed(head: bytes) -> GatewayError:
    """Return the failure that says why a head, whole or not, is malformed."""
    lines = head.split(b"\r\n")
    fault = _fault_of_line(lines[0]) or _fault_of_headers(lines[1:], lines[0][-1:])
    return BadFramingError.because(fault) if fault else BadFramingError()


def _fault_of_line(line: bytes) -> str:
    if not _REQUEST_LINE.fullmatch(line):
        return "the request line is not METHOD /path HTTP/1.1"
    if not line.partition(b"?")[0].isascii():
        return "a byte outside ASCII in the path; percent-encode it"
    return "the method CONNECT is not accepted" if line.startswith(b"CONNECT ") else ""


def _fault_of_headers(lines: list[bytes], minor: bytes) -> str:
    """Return what is wrong with the first malformed header; empty if no header can be named."""
    seen: set[bytes] = set()
    last = ""
    for line in lines:
        if not line:
            break
        if line[:1] in (b" ", b"\t"):
            return f"header {last} is folded" if last else ""
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            return ""
        last = name.decode() if len(name) <= _NAMED else "with a long name"
        lowered = name.lower()
        if lowered in _SINGLE and lowered in seen:
            return f"header {last} is sent twice"
        seen.add(lowered)
        if _CONTROL.search(value):
            return f"header {last} holds a control byte"
        if fault := _fault_of_framing(lowered, value.strip(b" "), seen, minor):
            return f"header {last} {fault}"
    return "header Host is missing" if minor == b"1" and b"host" not in seen else ""


def _fault_of_framing(name: bytes, value: bytes, seen: set[bytes], minor: bytes) -> str:
    if name == b"content-length" and not LENGTH.fullmatch(value):
        return "is not a number"
    if name == b"transfer-encoding" and value != CHUNKED:
        return "is not exactly chunked"
    if {b"content-length", b"transfer-encoding"} <= seen:
        return "is sent beside the other one that frames the body"
    return "is not of HTTP/1.0" if name == b"transfer-encoding" and minor == b"0" else ""
