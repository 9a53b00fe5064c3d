"""`keys revoke --owner`, against a real Redis and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from click.testing import Result

from gateway.cli.keys.operator import operator_name
from gateway.cli.keys.reader import StoreKeyReader
from gateway.cli.keys.revoke import revoke_owned
from gateway.cli.keys.store_writer import StoreKeyWriter
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.new_record import NewKeyRules
from gateway.keys.record import KeyRecord
from gateway.server.clocks import utc_now
from tests.conftest import SHIPPED, Keys, Stored
from tests.keys.records import GLOBEX, KEY_ID, OTHER, RECORD, instant, revocation
from tests.running import ROOT

pytestmark = pytest.mark.redis


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def test_every_key_of_the_owner_ends_and_no_other(keys: Keys, stored: Stored) -> None:
    """Disabled keys too, because they can be enabled again; those that ended before stay as they are."""
    at = instant("2026-02-01T00:00:00Z")
    disabled = OTHER.as_disabled(at, "cli:ann")
    dead = replace(RECORD, id=f"{KEY_ID}5", digest="5" * 64).as_revoked(revocation(str(at), "master"))
    expired = replace(RECORD, id=f"{KEY_ID}6", digest="6" * 64, expires_at=at)
    stored(lambda store: store.add_all([RECORD, disabled, dead, expired, GLOBEX]))
    result = keys("revoke", "--owner", "acme", "--yes", "--reason", "contract ended")
    assert (result.exit_code, result.stderr) == (0, "revoked keys of acme: 2\n")
    assert sorted(result.stdout.splitlines()) == [f"{RECORD.id}\trevoked", f"{OTHER.id}\trevoked"]
    after: dict[str, KeyRecord] = {key.id: key for key in stored(lambda store: store.owned("acme"))}
    for key_id in (RECORD.id, OTHER.id):
        found = after[key_id].revocation
        assert found is not None
        assert (found.by, found.reason) == (operator_name(), "contract ended")
    assert (after[dead.id], after[expired.id]) == (dead, expired)
    assert stored(lambda store: store.get(GLOBEX.id)) == GLOBEX
    again = keys("revoke", "--owner", "acme", "--yes", "--output", "json")
    assert outcome(again) == (0, "[]\n", "revoked keys of acme: 0\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "name a key by its id, or an owner with --owner"),
        ((RECORD.id, "--owner", "acme"), "name a key by its id, or an owner with --owner"),
        (
            ("--owner", "acme", "--descendants", "--yes"),
            "--owner revokes all keys of the owner: leave out --descendants",
        ),
        (("--owner", "acme"), "--owner revokes all keys of an owner: confirm it with --yes"),
    ],
)
def test_nothing_is_revoked_unless_it_is_meant(
    keys: Keys, stored: Stored, arguments: tuple[str, ...], text: str
) -> None:
    stored(lambda store: store.add(RECORD))
    result = keys("revoke", *arguments)
    assert (result.exit_code, result.stdout, f"Error: {text}\n" in result.stderr) == (2, "", True)
    assert stored(lambda store: store.get(RECORD.id)) == RECORD


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_a_terminal_is_asked_with_the_number_of_keys(
    redis_url: str, stored: Stored, typed: bytes, code: int
) -> None:
    stored(lambda store: store.add_all([RECORD, OTHER]))
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "gateway", "keys", "revoke", "--owner", "acme", "--config", SHIPPED]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "BLNK_GATEWAY_KEYS__STORE": redis_url},
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(end)
    os.write(terminal, typed)
    _, asked = process.communicate(timeout=20)
    os.close(terminal)
    assert process.returncode == code
    assert asked.startswith(b"Revoke the 2 keys of acme that have not ended? [y/N]: ")
    revoked = [record.revoked for record in stored(lambda store: store.owned("acme"))]
    assert revoked == [code == 0] * 2


class MintingWriter(StoreKeyWriter):
    """Stores as many new keys of the owner as a test sets, each after one call."""

    def __init__(self, store: MemoryKeyStore, new: int) -> None:
        super().__init__(store, utc_now(), NewKeyRules())
        self._keys = store
        self._new = [replace(RECORD, id=f"{KEY_ID[:-1]}2{n}", digest=f"{n}" * 64) for n in range(new)]

    async def revoke_all(self, key_ids: Sequence[str], reason: str) -> list[KeyRecord]:
        revoked = await super().revoke_all(key_ids, reason)
        if self._new:
            await self._keys.add(self._new.pop())
        return revoked


@pytest.mark.parametrize(("new", "left"), [(2, 0), (9, 1)])
async def test_keys_that_are_created_meanwhile_are_revoked_too(new: int, left: int) -> None:
    """Until nobody creates any; somebody who goes on does not keep the command for ever."""
    store = MemoryKeyStore()
    await store.add(RECORD)
    revoked, found = await revoke_owned(StoreKeyReader(store), MintingWriter(store, new), "acme", "")
    records = await store.owned("acme")
    assert found == left == sum(not record.revoked for record in records)
    assert len(revoked) == len(records) - left
