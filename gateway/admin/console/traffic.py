"""Requests per second and latencies by route, from the counters that Prometheus scrapes too.

Rules kept here:
- A number is the difference of two looks at the counters, at most `WINDOW_SECONDS` apart. Nothing is computed
  between two looks.
- Time in the gateway and time spent waiting for Core are kept apart, as means; of Core there is the 95th
  percentile too, as the upper bound of its bucket.
- At most `MOST_ROUTES` routes are listed, the busiest first.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from gateway.telemetry.request_counts import BUCKETS_MS, RequestCounts, Tally

WINDOW_SECONDS: Final = 10.0
MOST_ROUTES: Final = 50


class _Sums:
    """The sums over the requests of one route."""

    def __init__(self) -> None:
        self.requests = 0
        self.refused = 0
        self.total_ms = 0.0
        self.core_ms = 0.0
        self.core_counts = [0] * (len(BUCKETS_MS) + 1)

    def add(self, tally: Tally, *, refused: bool) -> None:
        count = sum(tally.counts)
        self.requests += count
        if refused:
            self.refused += count
        self.total_ms += tally.total_ms
        self.core_ms += tally.upstream_ms
        self.core_counts = list(map(operator.add, self.core_counts, tally.upstream_counts))

    def since(self, before: _Sums) -> _Sums:
        """Return the sums over the requests after `before`."""
        new = _Sums()
        new.requests = self.requests - before.requests
        new.refused = self.refused - before.refused
        new.total_ms = self.total_ms - before.total_ms
        new.core_ms = self.core_ms - before.core_ms
        new.core_counts = list(map(operator.sub, self.core_counts, before.core_counts))
        return new


@dataclass(frozen=True, slots=True)
class _Look:
    """The sums at one time: of all requests, by route, and the refusals by code."""

    at: float
    total: _Sums
    routes: dict[str, _Sums]
    codes: Counter[str]


class Traffic:
    """Compares the counters with those of the looks before.

    Args:
        counts: the counters of requests and of decisions.
    """

    def __init__(self, counts: Sequence[RequestCounts]) -> None:
        self._counts = counts
        self._looks: deque[_Look] = deque()

    def members(self, now: float) -> dict[str, object]:
        """Look at the counters at `now` (seconds of a clock that never goes back), and return the numbers.

        A rate is None at the first look, and so is a mean over no requests.
        """
        while self._looks and now - self._looks[0].at > WINDOW_SECONDS:
            self._looks.popleft()
        look = self._look(now)
        before = self._looks[0] if self._looks else look
        self._looks.append(look)
        seconds = now - before.at
        rows = [
            (sums.since(before.routes.get(route, _Sums())), sums, route)
            for route, sums in look.routes.items()
        ]
        rows.sort(key=lambda row: (-row[0].requests, -row[1].requests, row[2]))
        return {
            "window_seconds": round(seconds, 1),
            "total": _row(look.total.since(before.total), look.total, seconds),
            "routes": [
                {"route": route} | _row(new, sums, seconds) for new, sums, route in rows[:MOST_ROUTES]
            ],
            "routes_left_out": max(0, len(rows) - MOST_ROUTES),
            "refusals": [
                {"code": code, "count": count, "per_second": _rate(count - before.codes[code], seconds)}
                for code, count in look.codes.most_common()
            ],
        }

    def _look(self, now: float) -> _Look:
        total, codes = _Sums(), Counter[str]()
        routes: defaultdict[str, _Sums] = defaultdict(_Sums)
        for counts in self._counts:
            for (route, _, _, code, _), tally in counts.by_labels.items():
                for sums in (total, routes[route]):
                    sums.add(tally, refused=bool(code))
                if code:
                    codes[code] += sum(tally.counts)
        return _Look(now, total, dict(routes), codes)


def _row(new: _Sums, ever: _Sums, seconds: float) -> dict[str, object]:
    return {
        "allowed_per_second": _rate(new.requests - new.refused, seconds),
        "refused_per_second": _rate(new.refused, seconds),
        "allowed": ever.requests - ever.refused,
        "refused": ever.refused,
        "gateway_ms": _mean(new.total_ms - new.core_ms, new.requests),
        "core_ms": _mean(new.core_ms, sum(new.core_counts)),
        "core_p95_ms": _p95(new.core_counts),
    }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds else None


def _mean(total: float, count: int) -> float | None:
    return round(max(0.0, total) / count, 2) if count else None


def _p95(counts: Sequence[int]) -> float | None:
    """Return the upper bound of the bucket with the 95th percentile; the greatest bound for all above it."""
    cumulative = list(accumulate(counts))
    if not cumulative[-1]:
        return None
    bucket = next(number for number, count in enumerate(cumulative) if count >= 0.95 * cumulative[-1])
    return BUCKETS_MS[min(bucket, len(BUCKETS_MS) - 1)]
