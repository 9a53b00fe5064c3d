"""When a reason that lasts is logged again."""

from __future__ import annotations

from gateway.server.reminder import Reminder


def test_a_reason_is_due_when_it_is_new_and_then_once_a_minute() -> None:
    """A reason is logged when it is new and then once a minute, even if two reasons alternate."""
    reminder = Reminder()
    come = [(now, reason) for now in range(0, 150, 5) for reason in ("a", "b")]
    due = [(now, reason) for now, reason in come if reminder.due(reason, now)]
    assert due == [(0, "a"), (0, "b"), (60, "a"), (60, "b"), (120, "a"), (120, "b")]
