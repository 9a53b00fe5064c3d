"""Keys with a prefix: their checksum, and how a damaged one is known."""

from __future__ import annotations

import re
import zlib

import pytest

from gateway.policy.key_checksum import checksum, has_checksum, holds_prefixed_key, is_damaged, is_prefix
from tests.running import ROOT

PREFIX = "blnk_live_"
TEXT = PREFIX + "A" * 43
KEY = TEXT + checksum(TEXT)


def test_the_checksum_is_crc32_in_base62() -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for digit in checksum(TEXT):
        number = number * 62 + digits.index(digit)
    assert (len(checksum(TEXT)), number) == (6, zlib.crc32(TEXT.encode()))
    assert checksum("") == "000000"


def test_any_other_character_breaks_the_checksum() -> None:
    assert has_checksum(KEY)
    for place in range(len(KEY)):
        other = "B" if KEY[place] != "B" else "C"
        assert not has_checksum(KEY[:place] + other + KEY[place + 1 :])


@pytest.mark.parametrize(
    "text", ["", KEY[:-1], KEY + "0", KEY + "\n", "A" * 43 + "=", f"{PREFIX}\udcff", "é" * 59]
)
def test_a_text_of_another_form_has_no_checksum(text: str) -> None:
    assert not has_checksum(text)


@pytest.mark.parametrize(
    ("key", "damaged"),
    [
        (KEY, False),
        (KEY[:-1], True),
        (KEY + "x", True),
        (KEY.replace("A", "B", 1), True),
        (PREFIX, True),
        (f"{PREFIX}\udcff", True),
        ("A" * 43 + "=", False),
        ("blnk_test_" + KEY[10:], False),
        ("", False),
    ],
)
def test_only_a_text_with_the_prefix_can_be_damaged(key: str, damaged: bool) -> None:
    assert is_damaged(key, PREFIX) is damaged


def test_a_whole_key_with_a_longer_prefix_is_no_damaged_key_with_a_shorter_one() -> None:
    """`blnk_` and `blnk_live_` may follow each other as the prefix: keys of both are whole."""
    assert not is_damaged(KEY, "blnk_")


def test_a_key_of_core_may_begin_like_the_prefix() -> None:
    """Of random keys, one in 4,096 begins with a prefix of two characters."""
    assert not is_damaged("b_" + "A" * 41 + "=", "b_")


@pytest.mark.parametrize(
    ("text", "holds"),
    [(KEY, True), (f'{{"key":"{KEY}"}}', True), (f"/a/{KEY}?b", True), (KEY[:-1], False), ("a" * 500, False)],
)
def test_a_key_with_a_prefix_is_found_in_a_text(text: str, holds: bool) -> None:
    assert holds_prefixed_key(text) is holds


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("blnk_live_", True), ("b_", True), ("a" * 19 + "_", True), ("a" * 20 + "_", False), ("_", False),
     ("blnk_live", False), ("Blnk_", False), ("1a_", False), ("", False), ("é_", False), ("a_\n", False)],
)  # fmt: skip
def test_a_prefix_is_lower_case_and_ends_with_an_underscore(text: str, allowed: bool) -> None:
    assert is_prefix(text) is allowed


def test_the_documented_expression_for_scanners_finds_keys_and_nothing_shorter() -> None:
    readme = (ROOT / "deploy/README.md").read_text()
    (expression,) = re.findall(r"^(blnk_live_\[.*)$", readme, re.MULTILINE)
    assert re.findall(expression, f"x {KEY}, {KEY[:-1]} {'A' * 43}=") == [KEY]
