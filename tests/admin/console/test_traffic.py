"""The rates and latencies that the console shows."""

from __future__ import annotations

from typing import Any

from gateway.admin.console.traffic import MOST_ROUTES, Traffic
from gateway.telemetry import AccessEntry
from gateway.telemetry.request_counts import RequestCounts

LISTED = "GET /ledgers/{id}"
REFUSED = {"code": "AUTH_INSUFFICIENT_PERMISSIONS", "status": 403}


def counts(number: int, **changes: Any) -> RequestCounts:
    found = RequestCounts()
    add(found, number, **changes)
    return found


def add(to: RequestCounts, number: int, **changes: Any) -> None:
    usual: dict[str, Any] = {"time": 0.0, "method": "GET", "route": LISTED, "status": 200}
    for _ in range(number):
        to.count(AccessEntry(**(usual | changes)))


def row(**changes: Any) -> dict[str, Any]:
    return {
        "allowed_per_second": 0.0,
        "refused_per_second": 0.0,
        "allowed": 0,
        "refused": 0,
        "gateway_ms": None,
        "core_ms": None,
        "core_p95_ms": None,
    } | changes


def test_the_first_look_has_counts_and_no_rate() -> None:
    unknown = {"allowed_per_second": None, "refused_per_second": None}
    assert Traffic([counts(3)]).members(5.0) == {
        "window_seconds": 0.0,
        "total": row(allowed=3, **unknown),
        "routes": [row(route=LISTED, allowed=3, **unknown)],
        "routes_left_out": 0,
        "refusals": [],
    }


def test_a_later_look_tells_gateway_and_core_apart() -> None:
    requests = counts(10, gateway_ms=900.0, upstream_ms=900.0)
    traffic = Traffic([requests])
    traffic.members(0.0)
    add(requests, 18, gateway_ms=1.0, upstream_ms=4.0)
    add(requests, 2, gateway_ms=0.5, **REFUSED)
    expected = row(
        allowed_per_second=9.0,
        refused_per_second=1.0,
        allowed=28,
        refused=2,
        gateway_ms=0.95,
        core_ms=4.0,
        core_p95_ms=5.0,
    )
    assert traffic.members(2.0) == {
        "window_seconds": 2.0,
        "total": expected,
        "routes": [expected | {"route": LISTED}],
        "routes_left_out": 0,
        "refusals": [{"code": "AUTH_INSUFFICIENT_PERMISSIONS", "count": 2, "per_second": 1.0}],
    }


def test_decisions_for_an_ingress_count_too() -> None:
    found = Traffic([counts(2), counts(3, answered_by="decide")]).members(0.0)
    assert found["total"] == row(allowed=5, allowed_per_second=None, refused_per_second=None)


def test_numbers_are_those_of_the_last_ten_seconds() -> None:
    requests = RequestCounts()
    traffic = Traffic([requests])
    for second in range(30):
        traffic.members(float(second))
        add(requests, second)
    found = traffic.members(30.0)
    assert (found["window_seconds"], found["total"]) == (
        10.0,
        row(allowed=435, allowed_per_second=24.5, gateway_ms=0.0),
    )


def test_after_a_pause_rates_begin_anew() -> None:
    requests = RequestCounts()
    traffic = Traffic([requests])
    traffic.members(0.0)
    add(requests, 100)
    unknown = {"allowed_per_second": None, "refused_per_second": None}
    assert traffic.members(60.0)["total"] == row(allowed=100, **unknown)


def test_the_busiest_routes_come_first_and_the_rest_is_left_out() -> None:
    requests = RequestCounts()
    for number in range(MOST_ROUTES + 3):
        add(requests, number + 1, route=f"GET /{number}")
    found = Traffic([requests]).members(0.0)
    routes: Any = found["routes"]
    assert ([one["allowed"] for one in routes], found["routes_left_out"]) == (
        list(range(MOST_ROUTES + 3, 3, -1)),
        3,
    )
