"""Counts of finished requests, by route, method, status, code and who responded.

Rules kept here:
- Labels are names of the route table and words of the gateway, never a path, a key or an owner. So no client
  can add a series.
- Plain counters: a request changes a few numbers, and the rest is done when Prometheus scrapes.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections import defaultdict
from typing import Final

from gateway.telemetry.access_log import AccessEntry

# RFC 9110 section 9.3 and RFC 5789.
KNOWN_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
# Typed without a length: mypyc would keep fifteen floats unboxed, and box all of them for each look-up.
BUCKETS_MS: Final[tuple[float, ...]] = (
    1.0,
    2.5,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1e3,
    2.5e3,
    5e3,
    10e3,
    30e3,
    60e3,
)

Labels = tuple[str, str, int, str, str]
"""Route, method, status, code, and who responded."""


class Tally:
    """The sums over requests with the same labels; the counts are per bucket, not yet cumulative.

    A bucket counts up to its bound, in milliseconds, and the last one counts what is above all of them.
    """

    __slots__ = ("bytes_in", "bytes_out", "counts", "stamped", "total_ms", "upstream_counts", "upstream_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.total_ms = 0.0
        self.upstream_counts = [0] * (len(BUCKETS_MS) + 1)
        self.upstream_ms = 0.0
        self.stamped = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, other: Tally) -> None:
        """Add the sums of `other`."""
        self.counts = list(map(operator.add, self.counts, other.counts))
        self.total_ms += other.total_ms
        self.upstream_counts = list(map(operator.add, self.upstream_counts, other.upstream_counts))
        self.upstream_ms += other.upstream_ms
        self.stamped += other.stamped
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out


class RequestCounts:
    """Counts finished requests; `by_labels` has the sums for each set of labels."""

    def __init__(self) -> None:
        self.by_labels: defaultdict[Labels, Tally] = defaultdict(Tally)

    def count(self, entry: AccessEntry) -> None:
        """Count one finished request."""
        method = entry.method
        tally = self.by_labels[
            entry.route,
            method if method in KNOWN_METHODS else "other",
            entry.status,
            entry.code,
            entry.answered_by,
        ]
        upstream_ms = entry.upstream_ms
        took_ms = entry.gateway_ms + upstream_ms
        tally.counts[bisect_left(BUCKETS_MS, took_ms)] += 1
        tally.total_ms += took_ms
        # 0 means that Core got no request, which says nothing about its speed.
        if upstream_ms:
            tally.upstream_counts[bisect_left(BUCKETS_MS, upstream_ms)] += 1
            tally.upstream_ms += upstream_ms
        if entry.bytes_in:
            tally.bytes_in += entry.bytes_in
        tally.bytes_out += entry.bytes_out
        if entry.stamped:
            tally.stamped += 1

    def by_route(self) -> dict[str, Tally]:
        """Return the sums for each route."""
        routes: defaultdict[str, Tally] = defaultdict(Tally)
        for (route, *_), tally in self.by_labels.items():
            routes[route].add(tally)
        return routes
