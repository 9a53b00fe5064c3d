"""The checks of Core: can it be reached, is it secure, does it accept the master key?

Rules kept here:
- Core is asked for a protected route, first without a key: anything but a refusal means that anyone who can
  connect to Core bypasses the gateway, which makes the gateway pointless.
- Then Core is asked with the master key, and with the next one if there is one: if it refuses them, every
  forwarded request would fail.
- A response that shows neither (no connection, 429, 5xx) is "not reachable yet", and Core is asked again.
- Only the status counts, and a body that tells a plain HTTP client to speak TLS.
- A gateway that responds instead of Core is recognised by `Proxy-Status`; this gateway itself by its request
  ids.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.errors import GatewayError
from gateway.wire.connect_errors import CLOSED, GATEWAY, MAYBE_NOT_HTTP, SPEAKS_TLS
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits
from gateway.wire.upstream_request import OwnRequest
from gateway.wire.upstream_response import UpstreamResponse

RESPONSE_SECONDS: Final = 10.0
"""The time for the first byte of a response here; requests of clients may take much longer."""
_PROTECTED: Final = b"/ledgers?limit=1"
_OWN: Final = b"blnk-gateway"
# Go, nginx and Apache send one of these in a 400 to plain HTTP on a TLS port.
_ASKS_FOR_TLS: Final = (b"HTTPS", b"SSL-enabled")
_PAGE: Final = 4096


class Finding(enum.Enum):
    """The result of asking Core."""

    SAFE = "safe"
    UNREACHABLE = "not reachable yet"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Check:
    """A finding, and the reason for operators."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class CoreProbe:
    """The means of asking Core.

    Args:
        host_line: the header line `Host` with its CRLF.
        key_lines: the header lines with the master keys, likewise; in the order in which they are tried.
        tls: True if Core is asked over TLS.
        own_ids: the prefix of the ids that this process gives to requests; empty if it serves none.
    """

    host_line: bytes
    key_lines: tuple[bytes, ...] = field(repr=False)
    tls: bool = False
    own_ids: str = ""


def probe_limits(limits: PoolLimits) -> PoolLimits:
    """Return the bounds of a pool for these checks alone, which wait for no client and no slow request.

    The second request may wait until the connection of the first is closed.
    """
    seconds = RESPONSE_SECONDS
    return replace(limits, connections=1, queue=1, first_byte=seconds, between_bytes=seconds)


async def check_core(pool: Pool, probe: CoreProbe) -> Check:
    """Ask Core without a key, then with the master key."""
    head = b"GET %b HTTP/1.1\r\n%bUser-Agent: blnk-gateway-probe\r\n" % (_PROTECTED, probe.host_line)
    try:
        without_key = _without_key(await _ask(pool, head + b"\r\n", probe))
        if without_key.finding is not Finding.SAFE:
            return without_key
        return await _with_keys(pool, head, probe)
    except GatewayError as failure:
        return _unreached(failure.reason, probe)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    by_gateway: bool
    by_this_one: bool
    asks_for_tls: bool


async def _ask(pool: Pool, data: bytes, probe: CoreProbe) -> _Response:
    """Return Core's response. Raises GatewayError."""
    response = await pool.request(data, OwnRequest(repeatable=True))
    looked_at = response.status == 400 and not probe.tls
    asks_for_tls = looked_at and await _asks_for_tls(response, pool.limits.first_byte)
    response.abandon()
    own = response.head.value(b"proxy-status").startswith(_OWN)
    known = bool(probe.own_ids) and response.head.value(b"x-request-id").startswith(probe.own_ids.encode())
    return _Response(response.status, own, own and known, asks_for_tls)


async def _asks_for_tls(response: UpstreamResponse, seconds: float) -> bool:
    with contextlib.suppress(GatewayError):
        await response.read(_PAGE, seconds)
    return any(words in response.body for words in _ASKS_FOR_TLS)


def _unreached(reason: str, probe: CoreProbe) -> Check:
    if reason == CLOSED and not probe.tls:
        reason = f"{CLOSED}; {MAYBE_NOT_HTTP}"
    return Check(Finding.UNREACHABLE, f"Core is not reachable: {reason}")


def _without_key(response: _Response) -> Check:
    if response.by_this_one:
        return Check(Finding.UNSAFE, "upstream.url is the address of this gateway itself, not of Core")
    if response.asks_for_tls:
        return Check(Finding.UNREACHABLE, f"Core is not reachable: {SPEAKS_TLS}")
    if response.status == 401:
        return Check(Finding.SAFE, "")
    if response.status == 429 or response.status >= 500:
        return _unsettled(response)
    return Check(
        Finding.UNSAFE,
        f"Core responds with {response.status} to a request without a key: set server.secure to true in "
        "blnk.json, or whoever can connect to Core bypasses the gateway",
    )


async def _with_keys(pool: Pool, head: bytes, probe: CoreProbe) -> Check:
    """Return the first finding that is no refusal, else the refusal of the last key."""
    for line in probe.key_lines:
        found = _with_key(await _ask(pool, head + line + b"\r\n", probe))
        if found.finding is not Finding.UNSAFE:
            break
    return found


def _with_key(response: _Response) -> Check:
    if response.status == 401:
        return Check(
            Finding.UNSAFE,
            "Core refuses the master key: upstream.master_key must be server.secret_key of blnk.json",
        )
    if response.status == 429 or response.status >= 500:
        return _unsettled(response)
    return Check(Finding.SAFE, "")


def _unsettled(response: _Response) -> Check:
    if response.by_gateway:
        return Check(Finding.UNREACHABLE, f"Core is not reachable: {GATEWAY}")
    return Check(Finding.UNREACHABLE, f"Core responds with {response.status}")
