"""The record of a key: its principal, its JSON, and its changes of state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.gocompat.times import read_instant
from gateway.keys.record import Event, KeyRecord, RefusedRecordError, Revocation
from gateway.keys.record_json import decode_record, encode_record
from gateway.policy.principals import ApiKey, KeyState
from gateway.policy.terms import NO_TERMS, KeyTerms, Rate, read_network
from tests.keys.records import PENDING, RECORD, instant, revocation

AT = "2026-02-01T00:00:00Z"
LATER = "2026-03-01T00:00:00Z"
REVOKED = RECORD.as_revoked(revocation(AT, "cli:ann", "stolen"))
DISABLED = RECORD.as_disabled(instant(AT), "cli:ann", "unpaid")


def test_the_principal_of_a_record() -> None:
    record = replace(RECORD, expires_at=instant("1970-01-01T00:00:01.5Z"))
    live = ApiKey(RECORD.id, "acme", ("ledgers:read",), 1.5)
    assert record.principal() == live
    assert replace(record, revocation=revocation(AT, "")).principal() == replace(live, revoked=True)
    assert replace(record, disabled=True).principal() == replace(live, disabled=True)


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (RECORD, KeyState.LIVE),
        (DISABLED, KeyState.DISABLED),
        (REVOKED, KeyState.REVOKED),
        (replace(REVOKED, disabled=True), KeyState.REVOKED),
        (replace(RECORD, expires_at=instant(AT)), KeyState.EXPIRED),
    ],
)
def test_the_state_of_a_record(record: KeyRecord, state: KeyState) -> None:
    assert record.state(read_instant(LATER).unix) is state


@pytest.mark.parametrize("time", ["2999-01-02T03:04:05Z", "2026-01-01T00:00:00Z"])
@pytest.mark.parametrize("unreadable", ["tomorrow", ""])
def test_a_record_without_a_readable_time_is_refused(time: str, unreadable: str) -> None:
    """A record is refused if its expiry or its creation time cannot be read."""
    text = encode_record(RECORD)
    assert time.encode() in text
    with pytest.raises(ValueError, match="parsing time"):
        decode_record(text.replace(time.encode(), unreadable.encode()))


def test_a_record_without_the_newer_members_is_read() -> None:
    old = (
        b'{"id":"i","digest":"d","name":"n","owner":"o","scopes":["a:b"],"expires_at":"2999-01-01T00:00:00Z",'
        b'"created_at":"2026-01-01T00:00:00Z","created_by":"master","last_used_at":"0001-01-01T00:00:00Z",'
        b'"revoked_at":null,"revoked_by":""}'
    )
    record = decode_record(old)
    assert (record.disabled, record.history, record.pending) == (False, (), False)


def test_a_written_record_is_read_back_equal() -> None:
    record = DISABLED.as_enabled(instant(LATER), "cli:bob")
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("revoked_at", ["null", '""', '"2026-03-01T00:00:00.25Z"'])
def test_a_record_is_written_as_every_version_has_written_it(revoked_at: str) -> None:
    """Every version writes the same bytes: all members, in their order, with times as Go writes them."""
    by = "" if revoked_at == "null" else "cli:ann"
    text = (
        '{"id":"i","digest":"pending:i","name":"n","owner":"o","scopes":["a:b"],'
        '"expires_at":"2999-01-01T00:00:00.123456789+05:30","created_at":"2026-01-01T00:00:00Z",'
        '"created_by":"master","last_used_at":"0001-01-01T00:00:00Z",'
        f'"revoked_at":{revoked_at},"revoked_by":"{by}","revoked_reason":"","disabled":true,"replaces":"r",'
        '"retiring":true,"prefix":"p","bcrypt":"b",'
        '"history":[{"at":"2026-02-01T00:00:00Z","what":"disabled","by":"cli:ann","reason":"unpaid"}]}'
    ).encode()
    assert encode_record(decode_record(text)) == text


def test_a_revocation_is_final() -> None:
    assert REVOKED.revocation == Revocation(instant(AT), "cli:ann", "stolen")
    assert REVOKED.as_revoked(revocation(LATER, "master")) is REVOKED
    assert REVOKED.as_disabled(instant(LATER), "master") is REVOKED
    revoked_while_disabled = DISABLED.as_revoked(revocation(LATER, "master"))
    assert revoked_while_disabled.as_enabled(instant(LATER), "master") is revoked_while_disabled


def test_disabling_and_enabling_are_in_the_history() -> None:
    assert DISABLED.as_disabled(instant(LATER), "cli:bob") is DISABLED
    assert RECORD.as_enabled(instant(LATER), "cli:bob") is RECORD
    assert DISABLED.as_enabled(instant(LATER), "cli:bob") == replace(
        RECORD,
        history=(
            Event(instant(AT), "disabled", "cli:ann", "unpaid"),
            Event(instant(LATER), "enabled", "cli:bob"),
        ),
    )


def test_a_rotation_moves_the_end_earlier_and_never_later() -> None:
    event = Event(instant(AT), "rotated", "cli:ann", "yearly")
    until = read_instant(LATER)
    assert RECORD.as_rotated(until, Event(instant(AT), "rotated", "cli:ann", "yearly")) == replace(
        RECORD, expires_at=instant(LATER), history=(event,)
    )
    short = replace(RECORD, expires_at=instant("2026-02-15T00:00:00Z"))
    assert short.as_rotated(until, Event(instant(AT), "rotated", "cli:ann", "yearly")) == replace(
        short, history=(event,)
    )


def test_a_key_that_awaits_core_keeps_who_ended_it() -> None:
    """A revocation keeps who, when and why; without one, the key was ended by who rotated it."""
    rotated = RECORD.as_rotated(
        read_instant(LATER), Event(instant(AT), "rotated", "cli:ann", "yearly"), awaiting_core=True
    )
    assert rotated.awaiting_core_revocation
    assert rotated.as_overlap_ended(instant(LATER)) == rotated.as_revoked(
        revocation(LATER, "cli:ann", "rotated")
    )
    assert rotated.as_overlap_ended(instant(LATER)).as_revoked_in_core() == replace(
        rotated.as_overlap_ended(instant(LATER)), awaiting_core_revocation=False
    )
    revoked = REVOKED.as_revoked(revocation(LATER, "cli:bob", "again"), awaiting_core=True)
    assert revoked == replace(REVOKED, awaiting_core_revocation=True)
    assert (revoked.as_overlap_ended(instant(LATER)), revoked.as_revoked_in_core()) == (revoked, REVOKED)
    assert rotated.as_revoked(revocation(LATER, "master")).awaiting_core_revocation


ROTATED = RECORD.as_rotated(read_instant(LATER), Event(instant(AT), "rotated", "cli:ann"))
ALREADY = "was rotated already: rotate the key that took its place"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (REVOKED, "is revoked"),
        (DISABLED, "is disabled"),
        (replace(RECORD, expires_at=instant(AT)), "is expired"),
        (ROTATED, ALREADY),
        (replace(ROTATED, expires_at=instant(AT)), ALREADY),
        (ROTATED.as_revoked(revocation(AT, "master")), "is revoked"),
    ],
)
def test_a_key_that_is_dead_or_was_rotated_is_not_rotated(record: KeyRecord, text: str) -> None:
    with pytest.raises(RefusedRecordError, match=f"^{RECORD.id} {text}$"):
        record.as_rotated(read_instant(LATER), Event(instant(AT), "rotated", "cli:ann"))


def test_a_pending_record_gets_its_digest_and_loses_its_hash() -> None:
    settled = PENDING.as_bound("d" * 64)
    assert (PENDING.pending, settled.pending, settled.bcrypt) == (True, False, "")


def test_the_later_of_two_uses_is_kept() -> None:
    used = RECORD.with_last_use(1_800_000_000.5)
    assert used.last_used_at == instant("2027-01-15T08:00:00.5Z")
    assert used.with_last_use(1_700_000_000.0) is used
    assert RECORD.with_last_use(0.0) is RECORD


TERMS = KeyTerms(
    rate=Rate(600, 60),
    burst=20,
    concurrency=4,
    allow_from=(read_network("10.0.0.0/8"), read_network("::1")),
    certificate="0a" * 32,
)


def test_terms_are_read_as_they_were_written() -> None:
    bounded = replace(RECORD, terms=TERMS)
    assert decode_record(encode_record(bounded)) == bounded
    assert bounded.principal().terms == TERMS


def test_a_record_without_terms_is_written_without_their_members() -> None:
    assert b"terms" not in encode_record(RECORD)
    assert decode_record(encode_record(RECORD)).terms is NO_TERMS


@pytest.mark.parametrize(
    "terms",
    [
        b'"rate":"100"',
        b'"rate":"0/s"',
        b'"burst":-1',
        b'"concurrency":1000001',
        b'"allow_from":["10.0.0.1/8"]',
        b'"certificate":"ab"',
    ],
)
def test_a_record_with_a_term_that_is_none_is_refused(terms: bytes) -> None:
    """A bound that cannot be understood is never taken for none."""
    text = encode_record(RECORD).removesuffix(b"}") + b',"terms":{' + terms + b"}}"
    with pytest.raises(ValueError, match="write"):
        decode_record(text)


def test_a_record_with_a_term_that_is_not_known_is_refused() -> None:
    """A term of a newer version, or one that is misspelled, is never taken for none."""
    text = encode_record(RECORD).removesuffix(b"}") + b',"terms":{"allow_form":["10.0.0.0/8"]}}'
    with pytest.raises(ValueError, match="unknown field"):
        decode_record(text)
