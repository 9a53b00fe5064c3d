"""The parts of the grammar of HTTP/1.1 that heads of both directions share (RFC 9112 sections 2.2 and 5)."""

from __future__ import annotations

import re
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
END_SEAM: Final = len(HEAD_END) - 1
"""Bytes of a head's end that may have come in the segment before."""
TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
FIELD_LINE: Final = re.compile(rb"^(" + TOKEN + rb"): *+([\t -~\x80-\xff]*+)\r\n", re.MULTILINE)
"""A header or trailer, with its end: not folded, no blank around the name, no control byte but a tab in the
value. Its groups are the name, and the value with the blanks behind it. A tab around a value is left in it:
some parsers take it for a blank (RFC 9110 section 5.5) and some do not, so no value with one may frame."""
STRAY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""What no head holds: a control byte, and a part of a line's end where it is not whole."""
LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""The values of `Content-Length` that are read: Go reads none above 63 bits."""
CHUNKED: Final = b"chunked"
CLOSE: Final = b"close"
KEEP_ALIVE: Final = b"keep-alive"


def options(values: list[bytes]) -> list[bytes]:
    """Return the options of the values of `Connection`, in lower case (RFC 9110 section 7.6.1)."""
    return [option.strip(b" \t").lower() for option in b",".join(values).split(b",")]
