"""The grammar that heads of both directions share (RFC 9112 sections 2.2 and 5). Pure."""

from __future__ import annotations

import re
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
FIELD_LINE: Final = re.compile(rb"^(" + TOKEN + rb"): *+([\t -~\x80-\xff]*+)\r\n", re.MULTILINE)
"""A header or trailer, with its end: not folded, no blank around the name, no control byte but a tab in the
value. Its groups are the name, and the value with the blanks behind it. A tab around a value is left in it:
some parsers take it for a blank (RFC 9110 section 5.5) and some do not, so no value with one may frame."""
_STRAY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""The values of `Content-Length` that are read: Go reads none above 63 bits."""
CHUNKED: Final = b"chunked"
CLOSE: Final = b"close"
KEEP_ALIVE: Final = b"keep-alive"


def head_end(text: bytes, at: int, new: int) -> int:
    """Return the index behind the head that begins at index `at`; -1 if it is not whole.

    The bytes before index `new` came before, and were searched then.
    """
    end = text.find(_HEAD_END, max(at, new - len(_HEAD_END) + 1))
    return -1 if end < 0 else end + len(_HEAD_END)


def has_stray(begun: bytes, new: int, at: int = 0) -> bool:
    """Return whether a beginning holds, from index `at` on, what no head or line of framing holds.

    That is a control byte but a tab, a CR without its LF, or a LF without its CR; a CR at the end may still
    get its LF. The bytes before index `new` were searched before.
    """
    return _STRAY.search(begun, max(at, new - 1)) is not None


def options(values: list[bytes]) -> list[bytes]:
    """Return the options of the values of `Connection`, in lower case (RFC 9110 section 7.6.1)."""
    return [option.strip(b" \t").lower() for option in b",".join(values).split(b",")]
