"""The limit of one key, and the header lines that tell the client about it.

Rules kept here:
- The lines are those of the IETF draft `draft-ietf-httpapi-ratelimit-headers-10`: `RateLimit-Policy` with
  the quota `q` and its window `w` in seconds, `RateLimit` with the requests that remain, `r`, and the seconds
  until the whole burst is there again, `t`.
- A key's own rate takes the place of the rate of all keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from gateway.policy.terms import KeyTerms, Rate
from gateway.proxy.allowance import Allowance

_CONCURRENCY: Final = b'"concurrency";q=%d;qu="concurrent-requests"'


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """The limit of a key: its rate, the most requests at once, and the most that are in progress.

    `policy` is the line for clients.
    """

    rate: Rate | None
    burst: int
    concurrency: int
    policy: bytes


def limit_of(terms: KeyTerms, default: Rate | None) -> KeyLimit:
    """Return the limit of a key whose terms limit something; `default` is the rate of all keys, if any."""
    rate = terms.rate or default
    parts = []
    burst = 0
    if rate is not None:
        burst = (terms.burst if terms.rate is not None else 0) or max(1, int(rate.per_second))
        parts.append(b'"default";q=%d;w=%d' % (rate.requests, rate.seconds))
    if terms.concurrency:
        parts.append(_CONCURRENCY % terms.concurrency)
    return KeyLimit(rate, burst, terms.concurrency, b"RateLimit-Policy: %b\r\n" % b", ".join(parts))


def rate_part(allowance: Allowance) -> bytes:
    """Return what is left of the rate."""
    remaining = allowance.remaining
    full_in = max(1, ceil((allowance.burst - remaining) / allowance.rate))
    return b'"default";r=%d;t=%d' % (remaining, full_in)


def concurrency_part(limit: KeyLimit, in_progress: int) -> bytes:
    """Return how many more requests may be in progress."""
    return b'"concurrency";r=%d' % max(0, limit.concurrency - in_progress)


def retry_line(seconds: float) -> bytes:
    """Return the `Retry-After` line, in whole seconds (RFC 9110 section 10.2.3)."""
    return b"Retry-After: %d\r\n" % max(1, ceil(seconds))
