"""The live numbers of the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.admin.console.snapshot import MOST_KEYS, SHARED_SECONDS, Snapshots, SnapshotSources
from gateway.telemetry import AccessEntry
from gateway.telemetry.refusal_counts import RefusalCounts
from tests.admin.test_application import metrics_of, ready_health
from tests.telemetry.sources import sources


def snapshots(refusals: RefusalCounts, times: Iterator[float], **changes: Any) -> Snapshots:
    health = ready_health(**changes)
    gauges = sources(
        requests_in_flight=lambda: 1, connections=lambda: 2, upstream_connections=lambda: {"idle": 3}
    )
    found = SnapshotSources(
        health=health, metrics=metrics_of(health), gauges=gauges, refusals=refusals, expiring=lambda: 4
    )
    return Snapshots(found, lambda: next(times))


def test_it_is_one_line_of_json_with_health_gauges_and_the_keys_with_most_refusals() -> None:
    refusals = RefusalCounts(most=MOST_KEYS + 2)
    for number in range(MOST_KEYS + 3):
        refusals.count(AccessEntry(time=0.0, key_id=f"key {number:02}", code="RATE_LIMITED"))
    text = snapshots(refusals, iter([5.0])).latest()
    shown = json.loads(text)
    assert (text.count(b"\n"), shown.pop("traffic")["routes"], shown) == (
        0,
        [],
        {
            "health": ready_health().report()[1],
            "core": "",
            "store": "",
            "refused_keys": [
                {"key_id": f"key {number:02}", "code": "RATE_LIMITED", "count": 1}
                for number in range(MOST_KEYS)
            ],
            "refusals_left_out": 3,
            "in_flight": 1,
            "connections": 2,
            "core_connections": {"idle": 3},
            "keys_ending_soon": 4,
        },
    )


def test_those_who_ask_within_a_moment_share_one() -> None:
    asked = snapshots(RefusalCounts(), iter([5.0, 5.0 + SHARED_SECONDS - 0.1, 5.0 + SHARED_SECONDS]))
    first, second, third = asked.latest(), asked.latest(), asked.latest()
    windows = [json.loads(one)["traffic"]["window_seconds"] for one in (first, second, third)]
    assert (windows, first is second) == ([0.0, 0.0, SHARED_SECONDS], True)


@pytest.mark.parametrize(
    ("changes", "core", "store"),
    [
        (
            {"core_seen": False, "core_reason": "Core has not been asked yet"},
            "Core has not been asked yet",
            "",
        ),
        ({"degraded": {"upstream": "closed", "store": "timed out"}}, "closed", "timed out"),
        ({"draining": True}, "", ""),
    ],
)
def test_it_says_what_is_wrong_with_core_and_the_store(
    changes: dict[str, Any], core: str, store: str
) -> None:
    shown = json.loads(snapshots(RefusalCounts(), iter([5.0]), **changes).latest())
    assert (shown["core"], shown["store"]) == (core, store)
