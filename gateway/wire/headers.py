"""The headers that cross the gateway: which do, each way, and the lines of those to Core. Pure.

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
from typing import Final

from gateway.wire.grammar import CLOSE, KEEP_ALIVE, options

Header = tuple[bytes, bytes]

_NAMES: Final = 512
_CONNECTION_LENGTH: Final = len(b"connection")
# Values of `Connection` that name no header.
_PLAIN: Final = frozenset({CLOSE, KEEP_ALIVE})
_HOP_BY_HOP: Final = frozenset(
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
_REWRITTEN: Final = frozenset({b"host", b"content-length", b"expect"})
_CREDENTIALS: Final = frozenset({b"x-blnk-key", b"authorization", b"x-api-key"})
_SENT_BY_PROXIES: Final = frozenset(
    {b"forwarded", b"x-real-ip", b"x-request-id", b"traceparent", b"tracestate", b"baggage"}
)
_DROPPED_TO_CORE: Final = _HOP_BY_HOP | _REWRITTEN | _CREDENTIALS
_DROPPED_UNTRUSTED: Final = _DROPPED_TO_CORE | _SENT_BY_PROXIES
# X-Forwarded-For, -Proto, -Host and X-Request-Id are written by the gateway in any case.
_DROPPED_TRUSTED: Final = _DROPPED_TO_CORE | {
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-request-id",
}
_TRACE_CONTEXT: Final = frozenset({b"traceparent", b"tracestate"})
_DROPPED_TO_CLIENT: Final = _HOP_BY_HOP | {b"content-length", b"x-request-id"}


def request_lines(headers: Iterable[Header], *, trusted: bool, traced: bool = False) -> bytes:
    """Return the client's headers that cross to Core, as `Name: value` lines that end in CRLF.

    With `traced`, the trace context is left out: the gateway writes one of its own.
    """
    if not trusted:
        return _TO_CORE.lines(headers)
    return (_TO_CORE_TRACED if traced else _TO_CORE_TRUSTED).lines(headers)


def credential_lines(headers: Iterable[Header]) -> bytes:
    """Return the client's credentials as lines, for a Core that decides; `request_lines` omits them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers if is_credential(header[0])])


@lru_cache(_NAMES)
def is_credential(name: bytes) -> bool:
    """Return whether a header of this name holds a credential, in any spelling."""
    return _folded(name) in _CREDENTIALS


def crosses_to_client(name: bytes) -> bool:
    """Return whether a header of Core of this name reaches the client."""
    lowered = name.lower()
    return lowered not in _DROPPED_TO_CLIENT and not lowered.startswith((b"x-rate-limit-", b"ratelimit-"))


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _crosses(name: bytes) -> bool:
    folded = _folded(name)
    return folded not in _DROPPED_UNTRUSTED and not folded.startswith(b"x-forwarded-")


def _crosses_trusted(name: bytes) -> bool:
    return _folded(name) not in _DROPPED_TRUSTED


def _crosses_traced(name: bytes) -> bool:
    return _crosses_trusted(name) and _folded(name) not in _TRACE_CONTEXT


class _LineMaker:
    """Makes lines of the headers that cross; `crosses` judges a name.

    The few names that a deployment sees are judged once: `_beginnings` has the beginning of the line of each,
    empty for one that does not cross. It holds names and nothing else, and at most _NAMES of them.
    """

    def __init__(self, crosses: Callable[[bytes], bool]) -> None:
        self._crosses = crosses
        self._beginnings: dict[bytes, bytes] = {}

    def lines(self, headers: Iterable[Header]) -> bytes:
        """Return the lines of the headers that cross, in their order."""
        parts: list[bytes] = []
        for name, value in headers:
            beginning = self._beginnings.get(name)
            if beginning is None:
                beginning = self._judge(name)
            if beginning:
                parts.append(beginning)
                parts.append(value)
                parts.append(b"\r\n")
            elif len(name) == _CONNECTION_LENGTH and value not in _PLAIN and name.lower() == b"connection":
                # It is a hop-by-hop header itself, and names others.
                return self.lines(_without_named(headers))
        return b"".join(parts)

    def _judge(self, name: bytes) -> bytes:
        """Return the beginning of a line, and keep it for the next time."""
        if len(self._beginnings) == _NAMES:
            # A client that sends many names must not keep those of others out.
            self._beginnings.clear()
        beginning = self._beginnings[name] = name + b": " if self._crosses(name) else b""
        return beginning


_TO_CORE: Final = _LineMaker(_crosses)
_TO_CORE_TRUSTED: Final = _LineMaker(_crosses_trusted)
_TO_CORE_TRACED: Final = _LineMaker(_crosses_traced)


def _without_named(headers: Iterable[Header]) -> list[Header]:
    """Return the headers but for `Connection`, and those that it names."""
    named = {b"connection"}
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(options([value]))
    return [header for header in headers if header[0].lower() not in named]
