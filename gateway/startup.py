"""The start-up checks: is Core secure, and does it accept our master key?

Rules kept here:
- Core is asked for a protected route, first without a key: anything but a refusal means that whoever
  reaches Core passes the gateway by, which makes the gateway pointless.
- Then with the master key: a 401 means that every forwarded request would fail.
- What says neither (no connection, 429, 5xx) is "not reachable yet", and asked again.
- The body is not read: only the status counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.wire.pool import OwnCall, Pool

_PROTECTED = b"/ledgers?limit=1"
PROBE_SECONDS = 10.0
"""How long Core has for the first byte of its response to a probe."""


class Finding(enum.Enum):
    """What asking Core found."""

    SAFE = "safe"
    UNREACHABLE = "not reachable yet"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Check:
    """A finding, and what to tell an operator about it."""

    finding: Finding
    reason: str


async def check_core(pool: Pool, host_line: bytes, key_line: bytes) -> Check:
    """Ask Core twice. `host_line` and `key_line` are header lines with their CRLF."""
    head = b"GET %b HTTP/1.1\r\n%bUser-Agent: blnk-gateway-probe\r\n" % (_PROTECTED, host_line)
    try:
        without_key = _without_key(await _status(pool, head + b"\r\n"))
        if without_key.finding is not Finding.SAFE:
            return without_key
        return _with_key(await _status(pool, head + key_line + b"\r\n"))
    except GatewayError as failure:
        return Check(Finding.UNREACHABLE, f"Core is not reachable: {failure}")


async def _status(pool: Pool, data: bytes) -> int:
    answer = await pool.request(data, OwnCall(repeatable=True, first_byte=PROBE_SECONDS))
    answer.abandon()
    return answer.status


def _without_key(status: int) -> Check:
    if status == 401:
        return Check(Finding.SAFE, "")
    if status == 429 or status >= 500:
        return Check(Finding.UNREACHABLE, f"Core answers {status}")
    return Check(
        Finding.UNSAFE,
        f"Core answers {status} to a request without a key: set server.secure to true in blnk.json, "
        "or whoever reaches Core passes the gateway by",
    )


def _with_key(status: int) -> Check:
    if status == 401:
        return Check(
            Finding.UNSAFE,
            "Core refuses the master key: upstream.master_key must be server.secret_key of blnk.json",
        )
    if status == 429 or status >= 500:
        return Check(Finding.UNREACHABLE, f"Core answers {status}")
    return Check(Finding.SAFE, "")
