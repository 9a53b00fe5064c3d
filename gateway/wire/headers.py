"""Which headers cross the gateway, each way, and how the heads it sends are written.

Rules kept here:
- Heads are built new, never edited in place; framing headers are always the gateway's own.
- Hop-by-hop headers and what `Connection` nominates stay on their hop (RFC 9110 section 7.6.1).
- A client cannot speak for the proxy: `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `X-Request-Id` and
  the trace context cross only from a trusted proxy. `_` counts as `-`, as some servers fold them.
- No credential of a client crosses: `X-Blnk-Key` in any spelling, `Authorization`, `X-API-Key`.
- Core's rate limit headers describe the gateway, not the client, and stay inside.
"""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]

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
_SPOKEN_BY_PROXIES = frozenset(
    {b"forwarded", b"x-real-ip", b"x-request-id", b"traceparent", b"tracestate", b"baggage"}
)
_STAYS_OUT = _HOP_BY_HOP | _REWRITTEN | _CREDENTIALS
_STAYS_OUT_UNTRUSTED = _STAYS_OUT | _SPOKEN_BY_PROXIES
# X-Forwarded-For, -Proto, -Host and X-Request-Id are written by the gateway in any case.
_STAYS_OUT_TRUSTED = _STAYS_OUT | {
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-request-id",
}
_STAYS_IN = _HOP_BY_HOP | {b"content-length", b"x-request-id"}


def request_lines(headers: Iterable[Header], *, trusted: bool) -> bytes:
    """The client's headers that cross to Core, as `Name: value` lines, each ending in CRLF."""
    dropped = _STAYS_OUT_TRUSTED if trusted else _STAYS_OUT_UNTRUSTED
    lines = []
    nominated: frozenset[bytes] | None = None
    for name, value in headers:
        lowered = name.lower()
        if b"_" in lowered:
            lowered = lowered.replace(b"_", b"-")
        if lowered == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            nominated = (nominated or frozenset()) | _tokens(value)
        if lowered in dropped or (not trusted and lowered.startswith(b"x-forwarded-")):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if nominated:
        lines = [line for line in lines if line.partition(b":")[0].lower() not in nominated]
    return b"".join(lines)


def answer_lines(headers: Iterable[Header]) -> bytes:
    """Core's headers that cross to the client, as `Name: value` lines, each ending in CRLF."""
    lines = []
    nominated: frozenset[bytes] | None = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"connection":
            nominated = (nominated or frozenset()) | _tokens(value)
        if lowered in _STAYS_IN or lowered.startswith((b"x-rate-limit-", b"ratelimit-")):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if nominated:
        lines = [line for line in lines if line.partition(b":")[0].lower() not in nominated]
    return b"".join(lines)


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(part.strip().lower() for part in value.split(b","))
