"""Parses the options and arguments that several commands take: texts, key ids, scopes, durations, times.

Rules kept here:
- A value that no record can hold is refused before any dependency is used.
- Every wrong value is reported as click reports one, also when it turns out to be wrong later.
- A key in the place of a key id is refused and not repeated: a terminal may keep its lines.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import click

from gateway.config.suggestions import nearest
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.quota import MAX_TEXT
from gateway.policy.verdicts import HOLDABLE, HOLDABLE_FORM, holds_key

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d|w)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_CONTROL_OR_SEPARATOR: Final = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, and of separators of lines and paragraphs."""
_TOO_LATE: Final = "write a time before the year 10000 in UTC"

When = Instant | timedelta
"""A point in time, or its distance from the present."""


class RecordText(click.ParamType[str]):
    """Text that a record can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("write it in UTF-8", param, ctx)
        return str(value)


class KeyName(RecordText):
    """The name of a new key: short enough for a record, without control characters and line breaks."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        text = super().convert(value, param, ctx)
        if len(text) > MAX_TEXT:
            self.fail(f"write at most {MAX_TEXT} characters", param, ctx)
        if any(unicodedata.category(char) in _CONTROL_OR_SEPARATOR for char in text):
            self.fail("remove the control character or line break in it", param, ctx)
        return text


class OwnerName(KeyName):
    """The owner of a new key."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the owner."""
        text = super().convert(value, param, ctx)
        if not text.strip():
            self.fail("it is empty: write the owner of the key", param, ctx)
        if text != text.strip():
            self.fail("remove the space before or after it", param, ctx)
        return text


class KeyId(RecordText):
    """The id of a key."""

    name = "key_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id."""
        if holds_key(str(value)):
            self.fail("this looks like a key: write its id, which `keys verify` prints", param, ctx)
        return super().convert(value, param, ctx)


class ScopeList(click.ParamType[tuple[str, ...]]):
    """Scopes, separated by commas.

    Args:
        empty: accept a list without any scope, and items without text.
    """

    name = "scopes"

    def __init__(self, *, empty: bool = False) -> None:
        self._empty = empty

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the scopes, each once."""
        scopes = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        if self._empty:
            scopes = tuple(filter(None, scopes))
        for scope in scopes:
            if scope not in HOLDABLE:
                shown = "" if holds_key(scope) else f"{scope!r}: "
                self.fail(f"{shown}{HOLDABLE_FORM}{nearest(scope, HOLDABLE)}", param, ctx)
        return scopes


class Duration(click.ParamType[timedelta]):
    """A duration: 30m, 24h, 90d, 2w."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        duration = _read_duration(value)
        if duration is None:
            self.fail("write a whole number and its unit, such as 30m, 24h, 90d or 2w", param, ctx)
        return duration


class FutureTime(click.ParamType[When]):
    """A point in time, as RFC 3339 or as a duration from now; `resolve_future` makes it one."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        """Return the time, or its distance from the present."""
        distance = _read_duration(value)
        try:
            return read_instant(value) if distance is None else distance
        except ValueError:
            self.fail(
                "write a duration from now, such as 90d, or RFC 3339, such as 2027-01-31T00:00:00Z",
                param,
                ctx,
            )


class PastTime(click.ParamType[When]):
    """A point in time in the past, as RFC 3339, as a date, or as an age; `resolve_past` makes it one."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        """Return the time, or the age."""
        text = f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value
        age = _read_duration(value)
        try:
            return read_instant(text) if age is None else age
        except ValueError:
            self.fail("write an age, such as 90d, a date, such as 2026-01-31, or RFC 3339", param, ctx)


def refuse_option(option: str, text: str) -> NoReturn:
    """End the command with 2 because of an option's value, as click does when it refuses one itself."""
    context = click.get_current_context(silent=True)
    raise click.BadParameter(text, ctx=context, param_hint=f"'{option}'")


def resolve_past(when: When, now: datetime, option: str) -> Instant:
    """Return the point in time that `PastTime` read; end the command with 2 unless it is in the past."""
    if isinstance(when, timedelta):
        try:
            return Instant.of(now - when)
        except OverflowError:
            refuse_option(option, "write a time since the year 1")
    if when.unix > now.timestamp():
        refuse_option(option, "this time is in the future")
    return when


def resolve_future(when: When, now: datetime, option: str, advice: str = "") -> Instant:
    """Return the point in time that `FutureTime` read; end the command with 2 unless Core can list it.

    `advice` says what to do instead of naming a time in the past.
    """
    instant = time_after(now, when, option) if isinstance(when, timedelta) else when
    if not instant.listable:
        refuse_option(option, _TOO_LATE)
    if instant.unix <= now.timestamp():
        refuse_option(option, f"this time is in the past{advice}")
    return instant


def time_after(now: datetime, duration: timedelta, option: str) -> Instant:
    """Return the time after a duration; end the command with 2 if it is after the year 9999."""
    try:
        return Instant.of(now + duration)
    except OverflowError:
        refuse_option(option, _TOO_LATE)


def _read_duration(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
