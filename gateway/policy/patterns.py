"""Path patterns of routes: their shape, their faults, and whether one pattern includes another.

Rules kept here:
- `{name}` is one segment, `{name...}` one or more remaining segments; anything else is a literal.
- A literal is written decoded, with the characters that RFC 3986 (section 3.3) allows unencoded.
- The placeholders of other routers (`:id`, `<id>`, `*`) are refused: as literals they would match no request
  of any client, so a `deny` would not deny and a permission would not permit.
- A pattern has no empty segment and no trailing slash; `/` alone is the root.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

MAX_SEGMENTS: Final = 32
"""The most segments of a pattern, more than any route of Core has; bounds the depth of a match."""


class Placeholder(enum.Enum):
    """The kind of a segment in braces: one segment, or all remaining segments."""

    ONE = "{}"
    REST = "{...}"


Shape = tuple[str | Placeholder, ...]
"""A pattern without the names of its placeholders."""

_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")

_FOREIGN: Final = (
    (re.compile(r"\*"), "write '{name}' for one segment, or '{name...}' for all remaining ones"),
    (re.compile(r"\*+(\w*)", re.ASCII), "write '{%s...}' for all remaining segments"),
    (re.compile(r"<path:(\w+)>", re.ASCII), "write '{%s...}' for all remaining segments"),
    (re.compile(r"<(?:\w+:)?(\w+)>|:(\w+).*", re.ASCII), "write '{%s}' for one segment"),
    (re.compile(r".*\*.*"), "write the segment out, or '{name}' for any one"),
)
"""Placeholders of other routers, each with the way to write it here."""


def shape_of(pattern: str) -> Shape:
    """Return the shape of `pattern`, which may be malformed: what is no placeholder is a literal."""
    return tuple(map(_kind, _segments(pattern)))


def _segments(pattern: str) -> list[str]:
    return pattern.removeprefix("/").split("/")


def _kind(segment: str) -> str | Placeholder:
    placeholder = _PLACEHOLDER.fullmatch(segment)
    if placeholder is None:
        return segment
    return Placeholder.REST if placeholder[2] else Placeholder.ONE


def faults(pattern: str) -> Iterator[str]:
    """Yield every fault of `pattern`, in words for the author of the file."""
    if pattern == "/":
        return
    if not pattern.startswith("/"):
        yield "the path must start with '/'"
    segments = _segments(pattern)
    if len(segments) > MAX_SEGMENTS:
        yield f"the path must have at most {MAX_SEGMENTS} segments"
    names = [placeholder[1] for placeholder in map(_PLACEHOLDER.fullmatch, segments) if placeholder]
    if len(names) != len(set(names)):
        yield "two placeholders have the same name"
    shape = shape_of(pattern)
    if Placeholder.REST in shape[:-1]:
        yield "'{name...}' must come last"
    yield from chain.from_iterable(_literal_faults(kind) for kind in shape if isinstance(kind, str))


def _literal_faults(literal: str) -> Iterator[str]:
    if not literal:
        yield "an empty segment (or a trailing slash) matches nothing"
    elif literal in (".", ".."):
        yield "a dot segment matches nothing"
    elif advice := _foreign(literal):
        yield f"'{literal}' is not a placeholder here: {advice}"
    elif not _LITERAL.fullmatch(literal):
        yield f"'{literal}' is neither a plain segment nor '{{name}}' nor '{{name...}}'"


def _foreign(literal: str) -> str:
    """Return how to write a placeholder of another router; empty for any other literal."""
    for form, advice in _FOREIGN:
        if match := form.fullmatch(literal):
            return advice.replace("%s", next(filter(None, match.groups()), "path"))
    return ""


def includes(wide: Shape, narrow: Shape) -> bool:
    """Return whether `wide` matches every path that `narrow` matches."""
    for depth, kind in enumerate(wide):
        if kind is Placeholder.REST:
            return len(narrow) > depth
        if depth == len(narrow) or narrow[depth] is Placeholder.REST:
            return False
        if kind is not Placeholder.ONE and kind != narrow[depth]:
            return False
    return len(wide) == len(narrow)
