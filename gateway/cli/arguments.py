"""What the commands of keys take on the command line: ids, texts, scopes, lengths of time and points in it.

Rules kept here:
- What no record can hold is refused before anything is asked.
- Whatever is wrong with an option's value, also what is found later, is said as click says it.
- A key in the place of its id is refused, and not repeated: the terminal's lines may be kept.
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
_SPAN: Final = re.compile(r"([0-9]{1,6})(s|m|h|d|w)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BREAKING: Final = ("Cc", "Zl", "Zp")
"""What Unicode calls control characters, and the separators of lines and paragraphs."""
_TOO_LATE: Final = "write a time before the year 10000 in UTC"


class Text(click.ParamType[str]):
    """Text that a record can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("write it in UTF-8", param, ctx)
        return str(value)


class Label(Text):
    """The name of a new key, of a length that a record has, without anything that hides or breaks a line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text."""
        text = super().convert(value, param, ctx)
        if len(text) > MAX_TEXT:
            self.fail(f"write at most {MAX_TEXT} characters", param, ctx)
        if any(unicodedata.category(char) in _BREAKING for char in text):
            self.fail("a control character or a line break stands here: take it out", param, ctx)
        return text


class Owner(Label):
    """Whose a new key is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text."""
        text = super().convert(value, param, ctx)
        if not text.strip():
            self.fail("this is empty: write whose key it is", param, ctx)
        if text != text.strip():
            self.fail("a blank stands before it or behind it: take it out", param, ctx)
        return text


class KeyId(Text):
    """The id of a key."""

    name = "key_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id."""
        if holds_key(str(value)):
            self.fail("this looks like a key: give its id, which `keys verify` tells", param, ctx)
        return super().convert(value, param, ctx)


class Scopes(click.ParamType[tuple[str, ...]]):
    """Scopes, separated by commas."""

    name = "scopes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The scopes, each once."""
        scopes = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        for scope in scopes:
            if scope not in HOLDABLE:
                named = "" if holds_key(scope) else f"{scope!r}: "
                self.fail(f"{named}{HOLDABLE_FORM}{nearest(scope, HOLDABLE)}", param, ctx)
        return scopes


class Span(click.ParamType[timedelta]):
    """A length of time: 30m, 24h, 90d, 2w."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The length of time."""
        if isinstance(value, timedelta):
            return value
        match = _SPAN.fullmatch(value)
        if match is None:
            self.fail("write a whole number and its unit, as 30m, 24h, 90d or 2w", param, ctx)
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


class Moment(click.ParamType[str]):
    """A point in time, as RFC 3339 or as the time from now."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """RFC 3339, or the text of a duration that is still to be added to the time."""
        if _SPAN.fullmatch(value):
            return str(value)
        try:
            return str(read_instant(value.encode()))
        except ValueError:
            self.fail("write the time from now, as 90d, or RFC 3339, as 2027-01-31T00:00:00Z", param, ctx)


class Past(click.ParamType[str]):
    """A point in time that is over, as RFC 3339, as a date, or as the time since then."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """RFC 3339, or the text of a duration that is still to be taken off the time."""
        if _SPAN.fullmatch(value):
            return str(value)
        try:
            return str(read_instant((f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value).encode()))
        except ValueError:
            self.fail("write an age, as 90d, a date, as 2026-01-31, or RFC 3339", param, ctx)


def wrong(option: str, text: str) -> NoReturn:
    """End the command with 2 for the value of an option, as click does where it refuses one itself."""
    context = click.get_current_context(silent=True)
    raise click.BadParameter(text, ctx=context, param_hint=f"'{option}'")


def past(text: str, now: datetime) -> str:
    """RFC 3339 of what `Past` took for --dead-before; exits with 2 if it is not over."""
    if _SPAN.fullmatch(text):
        try:
            return str(Instant.of(now - Span().convert(text, None, None)))
        except OverflowError:
            wrong("--dead-before", "write a time since the year 1")
    if read_instant(text.encode()).unix > now.timestamp():
        wrong("--dead-before", "this is still to come")
    return text


def moment(text: str, now: datetime) -> str:
    """RFC 3339 of what `Moment` took; exits with 2 if it is past or beyond the years."""
    if _SPAN.fullmatch(text):
        text = after(now, Span().convert(text, None, None), "--expires")
    instant = read_instant(text.encode())
    if not instant.listable:
        wrong("--expires", _TOO_LATE)
    if instant.unix <= now.timestamp():
        wrong("--expires", "this is past")
    return text


def after(now: datetime, span: timedelta, option: str) -> str:
    """RFC 3339 of a time from now; exits with 2, naming the option, if it is beyond the years."""
    try:
        return str(Instant.of(now + span))
    except OverflowError:
        wrong(option, _TOO_LATE)
