"""The requests that are measured: their sizes, and that they are what Core takes."""

from __future__ import annotations

import json

import pytest

from tests.bench.messages import (
    CLIENT_KEY,
    EXACT,
    EXACT_TRANSACTION,
    GET_LARGE,
    LARGE_RESPONSE,
    POST_LARGE,
    RESPONSE,
    bulk_of,
    transaction_of,
)
from tests.bench.store import key


@pytest.mark.parametrize("length", [1_000, 20_000, 5_000_000])
def test_a_transaction_has_about_the_length_that_is_wanted(length: int) -> None:
    """It is never longer, so that 5 MB stay within the gateway's limit; and at most 60 bytes shorter."""
    body = transaction_of(length)
    assert length - 60 <= len(body) <= length
    assert json.loads(body)["meta_data"]["member_000000"]


@pytest.mark.parametrize("items", [1, 10_000])
def test_a_bulk_request_has_so_many_items(items: int) -> None:
    """10,000 of them are within the gateway's limit for a body, 5 MiB."""
    body = bulk_of(items)
    assert len(json.loads(body)["transactions"]) == items
    assert len(body) <= 5 * 2**20


def test_large_requests_and_responses_have_20_kb() -> None:
    """As the issue on speed measures them."""
    assert GET_LARGE.body == ""
    assert 19_000 <= len(POST_LARGE.body) <= 20_000
    assert 19_000 <= len(LARGE_RESPONSE) <= 20_000
    assert json.loads(LARGE_RESPONSE)[0] == json.loads(RESPONSE)


def test_the_exact_number_is_one_that_a_double_changes() -> None:
    """It stands in the body as it is, and a double of it is another number."""
    assert f'"precise_amount":{EXACT}' in EXACT_TRANSACTION
    assert int(float(EXACT)) != int(EXACT)


def test_all_keys_have_the_length_of_a_minted_one() -> None:
    """So that no server has fewer bytes to read."""
    assert {len(CLIENT_KEY), len(key(0)), len(key(999_999))} == {44}
