"""Updates of a record: what changes, what the history says of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.keys.key_update import MAX_UPDATES, KeyUpdate, updated
from gateway.keys.record import Change, Event, KeyRecord, RefusedRecordError
from gateway.keys.record_json import decode_record, encode_record
from gateway.policy.term_changes import TermChanges
from gateway.policy.terms import KeyTerms, Rate, read_network
from tests.keys.records import RECORD, instant, revocation

AT = instant("2026-02-01T00:00:00Z")
EVENT = Event(AT, "updated", "cli:ann", "writes moved")
SOON = instant("2026-03-01T00:00:00Z")
ROTATED = RECORD.as_rotated(SOON, Event(AT, "rotated", "cli:ann"))


def terms(**values: object) -> TermChanges:
    return TermChanges(KeyTerms(**values), frozenset(values))  # type: ignore[arg-type]


def test_what_is_named_changes_and_the_history_has_the_values_before_and_after() -> None:
    networks = (read_network("10.0.0.0/8"), read_network("192.0.2.7"))
    update = KeyUpdate(
        "new", ("ledgers:read", "balances:read"), SOON, terms(rate=Rate(100), allow_from=networks)
    )
    event = Event(
        AT,
        "updated",
        "cli:ann",
        "writes moved",
        (
            Change("name", "n", "new"),
            Change("scopes", "ledgers:read", "ledgers:read,balances:read"),
            Change("expires_at", "2999-01-02T03:04:05Z", "2026-03-01T00:00:00Z"),
            Change("rate", "", "100/s"),
            Change("allow_from", "", "10.0.0.0/8,192.0.2.7/32"),
        ),
    )
    after = updated(RECORD, update, EVENT)
    assert after == replace(
        RECORD,
        name="new",
        scopes=("ledgers:read", "balances:read"),
        expires_at=SOON,
        terms=KeyTerms(rate=Rate(100), allow_from=networks),
        history=(event,),
    )
    assert decode_record(encode_record(after)) == after


def test_of_long_scopes_the_history_has_first_those_that_differ() -> None:
    """A change of the last of 40 scopes would be cut off."""
    scopes = tuple(f"resource-{number:02}:read" for number in range(39))
    before = replace(RECORD, scopes=(*scopes, "api-keys:read"))
    after = updated(before, KeyUpdate(scopes=(*scopes, "api-keys:*")), EVENT)
    (change,) = after.history[-1].changes
    assert change.before.startswith("api-keys:read,resource-00:read,")
    assert change.after.startswith("api-keys:*,resource-00:read,")
    assert max(len(change.before), len(change.after)) == 256


@pytest.mark.parametrize(
    "update", [KeyUpdate(), KeyUpdate("n", ("ledgers:read",)), KeyUpdate(terms=terms(burst=0))]
)
def test_an_update_that_changes_nothing_leaves_the_record(update: KeyUpdate) -> None:
    assert updated(RECORD, update, EVENT) is RECORD


def test_a_disabled_key_is_changed_and_stays_disabled() -> None:
    """So it can be narrowed before it is enabled again."""
    disabled = RECORD.as_disabled(AT, "cli:ann")
    after = updated(disabled, KeyUpdate(scopes=()), EVENT)
    assert (after.scopes, after.disabled) == ((), True)


@pytest.mark.parametrize(
    ("record", "update", "text"),
    [
        (
            RECORD.as_revoked(revocation("2026-01-15T00:00:00Z", "master")),
            KeyUpdate("new"),
            f"{RECORD.id} is revoked, and stays so: create a new key",
        ),
        (
            replace(RECORD, expires_at=AT),
            KeyUpdate(expires_at=SOON),
            f"{RECORD.id} is expired, and stays so: create a new key",
        ),
        (RECORD, KeyUpdate(expires_at=AT), "the new expiry is in the past: revoke the key instead"),
        (
            ROTATED,
            KeyUpdate(expires_at=instant("2026-03-01T00:00:01Z")),
            f"{RECORD.id} was rotated: its overlap is not extended, use its successor",
        ),
        (RECORD, KeyUpdate(terms=terms(burst=5)), "a burst needs a rate: name both"),
        (RECORD, KeyUpdate("x" * 257), "name must have at most 256 characters"),
    ],
)
def test_an_update_that_is_not_possible_is_refused(record: KeyRecord, update: KeyUpdate, text: str) -> None:
    with pytest.raises(RefusedRecordError) as refused:
        updated(record, update, EVENT)
    assert str(refused.value) == text


def test_the_end_of_a_rotated_key_may_come_earlier() -> None:
    earlier = instant("2026-02-02T00:00:00Z")
    assert updated(ROTATED, KeyUpdate(expires_at=earlier), EVENT).expires_at == earlier


def test_a_history_keeps_the_latest_updates_and_every_other_event() -> None:
    record = ROTATED
    for number in range(MAX_UPDATES + 3):
        record = updated(record, KeyUpdate(f"name {number}"), EVENT)
    assert record.history[0] == ROTATED.history[0]
    updates = record.history[1:]
    assert len(updates) == MAX_UPDATES
    assert updates[0].changes == (Change("name", "name 2", "name 3"),)
    assert updates[-1].changes[0].after == f"name {MAX_UPDATES + 2}"


def test_a_long_value_is_shortened_in_the_history() -> None:
    scopes = tuple(f"ledgers:{number:0>50}" for number in range(50))
    (event,) = updated(RECORD, KeyUpdate(scopes=scopes), EVENT).history
    (change,) = event.changes
    assert len(change.after) == 256
    assert change.after.endswith("...")
