"""How many requests may wait for a slot."""

from __future__ import annotations

import pytest

from gateway.wire.queue_limit import LEAST, STANDING_SECONDS, QueueLimit

NOW = 1000.0


def limit(wait: float = 0.1) -> QueueLimit:
    made = QueueLimit()
    made.adopt(1000, wait)
    return made


def overload(made: QueueLimit, grants: int, began: float = NOW) -> int:
    """Return how many may wait after half a second of a long queue, with so many grants."""
    made.allowed(began, 1000)
    for _ in range(grants):
        made.note_grant()
    return made.allowed(began + STANDING_SECONDS, 1000)


def test_a_burst_may_fill_the_queue() -> None:
    """Until requests have waited for long without a pause, all may wait."""
    made = limit()
    assert [made.allowed(NOW, 0), made.allowed(NOW + 0.9 * STANDING_SECONDS, 999)] == [1000, 1000]


def test_a_pause_lets_the_next_burst_wait() -> None:
    """A queue that was empty in between is no long one."""
    made = limit()
    made.allowed(NOW, 500)
    made.note_empty()
    assert [made.allowed(NOW + part * STANDING_SECONDS, 500) for part in (0.9, 1.5)] == [1000, 1000]


def test_in_a_long_queue_as_many_wait_as_are_served_in_time() -> None:
    """With 400 slots a second, 40 may wait for 0.1 s; later it is counted again."""
    made = limit()
    first = overload(made, round(400 * STANDING_SECONDS))
    assert (first, overload(made, round(200 * STANDING_SECONDS), NOW + STANDING_SECONDS)) == (40, 20)


@pytest.mark.parametrize(("grants", "expected"), [(1, LEAST), (100_000, 1000)])
def test_it_is_never_below_the_least_nor_above_the_setting(grants: int, expected: int) -> None:
    """However slow or fast Core is, a few may wait, and no more than the setting says."""
    assert overload(limit(), grants) == expected


def test_an_empty_moment_does_not_end_it() -> None:
    """While requests are turned away, the queue stays short, even if it is empty for a moment."""
    made = limit()
    overload(made, 1)
    made.note_empty()
    assert made.allowed(NOW + STANDING_SECONDS + 0.1, 1) == LEAST


def test_it_ends_once_nobody_is_turned_away() -> None:
    """After half a second in which all found room, or after a pause, the whole queue may be filled."""
    calm, paused = limit(), limit()
    for made in (calm, paused):
        overload(made, 1)
        made.allowed(NOW + 2 * STANDING_SECONDS, LEAST)
    calm.allowed(NOW + 3 * STANDING_SECONDS, 0)
    assert calm.allowed(NOW + 4 * STANDING_SECONDS, 0) == 1000
    assert paused.allowed(NOW + 5 * STANDING_SECONDS, LEAST) == 1000


def test_a_core_that_stands_still_turns_nobody_away() -> None:
    """Without a slot in half a second, the queue stays as long as it may be."""
    assert overload(limit(), 0) == 1000


def test_without_a_wait_it_stays_as_it_is() -> None:
    """A wait of 0 lets the queue be full for any time."""
    assert overload(limit(wait=0.0), 1) == 1000
