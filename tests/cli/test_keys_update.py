"""`keys update`, against a real Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import Result

from gateway.cli.keys.operator import operator_name
from gateway.keys.record import Change, Event, KeyRecord
from gateway.policy.terms import NO_TERMS, KeyTerms, Rate, read_network
from tests.conftest import Keys, Stored
from tests.keys.records import GLOBEX, KEY_ID, OTHER, RECORD, instant, revocation

pytestmark = pytest.mark.redis

BOUND = replace(RECORD, terms=KeyTerms(rate=Rate(100), allow_from=(read_network("10.0.0.0/8"),)))
CHILD = replace(OTHER, created_by=RECORD.id)
DEAD = GLOBEX.as_revoked(revocation("2026-02-01T00:00:00Z", "master"))
UNKNOWN = f"{KEY_ID}f"


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def test_the_record_has_the_new_values_and_says_who_and_why(keys: Keys, stored: Stored) -> None:
    stored(lambda store: store.add(BOUND))
    change = ("--scopes", "balances:read", "--expires", "2998-01-01T00:00:00Z", "--name", "payments")
    terms = ("--rate", "200/s", "--burst", "50", "--allow-from", "none")
    result = keys("update", BOUND.id, *change, *terms, "--reason", "moved")
    text = (
        f"id           {BOUND.id}\nname         payments\nscopes       balances:read\n"
        "expires      2998-01-01T00:00:00Z\nrate         200/s, 50 at once\n"
    )
    assert outcome(result) == (0, text, "")
    record: KeyRecord = stored(lambda store: store.get(BOUND.id))
    (event,) = record.history
    assert record == replace(
        BOUND,
        name="payments",
        scopes=("balances:read",),
        expires_at=instant("2998-01-01T00:00:00Z"),
        terms=KeyTerms(rate=Rate(200), burst=50),
        history=(event,),
    )
    assert event == Event(
        event.at,
        "updated",
        operator_name(),
        "moved",
        (
            Change("name", "n", "payments"),
            Change("scopes", "ledgers:read", "balances:read"),
            Change("expires_at", "2999-01-02T03:04:05Z", "2998-01-01T00:00:00Z"),
            Change("rate", "100/s", "200/s"),
            Change("burst", "", "50"),
            Change("allow_from", "10.0.0.0/8", ""),
        ),
    )
    shown = keys("show", BOUND.id).stdout
    assert ": moved (name n -> payments; scopes ledgers:read -> balances:read; " in shown
    assert "allow_from 10.0.0.0/8 -> none)\n" in shown


def test_none_removes_each_term(keys: Keys, stored: Stored) -> None:
    terms = KeyTerms(rate=Rate(1), burst=2, concurrency=3, certificate="ab" * 32)
    stored(lambda store: store.add(replace(RECORD, terms=terms)))
    names = ("rate", "burst", "concurrency", "certificate")
    removed = [word for name in names for word in (f"--{name}", "none")]
    assert keys("update", RECORD.id, *removed).exit_code == 0
    assert stored(lambda store: store.get(RECORD.id)).terms == NO_TERMS


def test_keys_that_it_created_and_that_may_do_more_are_named(keys: Keys, stored: Stored) -> None:
    """They keep what they have; dead ones, and those that may do no more, are not named."""
    dead = replace(DEAD, created_by=RECORD.id)
    stored(lambda store: store.add_all([RECORD, CHILD, dead]))
    assert keys("update", RECORD.id, "--scopes", "ledgers:*").stderr == ""
    narrowed = keys("update", RECORD.id, "--scopes", "balances:read", "--rate", "10/s")
    text = (
        f"live keys that descend from it and have scopes that it lacks: 1 ({CHILD.id})\n"
        f"live keys that descend from it and have other terms: 1 ({CHILD.id})\n"
    )
    assert (narrowed.exit_code, narrowed.stderr) == (0, text)
    assert stored(lambda store: store.get(CHILD.id)) == CHILD


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((RECORD.id,), 2, "Error: name what to change: --scopes, --expires, --name or a term"),
        ((RECORD.id, "--reason", "x"), 2, "Error: name what to change"),
        ((RECORD.id, "--name", ""), 2, "Error: --name is empty: write the purpose of the key\n"),
        ((RECORD.id, "--scopes", "ledger:read"), 2, "did you mean"),
        ((RECORD.id, "--rate", "fast"), 2, "at most 1000000, or none to remove it\n"),
        (
            (RECORD.id, "--expires", "2020-01-01T00:00:00Z"),
            2,
            "this time is in the past: to end the key use `keys revoke`\n",
        ),
        ((RECORD.id, "--burst", "5"), 1, "a burst needs a rate: name both\n"),
        ((UNKNOWN, "--name", "x"), 1, f"{UNKNOWN}: no such key\n"),
        ((DEAD.id, "--expires", "90d"), 1, f"{DEAD.id} is revoked, and stays so: create a new key\n"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(
    keys: Keys, stored: Stored, arguments: tuple[str, ...], code: int, text: str
) -> None:
    stored(lambda store: store.add_all([RECORD, DEAD]))
    result = keys("update", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr
    assert stored(lambda store: store.get_many([RECORD.id, DEAD.id])) == [RECORD, DEAD]
