"""Comparison of a key with a bcrypt hash, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.keys.core.verifier import MAX_WAITING, MAX_WAITING_PER_PREFIX, THREADS, Verifier, is_of
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError
from tests.keys.core.conftest import hashed

KEY = "k" * 43 + "="
GOOD = hashed(KEY)


class Comparing:
    """Records the keys in the order in which their comparisons start."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def __call__(self, key: str, hashed: str) -> bool:
        self.begun.append(key)
        return is_of(key, hashed)


@pytest.fixture
def comparing() -> Comparing:
    return Comparing()


@pytest.fixture
def verifier(comparing: Comparing) -> Iterator[Verifier]:
    made = Verifier(comparing)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        (GOOD, True),
        ("$2b$" + GOOD[4:], True),
        (hashed("other"), False),
        ("", False),
        (KEY, False),
        ("$2a$31$" + GOOD[7:], False),
        ("$2a$15$" + GOOD[7:], False),
        ("$2a$03$" + GOOD[7:], False),
        (GOOD + "x", False),
        (GOOD[:-1] + "\u00e9", False),
    ],
)
async def test_a_hash_matches_or_does_not(verifier: Verifier, text: str, matches: bool) -> None:
    """A text that is no hash, or a hash that is too expensive, matches no key."""
    assert await verifier.matches(KEY, text, client="192.0.2.1") is matches


def with_prefix(number: int) -> str:
    """Return a key whose first 16 characters are those of `number`."""
    return f"{number:016}{KEY[16:]}"


async def test_the_queue_of_one_address_for_one_prefix_is_limited(verifier: Verifier) -> None:
    """Beyond the limit, a comparison is refused, while other prefixes and addresses are served."""
    # The first one is compared and does not wait.
    alike = [verifier.matches(KEY, GOOD, client="a") for _ in range(MAX_WAITING_PER_PREFIX + 2)]
    others = [verifier.matches(KEY, GOOD, client="b"), verifier.matches(with_prefix(1), GOOD, client="a")]
    outcomes = await asyncio.gather(*alike, *others, return_exceptions=True)
    expected = [bool] * (MAX_WAITING_PER_PREFIX + 1) + [LookupOverloadError] + [bool] * 2
    assert [type(outcome) for outcome in outcomes] == expected


async def test_when_all_places_are_taken_the_client_with_the_most_loses_one(verifier: Verifier) -> None:
    flood = [
        verifier.matches(with_prefix(number), GOOD, client="a") for number in range(MAX_WAITING + THREADS)
    ]
    other = verifier.matches(KEY, GOOD, client="b")
    outcomes = await asyncio.gather(*flood, other, return_exceptions=True)
    expected = [bool] * (MAX_WAITING + THREADS - 1) + [LookupOverloadError] + [bool]
    assert [type(outcome) for outcome in outcomes] == expected


async def test_a_flood_delays_another_address_by_the_comparisons_under_way(
    verifier: Verifier, comparing: Comparing
) -> None:
    """An address that floods many known prefixes delays a first use from another address by one turn."""
    flood = [verifier.matches(with_prefix(number), GOOD, client="a") for number in range(30)]
    await asyncio.gather(*flood, verifier.matches(KEY, GOOD, client="b"))
    # One comparison for each thread, one turn of the flood, and those that start at the same time.
    assert comparing.begun.index(KEY) <= THREADS + 1 + (THREADS - 1)


async def test_a_flood_delays_another_key_of_its_address_by_one_comparison_for_each_prefix(
    verifier: Verifier, comparing: Comparing
) -> None:
    keys = [with_prefix(number) for number in range(6) for _ in range(MAX_WAITING_PER_PREFIX)]
    await asyncio.gather(*(verifier.matches(key, GOOD, client="a") for key in [*keys, KEY]))
    assert comparing.begun.index(KEY) <= 6 + THREADS + (THREADS - 1)


async def test_a_flood_of_one_prefix_from_many_addresses_leaves_a_thread_to_others(
    verifier: Verifier, comparing: Comparing
) -> None:
    flood = [verifier.matches(with_prefix(1), GOOD, client=f"192.0.2.{number}") for number in range(30)]
    await asyncio.gather(*flood, verifier.matches(KEY, GOOD, client="b"))
    assert comparing.begun.index(KEY) <= 1 + (THREADS - 1)


async def test_closing_fails_all_who_wait() -> None:
    verifier = Verifier()
    waiting = [asyncio.create_task(verifier.matches(KEY, GOOD, client=str(each))) for each in range(9)]
    await asyncio.sleep(0)
    verifier.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[1:]] == [KeysUnavailableError] * 8
