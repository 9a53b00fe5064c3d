"""Entries that wait: their order, and what is said of those that were lost."""

from __future__ import annotations

from gateway.audit import AuditEntry, Kind
from gateway.audit.queue import AuditQueue


def made(number: int) -> AuditEntry:
    return AuditEntry(kind=Kind.POLICY_LIVE, at=f"t{number}")


def test_entries_leave_in_their_order_and_only_once_they_were_written() -> None:
    queue = AuditQueue("host:1")
    for number in range(3):
        queue.put(made(number))
    assert queue.first(2) == queue.first(2) == [made(0), made(1)]
    queue.written(2)
    assert (queue.first(2), len(queue), queue.lost) == ([made(2)], 1, 0)


def test_beyond_the_bound_entries_are_lost_and_an_entry_says_how_many() -> None:
    """What came first is kept: the start of a process, before a flood."""
    queue = AuditQueue("host:1", most=2)
    for number in range(5):
        queue.put(made(number))
    assert (queue.first(9), queue.lost) == ([made(0), made(1)], 3)
    queue.written(1)
    lost = AuditEntry(kind=Kind.ENTRIES_LOST, at="t2", until="t4", replica="host:1", count=3)
    assert queue.first(9) == [made(1), lost]
    queue.written(2)
    assert (queue.first(9), queue.lost) == ([], 3)
