"""Points in time as Core reads and writes them in JSON: RFC 3339 as Go's `time` package has it.

Rules kept here:
- Every text that Go accepts is accepted: a one-digit hour, a comma before the fraction, offsets up to a day.
- A text that Go refuses is refused with Go's message, because clients of Core see that message.
- Times are written as Go's RFC3339Nano: nanoseconds without trailing zeros, with their offset, `Z` for zero.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

LAYOUT: Final = b"2006-01-02T15:04:05Z07:00"
ZERO: Final = "0001-01-01T00:00:00Z"

_DAY_MINUTES: Final = 24 * 60
_FRACTION = re.compile(rb"[.,](\d+)")
_OFFSET = re.compile(rb"(.)(\d\d):(\d\d)", re.DOTALL)
# Most times in records have this form; a list of 30,000 keys reads 60,000 of them.
_PLAIN = re.compile(rb"(\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(\d{1,9}))?Z")


@dataclass(frozen=True, slots=True)
class _Field:
    """One number of the layout: the text before it, its name in Go's layout, its digits and range."""

    prefix: bytes
    element: bytes
    digits: re.Pattern[bytes]
    first: int
    last: int
    name: str


_TWO = re.compile(rb"\d\d")
_FIELDS: Final = (
    _Field(b"", b"2006", re.compile(rb"\d{4}"), 0, 9999, "year"),
    _Field(b"-", b"01", _TWO, 1, 12, "month"),
    _Field(b"-", b"02", _TWO, 0, 99, "day"),
    _Field(b"T", b"15", re.compile(rb"\d\d?"), 0, 23, "hour"),
    _Field(b":", b"04", _TWO, 0, 59, "minute"),
    _Field(b":", b"05", _TWO, 0, 59, "second"),
)


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time: whole seconds with an offset from UTC, and nanoseconds."""

    seconds: datetime
    nanoseconds: int = 0

    @classmethod
    def of(cls, moment: datetime) -> Instant:
        """Return the instant of an aware datetime."""
        return cls(moment.replace(microsecond=0), moment.microsecond * 1000)

    @classmethod
    def after(cls, moment: datetime, span: timedelta) -> Instant:
        """Return the instant `span` after a datetime in UTC, at most the last second of the year 9999."""
        try:
            return cls.of(moment + span)
        except OverflowError:
            return cls(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))

    @property
    def unix(self) -> float:
        """Return seconds since the Unix epoch."""
        return self.seconds.timestamp() + self.nanoseconds / 1e9

    @property
    def listable(self) -> bool:
        """Return whether Core can list it: it stores a time after 9999 in UTC, but cannot write it."""
        # A time of the year 1 that is in the year 0 in UTC can be written by Go.
        return self._in_utc() is not None or self.seconds.year == 1

    def stored(self) -> Instant:
        """Return the instant as PostgreSQL stores it and Core lists it: in UTC, in whole microseconds."""
        if self.seconds.tzinfo is UTC and not self.nanoseconds % 1000:
            return self
        moment = self._in_utc()
        return self if moment is None else Instant.of(moment)

    def _in_utc(self) -> datetime | None:
        """Return the time in UTC; None within a day of the first or last year that a datetime can hold."""
        try:
            return self.seconds.astimezone(UTC) + timedelta(microseconds=round(self.nanoseconds / 1000))
        except OverflowError:
            return None

    def __str__(self) -> str:
        """Return RFC 3339 as Go writes it."""
        fraction = f".{self.nanoseconds:09}".rstrip("0") if self.nanoseconds else ""
        text = self.seconds.isoformat()
        return f"{text[:19]}{fraction}{'Z' if text[19:] == '+00:00' else text[19:]}"


def read_instant(text: str) -> Instant:
    """Return the instant that `text` has in RFC 3339.

    Raises:
        ValueError: the text is no time; the message is that of Go's `time.Parse`. The year 0 and an offset of
        a whole day, which Go reads but cannot write, are out of range here.
    """
    # Go quotes a text by its bytes.
    raw = text.encode()
    return _read_plain(raw) or _read_by_fields(raw)


def _read_plain(text: bytes) -> Instant | None:
    """Return the instant of a text in UTC; None if it has another form or is out of range."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    try:
        seconds = datetime.fromisoformat(f"{match[1].decode()}+00:00")
    except ValueError:
        return None
    return Instant(seconds, int(match[2].ljust(9, b"0")) if match[2] else 0)


def _read_by_fields(text: bytes) -> Instant:
    rest, numbers = text, []
    for field in _FIELDS:
        if not rest.startswith(field.prefix):
            raise _unreadable(text, rest, field.prefix)
        rest = rest[len(field.prefix) :]
        match = field.digits.match(rest)
        if match is None:
            raise _unreadable(text, rest, field.element)
        number = int(match[0])
        if not field.first <= number <= field.last:
            raise _out_of_range(text, field.name)
        numbers.append(number)
        rest = rest[match.end() :]
    nanoseconds, rest = _read_fraction(rest)
    offset, rest = _read_offset(text, rest)
    if rest:
        raise ValueError(f"parsing time {_quote(text)}: extra text: {_quote(rest)}")
    year, month, day, hour, minute, second = numbers
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise _out_of_range(text, "day")
    if year == 0:
        raise _out_of_range(text, "year")
    zone = timezone(timedelta(minutes=offset)) if offset else UTC
    return Instant(datetime(year, month, day, hour, minute, second, tzinfo=zone), nanoseconds)


def _read_fraction(rest: bytes) -> tuple[int, bytes]:
    match = _FRACTION.match(rest)
    if match is None:
        return 0, rest
    return int(match[1][:9].ljust(9, b"0")), rest[match.end() :]


def _read_offset(text: bytes, rest: bytes) -> tuple[int, bytes]:
    """Return the offset in minutes, and the rest of the text."""
    if rest.startswith(b"Z"):
        return 0, rest[1:]
    match = _OFFSET.match(rest)
    if match is None:
        raise _unreadable(text, rest, b"Z07:00")
    sign, hours, minutes = match[1], int(match[2]), int(match[3])
    if minutes > 60:
        raise _out_of_range(text, "time zone offset minute")
    if hours > 24:
        raise _out_of_range(text, "time zone offset hour")
    if sign not in b"+-":
        raise _unreadable(text, rest, b"Z07:00")
    offset = hours * 60 + minutes
    if offset >= _DAY_MINUTES:
        raise _out_of_range(text, "time zone offset hour")
    return (-offset if sign == b"-" else offset), rest[match.end() :]


def _unreadable(text: bytes, rest: bytes, element: bytes) -> ValueError:
    return ValueError(
        f"parsing time {_quote(text)} as {_quote(LAYOUT)}: cannot parse {_quote(rest)} as {_quote(element)}"
    )


def _out_of_range(text: bytes, name: str) -> ValueError:
    return ValueError(f"parsing time {_quote(text)}: {name} out of range")


def _quote(text: bytes) -> str:
    """Quote a text as Go's `time.quote` does: bytes outside printable ASCII become `\\xNN`."""
    quoted = "".join(
        f"\\x{byte:02x}" if byte < 0x20 or byte >= 0x80 else f"\\{byte:c}" if byte in b'"\\' else f"{byte:c}"
        for byte in text
    )
    return f'"{quoted}"'
