"""The filters of `keys list`, against a real Redis."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.gocompat.times import Instant
from gateway.keys.record import Event, KeyRecord
from gateway.server.clocks import utc_now
from tests.conftest import Keys, Stored
from tests.keys.records import KEY_ID, PENDING, RECORD, instant, revocation

pytestmark = pytest.mark.redis


@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        (("--state", "live"), "live rotated pending soon"),
        (("--state", "rotated"), "rotated"),
        (("--state", "pending"), "pending"),
        (("--state", "disabled"), "disabled"),
        (("--state", "revoked"), "revoked"),
        (("--state", "expired"), "expired"),
        (("--expires-within", "7d"), "soon rotated"),
        (("--expires-within", "1h"), ""),
        (("--unused-since", "30d"), "live rotated pending disabled revoked expired"),
        (("--state", "live", "--unused-since", "30d"), "live rotated pending"),
        (("--state", "live", "--expires-within", "7d", "--unused-since", "30d"), "rotated"),
        (("--state", "live", "--owner", "globex"), "soon"),
        (("--owner", "initech", "--state", "revoked"), ""),
    ],
)
def test_a_list_has_the_keys_that_pass_every_filter(
    keys: Keys, stored: Stored, arguments: tuple[str, ...], listed: str
) -> None:
    """A key that was never used counts from its creation."""
    records = samples()
    stored(lambda store: store.add_all(list(records.values())))
    stored(lambda store: store.record_uses({records["soon"].id: utc_now().timestamp()}))
    names = {record.id: name for name, record in records.items()}
    found: list[dict[str, Any]] = json.loads(keys("list", *arguments, "--output", "json").stdout)
    assert {names[member["id"]] for member in found} == set(listed.split())
    lines = keys("list", *arguments).stdout.splitlines()
    assert {names[line.partition("\t")[0]] for line in lines[1:]} == set(listed.split())


def test_a_time_in_the_future_is_refused(keys: Keys) -> None:
    result = keys("list", "--unused-since", "2999-01-01")
    assert (result.exit_code, "this time is in the future" in result.stderr) == (2, True)


def samples() -> dict[str, KeyRecord]:
    """Return a key in each state; all were created long ago, and two are about to end."""
    at = instant("2026-02-01T00:00:00Z")
    soon = Instant.of(utc_now() + timedelta(days=3))
    bare = {
        name: replace(RECORD, id=f"{KEY_ID[:-1]}1{number}", digest=f"{number}" * 64)
        for number, name in enumerate(("live", "rotated", "disabled", "revoked", "expired", "soon"))
    }
    return {
        "live": bare["live"],
        "rotated": bare["rotated"].as_rotated(soon, Event(at, "rotated", "cli:ann")),
        "disabled": bare["disabled"].as_disabled(at, "cli:ann"),
        "revoked": replace(bare["revoked"], expires_at=soon).as_revoked(revocation(str(at), "master")),
        "expired": replace(bare["expired"], expires_at=at),
        "soon": replace(bare["soon"], owner="globex", expires_at=soon),
        "pending": PENDING,
    }
