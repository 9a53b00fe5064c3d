"""A key against a bcrypt hash, in threads."""

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
    """Notes the keys in the order in which their comparisons begin."""

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
    """What is no hash, or too dear a one, matches nothing."""
    assert await verifier.matches(KEY, text, client="192.0.2.1") is matches


def beginning(number: int) -> str:
    """A key that begins otherwise than those of other numbers."""
    return f"{number:016}{KEY[16:]}"


async def test_so_many_of_one_address_wait_for_keys_that_begin_alike(verifier: Verifier) -> None:
    """Beyond it is a refusal, not a verdict; other keys and addresses go on."""
    # One is compared meanwhile.
    alike = [verifier.matches(KEY, GOOD, client="a") for _ in range(MAX_WAITING_PER_PREFIX + 2)]
    others = [verifier.matches(KEY, GOOD, client="b"), verifier.matches(beginning(1), GOOD, client="a")]
    outcomes = await asyncio.gather(*alike, *others, return_exceptions=True)
    expected = [bool] * (MAX_WAITING_PER_PREFIX + 1) + [LookupOverloadError] + [bool] * 2
    assert [type(outcome) for outcome in outcomes] == expected


async def test_beyond_all_places_who_has_the_most_loses_one(verifier: Verifier) -> None:
    flood = [verifier.matches(beginning(number), GOOD, client="a") for number in range(MAX_WAITING + THREADS)]
    other = verifier.matches(KEY, GOOD, client="b")
    outcomes = await asyncio.gather(*flood, other, return_exceptions=True)
    expected = [bool] * (MAX_WAITING + THREADS - 1) + [LookupOverloadError] + [bool]
    assert [type(outcome) for outcome in outcomes] == expected


async def test_a_flood_delays_another_address_by_what_is_under_way(
    verifier: Verifier, comparing: Comparing
) -> None:
    """Whoever floods many known beginnings of keys keeps no other address from its first use."""
    flood = [verifier.matches(beginning(number), GOOD, client="a") for number in range(30)]
    await asyncio.gather(*flood, verifier.matches(KEY, GOOD, client="b"))
    # What the threads were at before it came, a turn of the flood, and what begins at the same time.
    assert comparing.begun.index(KEY) <= THREADS + 1 + (THREADS - 1)


async def test_a_flood_delays_another_key_of_its_address_by_one_hash_for_each_beginning(
    verifier: Verifier, comparing: Comparing
) -> None:
    keys = [beginning(number) for number in range(6) for _ in range(MAX_WAITING_PER_PREFIX)]
    await asyncio.gather(*(verifier.matches(key, GOOD, client="a") for key in [*keys, KEY]))
    assert comparing.begun.index(KEY) <= 6 + THREADS + (THREADS - 1)


async def test_a_flood_of_one_beginning_from_many_addresses_leaves_a_thread_to_others(
    verifier: Verifier, comparing: Comparing
) -> None:
    flood = [verifier.matches(beginning(1), GOOD, client=f"192.0.2.{number}") for number in range(30)]
    await asyncio.gather(*flood, verifier.matches(KEY, GOOD, client="b"))
    assert comparing.begun.index(KEY) <= 1 + (THREADS - 1)


async def test_closing_fails_all_who_wait() -> None:
    verifier = Verifier()
    waiting = [asyncio.create_task(verifier.matches(KEY, GOOD, client=str(each))) for each in range(9)]
    await asyncio.sleep(0)
    verifier.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[1:]] == [KeysUnavailableError] * 8
