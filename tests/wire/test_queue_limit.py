"""How many requests may wait for a slot."""

from __future__ import annotations

import pytest

from gateway.wire.queue_limit import LEAST, STANDING_SECONDS, QueueLimit

NOW = 1000.0


def limit(wait: float = 0.1) -> QueueLimit:
    made = QueueLimit()
    made.adopt(1000, wait)
    return made


def allowed_after(made: QueueLimit, grants: int) -> int:
    """Return how many may wait after a standing queue with so many grants."""
    made.allowed(NOW)
    for _ in range(grants):
        made.note_grant()
    return made.allowed(NOW + STANDING_SECONDS)


def test_a_burst_may_fill_the_queue() -> None:
    """Until requests have waited for long without a pause, all may wait."""
    made = limit()
    assert [made.allowed(NOW), made.allowed(NOW + 0.9 * STANDING_SECONDS)] == [1000, 1000]


def test_in_a_standing_queue_as_many_wait_as_are_served_in_time() -> None:
    """With 400 slots a second, 40 may wait for 0.1 s."""
    assert allowed_after(limit(), round(400 * STANDING_SECONDS)) == 40


@pytest.mark.parametrize(("grants", "expected"), [(0, LEAST), (100_000, 1000)])
def test_it_is_never_below_the_least_nor_above_the_setting(grants: int, expected: int) -> None:
    """However slow or fast Core is, a few may wait, and no more than the setting says."""
    assert allowed_after(limit(), grants) == expected


def test_an_empty_queue_may_be_filled_again() -> None:
    """Once no request waits, the next burst may fill the queue."""
    made = limit()
    allowed_after(made, 0)
    made.note_empty()
    assert made.allowed(NOW + 1) == 1000


def test_without_a_wait_it_stays_as_it_is() -> None:
    """A wait of 0 lets the queue be full for any time."""
    assert allowed_after(limit(wait=0.0), 0) == 1000
