"""Denied attempts, counted so that a flood of them makes a few entries."""

from __future__ import annotations

from gateway.audit import AuditEntry, Kind
from gateway.audit.denials import MOST_KINDS, MOST_OF_ONE, DenialCounts, DeniedAttempt


def attempt(number: int = 0, **members: str) -> DeniedAttempt:
    given = {"network": "192.0.2.1", "client": "192.0.2.1", "route": "POST /api-keys", "code": "C"} | members
    return DeniedAttempt(at=f"t{number:05}", request_id=f"r{number}", status=401, **given)


def entry(**members: object) -> AuditEntry:
    return AuditEntry(kind=Kind.ACCESS_DENIED, replica="host:1", **members)  # type: ignore[arg-type]


OF_FIRST = {"client": "192.0.2.1", "route": "POST /api-keys", "code": "C", "status": 401}


def test_attempts_of_one_kind_are_one_entry_that_names_the_first_request() -> None:
    counts = DenialCounts()
    for number in range(3):
        counts.add(attempt(number))
    assert counts.take("host:1") == [entry(at="t00000", request_id="r0", count=3, until="t00002", **OF_FIRST)]
    assert counts.take("host:1") == []


def test_networks_keys_routes_and_codes_are_kept_apart() -> None:
    counts = DenialCounts()
    others: tuple[dict[str, str], ...] = (
        {"network": "n"},
        {"key_id": "k"},
        {"route": "GET /api-keys"},
        {"code": "D"},
        {},
    )
    for number, members in enumerate(others):
        counts.add(attempt(number, **members))
    assert [each.count for each in counts.take("host:1")] == [1] * 5


def test_a_flood_from_any_number_of_networks_makes_a_few_entries_and_loses_no_count() -> None:
    """Beyond so many kinds, one entry counts all further attempts."""
    counts = DenialCounts()
    for number in range(10_000):
        counts.add(attempt(number, network=f"n{number}"))
    *first, others = sorted(counts.take("host:1"), key=lambda each: each.count)
    assert [each.count for each in first] == [1] * MOST_KINDS
    assert others == entry(at=f"t{MOST_KINDS:05}", count=10_000 - MOST_KINDS, until="t09999")


def test_one_key_cannot_hide_the_attempts_of_another() -> None:
    """A key has four entries at most; the last one counts all its further kinds, and names it."""
    counts = DenialCounts()
    for number in range(1000):
        counts.add(attempt(number, key_id="api_key_1", owner="acme", network=f"n{number}"))
    counts.add(attempt(2000, key_id="api_key_2"))
    told = counts.take("host:1")
    assert [(each.key_id, each.count) for each in told] == [
        *(("api_key_1", 1),) * MOST_OF_ONE, ("api_key_1", 1000 - MOST_OF_ONE), ("api_key_2", 1),
    ]  # fmt: skip
    assert told[MOST_OF_ONE] == entry(
        at="t00003", key_id="api_key_1", owner="acme", count=1000 - MOST_OF_ONE, until="t00999"
    )


def test_one_network_without_a_key_cannot_hide_another() -> None:
    counts = DenialCounts()
    for number in range(1000):
        counts.add(attempt(number, route=f"{number}"))
    counts.add(attempt(2000, network="n", client="n"))
    assert [(each.client, each.count) for each in counts.take("host:1")] == [
        *(("192.0.2.1", 1),) * MOST_OF_ONE, ("192.0.2.1", 1000 - MOST_OF_ONE), ("n", 1),
    ]  # fmt: skip


def test_who_has_no_key_cannot_hide_an_attempt_with_one() -> None:
    counts = DenialCounts()
    for number in range(1000):
        counts.add(attempt(number, network=f"n{number}"))
    counts.add(attempt(2000, key_id="api_key_1", owner="acme"))
    (told,) = [each for each in counts.take("host:1") if each.key_id]
    assert (told.key_id, told.owner, told.count) == ("api_key_1", "acme", 1)
