"""The values that a decision takes and gives: a request's target, and whether it is allowed.

Not compiled: they are structs of msgspec, which makes classes at run time. Every request has one or two of
them, and a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

import msgspec

from gateway.errors import Code
from gateway.policy.routes import Route


class Target(msgspec.Struct, frozen=True, gc=False):
    """An unambiguous request target."""

    raw: str
    """The target as the client sent it."""
    path: str
    """The part before the first '?', still encoded."""
    segments: tuple[str, ...]
    """The path's segments, decoded; bytes that are not UTF-8 become lone surrogates."""
    query: str
    """The part after the first '?', still encoded."""


class Ambiguous(msgspec.Struct, frozen=True, gc=False):
    """A request target that is refused; the reason never quotes it."""

    reason: str


class Allow(msgspec.Struct, frozen=True, gc=False):
    """The request may take `route`; `would_deny` is the refusal that report-only suppressed."""

    route: Route
    would_deny: Deny | None = None


class Deny(msgspec.Struct, frozen=True, gc=False):
    """The request is refused with `code` and `message`; `route` is the matched route, if one was matched."""

    code: Code
    message: str
    route: Route | None = None
