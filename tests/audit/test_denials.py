"""Denied attempts, counted so that a flood of them makes a few entries."""

from __future__ import annotations

from dataclasses import replace
from random import Random

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


def test_a_key_that_comes_with_many_owners_loses_no_count() -> None:
    """Its entries are those of as many parties, and the newest of them stands for many kinds."""
    counts = DenialCounts(most=MOST_OF_ONE)
    for number in range(10):
        counts.add(attempt(number, key_id="api_key_1", owner=f"owner {number}"))
    told = counts.take("host:1")
    assert [(each.key_id, each.owner, each.count) for each in told] == [
        *(("api_key_1", f"owner {number}", 1) for number in range(MOST_OF_ONE)), ("", "", 10 - MOST_OF_ONE),
    ]  # fmt: skip


def test_attempts_in_any_order_fail_nothing_and_lose_no_count() -> None:
    for seed in range(300):
        random = Random(seed)  # noqa: S311  # reproducible
        counts = DenialCounts(most=1 + seed % 6)
        for number in range(60):
            names = {name: random.choice("abcd") for name in ("network", "owner", "route", "code")}
            counts.add(attempt(number, key_id=random.choice(["", "k", "l"]), **names))
        assert sum(each.count for each in counts.take("host:1")) == 60


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


def told_of(counts: DenialCounts) -> list[tuple[str, str, str, int]]:
    """Return owner, key, route and count of each entry."""
    return [(each.owner, each.key_id, each.route, each.count) for each in counts.take("host:1")]


def test_many_keys_of_one_owner_cannot_hide_the_attempts_of_another_owner() -> None:
    counts = DenialCounts()
    for number in range(1000):
        counts.add(attempt(number, key_id=f"api_key_{number % 50}", owner="acme", route=f"{number % 7}"))
    counts.add(attempt(2000, key_id="api_key_o", owner="other"))
    told = told_of(counts)
    assert [each for each in told if each[0] != "acme"] == [("other", "api_key_o", "POST /api-keys", 1)]
    assert len(told) == MOST_KINDS
    assert sum(each[3] for each in told) == 1001


def test_ten_owners_with_any_number_of_keys_have_an_entry_each() -> None:
    """What came first does not matter: an owner that floods before the others gives its entries up."""
    counts = DenialCounts()
    for number in range(1000):
        counts.add(attempt(number, key_id=f"api_key_{number}", owner="acme"))
    others = [f"owner{number}" for number in range(MOST_KINDS - 1)]
    for number, owner in enumerate(others):
        counts.add(attempt(2000 + number, key_id=f"api_key_{owner}", owner=owner))
    assert told_of(counts) == [
        ("acme", "", "", 1000), *((owner, f"api_key_{owner}", "POST /api-keys", 1) for owner in others),
    ]  # fmt: skip


def test_owners_that_flood_at_the_same_time_share_the_entries_evenly() -> None:
    counts = DenialCounts()
    for number in range(3000):
        owner = f"owner{number % 2}"
        counts.add(attempt(number, key_id=f"api_key_{owner}_{number % 100}", owner=owner))
    told = told_of(counts)
    assert [sum(each[0] == owner for each in told) for owner in ("owner0", "owner1")] == [MOST_KINDS // 2] * 2
    assert sum(each[3] for each in told) == 3000


def test_more_owners_than_entries_are_one_more_entry_and_no_count_is_lost() -> None:
    counts = DenialCounts()
    for number in range(10_000):
        counts.add(attempt(number, key_id=f"api_key_{number}", owner=f"owner{number}"))
    *first, others = counts.take("host:1")
    assert [each.owner for each in first] == [f"owner{number}" for number in range(MOST_KINDS)]
    assert others == entry(at=f"t{MOST_KINDS:05}", count=10_000 - MOST_KINDS, until="t09999")


def test_one_key_cannot_hide_another_key_of_its_owner() -> None:
    """The key with the most entries gives them up first; each keeps its name."""
    counts = DenialCounts()
    keys = [f"api_key_{number}" for number in range(MOST_KINDS)]
    for key in keys:
        for number in range(10):
            counts.add(attempt(number, key_id=key, owner="acme", route=f"{number}"))
    assert [(key, count) for _, key, _, count in told_of(counts)] == [(key, 10) for key in keys]


def test_an_entry_of_many_kinds_has_the_first_and_the_last_time_of_its_attempts() -> None:
    """Texts of times do not sort as the times do."""
    counts = DenialCounts(most=2)
    times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.9Z", "2026-01-01T00:00:00.91Z"]
    for number, at in enumerate(times):
        counts.add(replace(attempt(key_id=f"api_key_{number}", owner="acme"), at=at))
    assert [(each.at, each.until, each.count) for each in counts.take("host:1")] == [
        (times[0], "", 1), (times[1], times[2], 2),
    ]  # fmt: skip


def test_no_order_of_attempts_makes_more_entries_or_loses_a_count() -> None:
    """Names that are an owner, a key and a network at once included."""
    random, counts = Random(7), DenialCounts()  # noqa: S311
    names = ["", *(f"{number}" for number in range(6))]
    for _ in range(200):
        for number in range(100):
            key, owner, network, route = (random.choice(names) for _ in range(4))
            counts.add(attempt(number, key_id=key, owner=owner if key else "", network=network, route=route))
        told = counts.take("host:1")
        assert sum(each.count for each in told) == 100
        assert sum(bool(each.owner or each.key_id) for each in told) <= MOST_KINDS
        assert len(told) <= 2 * MOST_KINDS + 2
