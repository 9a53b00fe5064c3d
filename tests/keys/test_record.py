"""The record of a key: its principal, and what may happen to it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from gateway.gocompat.times import read_instant
from gateway.keys.record import Event, KeyRecord, RefusedRecordError
from gateway.policy.principals import ApiKey, KeyState
from tests.keys.records import PENDING, RECORD

AT = "2026-02-01T00:00:00Z"
LATER = "2026-03-01T00:00:00Z"
REVOKED = RECORD.revoke(AT, "cli:ann", "stolen")
DISABLED = RECORD.disable(AT, "cli:ann", "unpaid")


def test_the_principal_of_a_record() -> None:
    record = replace(RECORD, expires_at="1970-01-01T00:00:01.5Z")
    live = ApiKey(RECORD.id, "acme", ("ledgers:read",), 1.5)
    assert record.principal() == live
    assert replace(record, revoked_at=AT).principal() == replace(live, revoked=True)
    assert replace(record, disabled=True).principal() == replace(live, disabled=True)


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (RECORD, KeyState.LIVE),
        (DISABLED, KeyState.DISABLED),
        (REVOKED, KeyState.REVOKED),
        (replace(REVOKED, disabled=True), KeyState.REVOKED),
        (replace(RECORD, expires_at=AT), KeyState.EXPIRED),
    ],
)
def test_the_state_of_a_record(record: KeyRecord, state: KeyState) -> None:
    assert record.state(read_instant(LATER.encode()).unix) is state


def test_a_record_without_a_readable_time_is_none() -> None:
    with pytest.raises(ValueError, match="parsing time"):
        replace(RECORD, expires_at="tomorrow")
    with pytest.raises(ValueError, match="parsing time"):
        replace(RECORD, created_at="")


def test_a_record_from_before_the_newer_members_is_read() -> None:
    old = (
        '{"id":"i","digest":"d","name":"n","owner":"o","scopes":["a:b"],"expires_at":"2999-01-01T00:00:00Z",'
        '"created_at":"2026-01-01T00:00:00Z","created_by":"master","last_used_at":"0001-01-01T00:00:00Z",'
        '"revoked_at":null,"revoked_by":""}'
    )
    record = msgspec.json.decode(old, type=KeyRecord)
    assert (record.disabled, record.history, record.pending) == (False, (), False)


def test_a_record_survives_being_written() -> None:
    record = DISABLED.enable(LATER, "cli:bob")
    assert msgspec.json.decode(msgspec.json.encode(record), type=KeyRecord) == record


def test_a_revocation_is_final() -> None:
    assert (REVOKED.revoked_at, REVOKED.revoked_by, REVOKED.revoked_reason) == (AT, "cli:ann", "stolen")
    assert REVOKED.revoke(LATER, "master") is REVOKED
    assert REVOKED.disable(LATER, "master") is REVOKED
    revoked_while_disabled = DISABLED.revoke(LATER, "master")
    assert revoked_while_disabled.enable(LATER, "master") is revoked_while_disabled


def test_disabling_and_enabling_leave_their_history() -> None:
    assert DISABLED.disable(LATER, "cli:bob") is DISABLED
    assert RECORD.enable(LATER, "cli:bob") is RECORD
    assert DISABLED.enable(LATER, "cli:bob") == replace(
        RECORD, history=(Event(AT, "disabled", "cli:ann", "unpaid"), Event(LATER, "enabled", "cli:bob"))
    )


def test_a_retired_key_ends_earlier_and_never_later() -> None:
    event = Event(AT, "rotated", "cli:ann", "yearly")
    until = read_instant(LATER.encode())
    assert RECORD.retire(until, AT, "cli:ann", "yearly") == replace(
        RECORD, expires_at=LATER, history=(event,)
    )
    short = replace(RECORD, expires_at="2026-02-15T00:00:00Z")
    assert short.retire(until, AT, "cli:ann", "yearly") == replace(short, history=(event,))


def test_a_retiring_key_ends_in_the_name_of_who_ended_it() -> None:
    """Who revoked it, when and why stays; else it is who rotated it."""
    rotated = RECORD.retire(read_instant(LATER.encode()), AT, "cli:ann", "yearly", retiring=True)
    assert rotated.retiring
    assert rotated.ended(LATER) == rotated.revoke(LATER, "cli:ann", "rotated")
    assert rotated.ended(LATER).retired() == replace(rotated.ended(LATER), retiring=False)
    revoked = REVOKED.revoke(LATER, "cli:bob", "again", retiring=True)
    assert revoked == replace(REVOKED, retiring=True)
    assert (revoked.ended(LATER), revoked.retired()) == (revoked, REVOKED)
    assert rotated.revoke(LATER, "master").retiring


ROTATED = RECORD.retire(read_instant(LATER.encode()), AT, "cli:ann")
ALREADY = "was rotated already: rotate the key that took its place"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (REVOKED, "is revoked"),
        (DISABLED, "is disabled"),
        (replace(RECORD, expires_at=AT), "is expired"),
        (ROTATED, ALREADY),
        (replace(ROTATED, expires_at=AT), ALREADY),
        (ROTATED.revoke(AT, "master"), "is revoked"),
    ],
)
def test_a_key_that_is_dead_or_was_rotated_is_not_rotated(record: KeyRecord, text: str) -> None:
    with pytest.raises(RefusedRecordError, match=f"^{RECORD.id} {text}$"):
        record.retire(read_instant(LATER.encode()), AT, "cli:ann")


def test_a_pending_record_settles_and_forgets_its_hash() -> None:
    settled = PENDING.settle("d" * 64)
    assert (PENDING.pending, settled.pending, settled.bcrypt) == (True, False, "")


def test_the_later_use_counts() -> None:
    used = RECORD.used(1_800_000_000.5)
    assert used.last_used_at == "2027-01-15T08:00:00.5Z"
    assert used.used(1_700_000_000.0) is used
    assert RECORD.used(0.0) is RECORD
