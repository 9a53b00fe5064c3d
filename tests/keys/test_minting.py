"""New keys, their ids and their digests."""

from __future__ import annotations

import hashlib
import os

import pytest

from gateway.keys.minting import digest, is_key, is_key_id, mint_id, mint_key
from gateway.policy.key_checksum import has_checksum


def test_a_key_is_32_bytes_in_base64url() -> None:
    assert mint_key(lambda size: b"\xff" * size) == "_" * 42 + "8="


def test_an_id_is_a_version_4_uuid_of_16_bytes() -> None:
    assert mint_id(lambda size: b"\xff" * size) == "api_key_ffffffff-ffff-4fff-bfff-ffffffffffff"


def test_a_minted_key_has_the_form_that_is_looked_up() -> None:
    assert all(is_key(mint_key(os.urandom)) and is_key_id(mint_id(os.urandom)) for _ in range(100))


def test_a_key_with_a_prefix_has_no_padding_and_ends_with_its_checksum() -> None:
    key = mint_key(lambda size: b"\xff" * size, "blnk_live_")
    assert key[:-6] == f"blnk_live_{'_' * 42}8"
    assert has_checksum(key)
    assert all(has_checksum(mint_key(os.urandom, "b_")) for _ in range(100))


def test_the_digest_is_sha256_of_the_text_as_it_was_sent() -> None:
    expected = hashlib.sha256(b"abc").hexdigest()
    assert (digest("abc"), digest(b"abc")) == (expected, expected)


@pytest.mark.parametrize(
    "text", ["", "a" * 43, "a" * 44, "a" * 42 + "==", "a" * 43 + "=\n", "+" * 43 + "=", "é" * 43 + "="]
)
def test_a_text_of_another_form_is_no_key(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api_key_",
        "api_key_x",
        "api_key_FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
        "api_key_ffffffff-ffff-4fff-bfff-ffffffffffff ",
    ],
)
def test_a_text_of_another_form_is_no_key_id(text: str) -> None:
    assert not is_key_id(text)
