"""The head of a response of Core, read line by line. Pure.

Rules kept here:
- A line is read once and then remembered as a whole, because the heads of Core hardly differ. At most
  _REMEMBERED lines are, of _LONGEST bytes each.
- The grammar of lines is that of requests. One header at most frames the body, and it has one reading;
  `Transfer-Encoding` is `chunked` in any case of letters, and of HTTP/1.1 (RFC 9112 section 6.1).
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final

from gateway.wire.errors import BadFramingError
from gateway.wire.grammar import CHUNKED, CLOSE, FIELD_LINE, KEEP_ALIVE, LENGTH, options
from gateway.wire.headers import crosses_to_client

_REMEMBERED: Final = 512
_LONGEST: Final = 256
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*+)?")
_SWITCHING: Final = 101
_NO_BODY: Final = frozenset({204, 304})


class _Role(enum.Enum):
    """What a header line means for its response."""

    NONE = "it only crosses, or does not"
    LENGTH = "Content-Length"
    CODING = "Transfer-Encoding"
    CONNECTION = "Connection"
    DATE = "Date"


_ROLES: Final = {
    b"content-length": _Role.LENGTH,
    b"transfer-encoding": _Role.CODING,
    b"connection": _Role.CONNECTION,
    b"date": _Role.DATE,
}
# By their own names as well: to look a member up in its enum takes 0.1 us, and each head does so.
_NONE_ROLE: Final = _Role.NONE
_LENGTH_ROLE: Final = _Role.LENGTH
_CODING_ROLE: Final = _Role.CODING
_DATE_ROLE: Final = _Role.DATE


class HeaderLine:
    """A header line of Core: its name in lower case, its value, and all that the value says.

    `crossing` is the line that crosses to the client, with its end; it is empty if none does. `length` is the
    value of `Content-Length`. Of `Connection`, `closes` and `keeps` say what becomes of the connection, and
    `named` are the headers that do not cross. Raises BadFramingError for a framing value that is malformed.
    """

    __slots__ = ("closes", "crossing", "keeps", "length", "name", "named", "role", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name.lower()
        self.value = value
        self.crossing = b"%b: %b\r\n" % (name, value) if crosses_to_client(name) else b""
        self.role = role = _ROLES.get(self.name, _NONE_ROLE)
        self.length = 0
        self.closes = self.keeps = False
        self.named: list[bytes] = []
        if role is _Role.LENGTH:
            if not LENGTH.fullmatch(value):
                raise BadFramingError
            self.length = int(value)
        elif role is _Role.CODING:
            if value.lower() != CHUNKED:
                raise BadFramingError
        elif role is _Role.CONNECTION:
            said = options([value])
            self.closes, self.keeps = CLOSE in said, KEEP_ALIVE in said
            self.named = [option for option in said if option not in (CLOSE, KEEP_ALIVE, b"")]


class UpstreamHead:
    """The head of a response of Core, by its `status`.

    `chunked` says that the body comes in chunks, and `length` is the announced number of its bytes, None if
    there is none. `lines` are those that cross to the client, and `dated` says that `Date` is among them.
    `keep_alive` says that another response may follow.
    """

    __slots__ = (
        "_closes",
        "_headers",
        "_minor",
        "_named",
        "chunked",
        "dated",
        "keep_alive",
        "length",
        "lines",
        "status",
    )

    def __init__(self, status: int, minor: int) -> None:
        self._headers: list[HeaderLine] = []
        self._minor = minor
        self._closes = False
        self._named: list[bytes] = []
        self.status = status
        self.length: int | None = None
        self.chunked = False
        self.dated = False
        self.keep_alive = minor == 1
        self.lines = b""

    def add(self, line: HeaderLine) -> None:
        """Add a line. Raises BadFramingError if it and another one frame the body."""
        self._headers.append(line)
        if line.role is not _NONE_ROLE:
            self._note(line)

    def settle(self) -> None:
        """Conclude from all lines. Raises BadFramingError if the framing of the body has two readings."""
        if self.chunked and (self.length is not None or self._minor == 0):
            raise BadFramingError
        if self._closes:
            self.keep_alive = False
        if self._named:
            self._leave_out(self._named)
        self.lines = b"".join([line.crossing for line in self._headers])

    @property
    def bodiless(self) -> bool:
        """True if no body follows, whatever the head says (RFC 9112 section 6.3)."""
        return self.status in _NO_BODY

    def value(self, name: bytes) -> bytes:
        """Return the first value of this name, which is lower case; empty if there is none."""
        return next((line.value for line in self._headers if line.name == name), b"")

    def _note(self, line: HeaderLine) -> None:
        role = line.role
        if role is _DATE_ROLE:
            self.dated = True
        elif role is _LENGTH_ROLE:
            if self.length is not None:
                raise BadFramingError
            self.length = line.length
        elif role is _CODING_ROLE:
            if self.chunked:
                raise BadFramingError
            self.chunked = True
        else:
            self.keep_alive = self.keep_alive or line.keeps
            self._closes = self._closes or line.closes
            self._named += line.named

    def _leave_out(self, named: list[bytes]) -> None:
        """Leave out the headers that `Connection` names."""
        self._headers = [line for line in self._headers if line.name not in named]
        self.dated = any(line.role is _DATE_ROLE for line in self._headers)


class HeadReader:
    """Reads the heads of Core's responses, and remembers their lines."""

    def __init__(self) -> None:
        self._lines: dict[bytes, HeaderLine] = {}
        self._statuses: dict[bytes, tuple[int, int]] = {}

    def read(self, head: bytes) -> UpstreamHead:
        """Return what a whole head says; it ends with its empty line. Raises BadFramingError."""
        texts = head.split(b"\r\n")
        first = texts[0]
        known = self._statuses.get(first)
        minor, status = self._read_status(first) if known is None else known
        read = UpstreamHead(status, minor)
        for text in texts[1:-2]:
            line = self._lines.get(text)
            read.add(self._read_line(text) if line is None else line)
        read.settle()
        return read

    def _read_status(self, text: bytes) -> tuple[int, int]:
        match = _STATUS_LINE.fullmatch(text)
        if match is None or int(match[2]) == _SWITCHING:
            raise BadFramingError
        read = int(match[1]), int(match[2])
        _remember(self._statuses, text, read)
        return read

    def _read_line(self, text: bytes) -> HeaderLine:
        match = FIELD_LINE.fullmatch(text + b"\r\n")
        if match is None:
            raise BadFramingError
        line = HeaderLine(match[1], match[2].rstrip(b" "))
        _remember(self._lines, text, line)
        return line


def _remember(known: dict[bytes, Any], text: bytes, read: object) -> None:
    """Keep what was read from a line, unless it is long."""
    if len(text) <= _LONGEST:
        if len(known) == _REMEMBERED:
            known.clear()
        known[text] = read
