"""`blnk-gateway keys prune` against a real Redis: the records that go, those that stay, and the export."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.gocompat.times import Instant
from gateway.keys.record import KeyRecord
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyStore
from gateway.server.clocks import utc_now
from tests.cli.test_keys import in_a_shell, on_a_terminal, outcome, shown
from tests.conftest import Keys, Start, Stored
from tests.keys.records import GLOBEX, KEY_ID, OTHER, PENDING, RECORD, instant, revocation
from tests.running import MASTER_KEY

pytestmark = pytest.mark.redis

AT = "2026-02-01T00:00:00Z"
BEFORE = ("prune", "--dead-before", "2026-03-01")
REVOKED = replace(RECORD.as_revoked(revocation(AT, "master", "left")), scopes=("ledger:raed",))
EXPIRED = replace(OTHER, expires_at=instant(AT))
DEAD = (REVOKED, EXPIRED, PENDING.as_revoked(revocation(AT, "core")))


def ids(stored: Stored) -> set[str]:
    """Return the ids of all records."""

    async def read(store: KeyStore) -> set[str]:
        return {record.id async for batch in store.scan() for record in batch}

    found: set[str] = stored(read)
    return found


def test_removed_records_are_in_the_file_and_can_be_imported(
    keys: Keys, stored: Stored, tmp_path: Path
) -> None:
    """The last use is imported too, and so is a scope that is refused for a live key."""
    file = tmp_path / "dead.jsonl"
    stored(lambda store: store.add_all([*DEAD, GLOBEX]))
    stored(lambda store: store.record_uses({REVOKED.id: 1_700_000_000.0}))
    before = {
        record.id: record for record in stored(lambda store: store.get_many([each.id for each in DEAD]))
    }
    assert outcome(keys(*BEFORE, "--export", str(file))) == (0, f"3 removed, in {file}\n", "")
    assert ids(stored) == {GLOBEX.id}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert outcome(keys("import", str(file))) == (0, "3 imported, 0 already in the store\n", "")
    after: list[KeyRecord] = stored(lambda store: store.get_many(list(before)))
    assert {record.id: record for record in after} == before


def test_only_keys_that_ended_before_are_removed(keys: Keys, stored: Stored) -> None:
    """Keys that ended later stay, and so do disabled keys."""
    yesterday = str(Instant.of(utc_now() - timedelta(days=1)))
    stored(lambda store: store.add_all([REVOKED, OTHER.as_revoked(revocation(yesterday, "master"))]))
    stored(
        lambda store: store.add_all(
            [GLOBEX.as_disabled(instant(AT), "master"), replace(PENDING, expires_at=instant(yesterday))]
        )
    )
    assert outcome(keys("prune", "--dead-before", "30d", "--no-export")) == (0, "1 removed\n", "")
    assert ids(stored) == {OTHER.id, GLOBEX.id, PENDING.id}
    assert keys("prune", "--dead-before", "0s", "--no-export").stdout == "2 removed\n"
    assert ids(stored) == {GLOBEX.id}


def test_owner_limits_it_to_one_owners_keys(keys: Keys, stored: Stored) -> None:
    stored(lambda store: store.add_all([REVOKED, GLOBEX.as_revoked(revocation(AT, "master"))]))
    assert keys(*BEFORE, "--owner", "globex", "--no-export").stdout == "1 removed\n"
    assert ids(stored) == {REVOKED.id}


def test_a_dry_run_removes_and_writes_nothing(keys: Keys, stored: Stored, tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    stored(lambda store: store.add_all(DEAD))
    assert outcome(keys(*BEFORE, "--dry-run", "--export", str(file))) == (0, "3 would be removed\n", "")
    assert (file.exists(), len(ids(stored))) == (False, 3)


def test_ancestors_of_live_keys_stay(keys: Keys, stored: Stored) -> None:
    """`revoke --descendants` needs the ancestors to find those keys."""
    minted = replace(OTHER, created_by=RECORD.id)
    stored(lambda store: store.add_all([REVOKED, minted, GLOBEX.as_revoked(revocation(AT, "master"))]))
    result = shown(keys(*BEFORE, "--no-export", "--output", "json"))
    assert result == {
        "dry_run": False,
        "dead_before": "2026-03-01T00:00:00Z",
        "removed": 1,
        "needed": 1,
        "changed": 0,
        "export": None,
    }
    text = "1 stay: they have descendants whose records stay\n"
    assert outcome(keys(*BEFORE, "--no-export")) == (0, "0 removed\n", text)
    keys("revoke", RECORD.id, "--descendants")
    assert keys("show", OTHER.id, "--output", "json").stdout.count('"state":"revoked"') == 1


def test_no_file_stays_if_nothing_is_removed(keys: Keys, stored: Stored, tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    stored(lambda store: store.add_all([RECORD, OTHER]))
    assert outcome(keys(*BEFORE, "--export", str(file))) == (0, "0 removed\n", "")
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (BEFORE, "Error: use --export FILE, which `keys import` can read, or --no-export"),
        (
            (*BEFORE, "--no-export", "--export", "x"),
            "Error: use --export FILE, which `keys import` can read, or --no-export",
        ),
        (("prune", "--no-export"), "Error: Missing option '--dead-before'."),
        (
            ("prune", "--dead-before", "2999-01-01", "--no-export"),
            "Error: Invalid value for '--dead-before': this time is in the future",
        ),
        (
            ("prune", "--dead-before", "999999w", "--no-export"),
            "Error: Invalid value for '--dead-before': write a time since the year 1",
        ),
        (
            ("prune", "--dead-before", "2026-02-30", "--no-export"),
            "Error: Invalid value for '--dead-before': "
            "write an age, such as 90d, a date, such as 2026-01-31, or RFC 3339",
        ),
    ],
)
def test_a_wrong_option_removes_nothing(
    keys: Keys, stored: Stored, arguments: tuple[str, ...], text: str
) -> None:
    stored(lambda store: store.add_all(DEAD))
    result = keys(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (2, "", text)
    assert len(ids(stored)) == 3


def test_an_existing_file_is_left_unchanged(keys: Keys, stored: Stored, tmp_path: Path) -> None:
    stored(lambda store: store.add_all(DEAD))
    file = tmp_path / "dead.jsonl"
    file.write_text("mine")
    assert outcome(keys(*BEFORE, "--export", str(file))) == (2, "", f"{file}: File exists: name a new file\n")
    assert (file.read_text(), len(ids(stored))) == ("mine", 3)


def test_nothing_is_removed_without_room_for_the_file(redis_url: str, stored: Stored, tmp_path: Path) -> None:
    stored(lambda store: store.add_all(DEAD))
    file = tmp_path / "dead.jsonl"
    line = f"ulimit -f 0; trap '' XFSZ; {{keys}} {' '.join(BEFORE)} --export {file}"
    assert in_a_shell(redis_url, line) == (2, "", f"{file}: File too large\n")
    assert (file.exists(), len(ids(stored))) == (False, 3)


def test_many_are_removed_in_batches_with_a_bar_on_a_terminal(
    redis_url: str, stored: Stored, tmp_path: Path
) -> None:
    many = [replace(REVOKED, id=f"{KEY_ID[:-3]}{n:04}", digest=f"{n:064x}") for n in range(1000)]
    stored(lambda store: store.add_all(many))
    file = tmp_path / "dead.jsonl"
    code, text = on_a_terminal(redis_url, *BEFORE, "--export", str(file))
    assert code == 0
    assert "1000/1000" in text
    assert f"1000 removed, in {file}" in text
    exported = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert sorted(exported) == [record.id for record in many]
    assert ids(stored) == set()


async def test_a_key_stays_refused_by_a_gateway_that_runs(
    start_gateway: Start, redis_store: RedisKeyStore, keys: Keys
) -> None:
    """A removed key is an unknown key for that gateway, and a live key keeps working."""
    gateway = await start_gateway(store=redis_store, keys={"per_owner": 1})
    dead, expired, live = (
        await gateway.mint("ledgers:read", revoked=True),
        await gateway.mint("ledgers:read", expired=True),
        await gateway.mint("ledgers:read"),
    )

    async def status(key: str) -> tuple[int, str]:
        response = await gateway.ask("GET", "/ledgers", key=key)
        return response.status, "" if response.status == 200 else response.json()["error_detail"]["code"]

    assert {await status(each.key) for each in (dead, expired)} == {(401, "AUTH_EXPIRED_API_KEY")}
    pruned = await asyncio.to_thread(keys, "prune", "--dead-before", "0s", "--no-export")
    assert pruned.stdout == "2 removed\n"
    assert (await status(live.key))[0] == 200
    for _ in range(20):
        codes = {await status(each.key) for each in (dead, expired)}
        assert codes <= {(401, "AUTH_EXPIRED_API_KEY"), (401, "AUTH_INVALID_API_KEY")}
    listed = (await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY)).json()
    assert [key["api_key_id"] for key in listed] == [live.id]
