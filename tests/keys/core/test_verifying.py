"""A key against a bcrypt hash, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.errors import GatewayError
from gateway.keys.verifying import MAX_LINES, MAX_WAITING_ALIKE, THREADS, Verifier
from tests.keys.core.conftest import hashed

KEY = "k" * 43 + "="
GOOD = hashed(KEY)


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    made = Verifier()
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
    assert await verifier.matches(KEY, text, line="a") is matches


async def test_a_line_has_an_end(verifier: Verifier) -> None:
    """Beyond it is a failure, not a verdict; other lines go on."""
    alike = [verifier.matches(KEY, GOOD, line="a") for _ in range(MAX_WAITING_ALIKE + 1)]
    outcomes = await asyncio.gather(*alike, verifier.matches(KEY, GOOD, line="b"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [bool] * MAX_WAITING_ALIKE + [GatewayError, bool]


async def test_there_are_only_so_many_lines(verifier: Verifier) -> None:
    asked = [verifier.matches(KEY, GOOD, line=str(number)) for number in range(MAX_LINES + 1)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [bool] * MAX_LINES + [GatewayError]
    assert await verifier.matches(KEY, GOOD, line="a")


async def test_full_lines_delay_another_by_one_hash_each(verifier: Verifier) -> None:
    """Whoever floods many known beginnings of keys keeps no other key from its first use."""
    done: list[str] = []

    async def ask(line: str) -> None:
        await verifier.matches(KEY, GOOD, line=line)
        done.append(line)

    flood = [ask(str(number)) for number in range(MAX_LINES - 1) for _ in range(MAX_WAITING_ALIKE)]
    await asyncio.gather(*flood, ask("another"))
    # One of each other line, what the threads were at before it came, and what they end while it is compared.
    assert done.index("another") <= (MAX_LINES - 1) + THREADS + (THREADS - 1)
