"""Entries of the audit stream: their JSON and their bounds."""

from __future__ import annotations

import pytest

from gateway.audit.entry import (
    MAX_LISTED,
    MAX_TEXT,
    MEMBERS,
    AuditEntry,
    Kind,
    decode_entry,
    encode_entry,
    shortened,
    shortened_text,
)


def test_members_that_an_entry_does_not_need_are_left_out() -> None:
    entry = AuditEntry(kind=Kind.GATEWAY_STOPPED, at="2026-11-28T02:00:00Z", replica="host:1", cut=2)
    assert encode_entry(entry) == (
        b'{"kind":"gateway_stopped","at":"2026-11-28T02:00:00Z","replica":"host:1","cut":2}'
    )
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "text", ["n" * MAX_TEXT, "é" * (MAX_TEXT // 2), "\x01" * (MAX_TEXT // 6), "\U0001f600" * (MAX_TEXT // 4)]
)
def test_a_text_within_its_bytes_is_whole_and_a_longer_one_is_cut(text: str) -> None:
    """Bytes are counted as JSON writes them: a control character takes six."""
    assert shortened(text) == text
    longer = text[0] * (MAX_TEXT + 1)
    assert shortened(longer) == f"{text}..."


def test_a_long_list_says_how_many_items_are_left_out() -> None:
    scopes = ["ledgers:read"] * 100
    kept = MAX_LISTED // len('"ledgers:read"')
    assert shortened(scopes) == [*scopes[:kept], f"and {100 - kept} more"]


def test_the_largest_value_of_a_record_stays_small() -> None:
    """An owner can make thousands of records: their entries must not fill Redis."""
    largest = {"name": "\x01" * 10_000, "scopes": ["\x01" * 10_000] * 100, "terms": {"rate": "x" * 10_000}}
    after = {name: shortened(value) for name, value in largest.items()}
    assert len(encode_entry(AuditEntry(kind=Kind.KEY_CREATED, after=after))) < 1500


def test_every_kind_has_its_members() -> None:
    """The reference of the entries is complete, and names only members that exist."""
    assert set(MEMBERS) == set(Kind)
    assert {name for names in MEMBERS.values() for name in names} | {"kind", "at"} == set(
        AuditEntry.__struct_fields__
    )


def test_bytes_that_are_no_utf_8_can_be_written() -> None:
    """What is not UTF-8 in a head reaches an entry as lone surrogates, and must not end its writer."""
    assert shortened_text("caf\u00e9 \udcff") == "caf\u00e9 \\udcff"
