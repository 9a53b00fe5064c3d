"""The headers that cross the gateway, each way, as lines for the heads that it sends. Pure.

Rules kept here:
- Heads are built new, never edited in place. Framing headers are always the gateway's own.
- Hop-by-hop headers, and those that `Connection` names, do not cross (RFC 9110 section 7.6.1).
- A client cannot speak for the proxy: `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `X-Request-Id` and
  the trace context cross only from a trusted proxy. `_` counts as `-`: some servers read them as equal.
- No credential of a client crosses: `X-Blnk-Key` in any spelling, `Authorization`, `X-API-Key`. If the
  gateway only observes, all of them cross as they came.
- Core's rate limit headers do not cross: they describe the gateway, not the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

Header = tuple[bytes, bytes]

_NAMES = 512
_CONNECTION_LENGTH = len(b"connection")
# Values of `Connection` that name no header.
_PLAIN = frozenset({b"close", b"keep-alive"})
_DROPPED = b""
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_REWRITTEN = frozenset({b"host", b"content-length", b"expect"})
_CREDENTIALS = frozenset({b"x-blnk-key", b"authorization", b"x-api-key"})
_SENT_BY_PROXIES = frozenset(
    {b"forwarded", b"x-real-ip", b"x-request-id", b"traceparent", b"tracestate", b"baggage"}
)
_DROPPED_TO_CORE = _HOP_BY_HOP | _REWRITTEN | _CREDENTIALS
_DROPPED_UNTRUSTED = _DROPPED_TO_CORE | _SENT_BY_PROXIES
# X-Forwarded-For, -Proto, -Host and X-Request-Id are written by the gateway in any case.
_DROPPED_TRUSTED = _DROPPED_TO_CORE | {
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-request-id",
}
_DROPPED_TO_CLIENT = _HOP_BY_HOP | {b"content-length", b"x-request-id"}


def request_lines(headers: Iterable[Header], *, trusted: bool) -> bytes:
    """Return the client's headers that cross to Core, as `Name: value` lines that end in CRLF."""
    return _lines(headers, _to_core_trusted if trusted else _to_core)


def credential_lines(headers: Iterable[Header]) -> bytes:
    """Return the client's credentials as lines, for a Core that decides; `request_lines` omits them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers if is_credential(header[0])])


def response_lines(headers: Iterable[Header]) -> bytes:
    """Return Core's headers that cross to the client, as `Name: value` lines that end in CRLF."""
    return _lines(headers, _to_client)


def has_date(lines: bytes) -> bool:
    """Return True if header lines, as `response_lines` writes them, hold a `Date`."""
    return b"\r\nDate: " in lines or lines.startswith(b"Date: ") or b"\r\ndate: " in b"\r\n" + lines.lower()


# The few names that a deployment sees are judged once; the caches hold names and verdicts, nothing else.
@lru_cache(_NAMES)
def is_credential(name: bytes) -> bool:
    """Return whether a header of this name holds a credential, in any spelling."""
    return name.lower().replace(b"_", b"-") in _CREDENTIALS


@lru_cache(_NAMES)
def _to_core(name: bytes) -> bytes:
    lowered = name.lower().replace(b"_", b"-")
    crosses = lowered not in _DROPPED_UNTRUSTED and not lowered.startswith(b"x-forwarded-")
    return name + b": " if crosses else _DROPPED


@lru_cache(_NAMES)
def _to_core_trusted(name: bytes) -> bytes:
    crosses = name.lower().replace(b"_", b"-") not in _DROPPED_TRUSTED
    return name + b": " if crosses else _DROPPED


@lru_cache(_NAMES)
def _to_client(name: bytes) -> bytes:
    lowered = name.lower()
    crosses = lowered not in _DROPPED_TO_CLIENT and not lowered.startswith((b"x-rate-limit-", b"ratelimit-"))
    return name + b": " if crosses else _DROPPED


def _lines(headers: Iterable[Header], begin: Callable[[bytes], bytes]) -> bytes:
    """Return the headers that cross, as lines; `begin` gives the beginning of a line, for its name."""
    parts: list[bytes] = []
    for name, value in headers:
        beginning = begin(name)
        if beginning:
            parts += (beginning, value, b"\r\n")
        elif len(name) == _CONNECTION_LENGTH and value not in _PLAIN and name.lower() == b"connection":
            # It is a hop-by-hop header itself, and names others.
            return _lines(_without_named(headers), begin)
    return b"".join(parts)


def _without_named(headers: Iterable[Header]) -> list[Header]:
    """Return the headers but for `Connection`, and those that it names."""
    named = {b"connection"}
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(part.strip().lower() for part in value.split(b","))
    return [header for header in headers if header[0].lower() not in named]
