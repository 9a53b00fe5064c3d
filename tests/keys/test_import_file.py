"""Keys imported from a file: each problem is named by its line, and no record is overwritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.import_file import BATCH, ImportResult, import_records, read_records
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import Event, KeyRecord
from gateway.keys.record_json import encode_record
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyStore
from gateway.policy.problems import Problem
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, instant, revocation

AT = "2026-02-01T00:00:00Z"
LINE: dict[str, Any] = {
    "digest": RECORD.digest,
    "id": RECORD.id,
    "name": "n",
    "owner": "acme",
    "scopes": ["ledgers:read"],
    "expires_at": str(RECORD.expires_at),
    "created_at": str(RECORD.created_at),
}


NEEDS = "a pending record needs its prefix of 16 characters, and its bcrypt hash of at most 2^14 rounds"
RATE_FORM = "write requests and a unit of time, as 100/s, 600/m or 10000/h; at most 1000000"
EVENT = {"at": AT, "what": "disabled", "by": "cli:ann"}


def line(**changes: Any) -> bytes:
    """Return a good line with changes; None removes a member."""
    members = {name: value for name, value in {**LINE, **changes}.items() if value is not None}
    return json.dumps(members).encode()


def many(count: int) -> list[KeyRecord]:
    return [replace(RECORD, id=f"{RECORD.id[:-6]}{n:06}", digest=f"{n:064}") for n in range(count)]


def test_missing_names_are_those_of_the_importer() -> None:
    """The importer is named as who created or revoked a key if the line does not say; a BOM is ignored."""
    records, problems = read_records([b"\xef\xbb\xbf" + line(revoked_at=AT, created_by="")], "cli:ann")
    assert (records, problems) == (
        [replace(RECORD, created_by="cli:ann").as_revoked(revocation(AT, "cli:ann"))],
        [],
    )


def test_the_required_members_suffice() -> None:
    assert read_records([line(), b"", b"  \n"], "cli:ann") == ([replace(RECORD, created_by="cli:ann")], [])


@pytest.mark.parametrize(
    "record",
    [
        RECORD.as_revoked(revocation(AT, "cli:ann", "stolen")),
        replace(
            RECORD, disabled=True, history=(Event(instant(AT), "disabled", "cli:ann"),), replaces=OTHER.id
        ),
        PENDING,
    ],
    ids=["revoked", "disabled", "pending"],
)
def test_a_line_of_an_export_is_read(record: KeyRecord) -> None:
    assert read_records([encode_record(record)], "cli:ann") == ([record], [])


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"{", "write one JSON object"),
        (b"[]", "write one JSON object"),
        (b"\xff", "write one JSON object"),
        (line() + line(), "write one JSON object"),
        (line(key="secret"), "a key does not belong here: write its digest, SHA-256 in hexadecimal"),
        (line(owner=None, id=None), "id, owner is missing"),
        (line(owner=""), "owner is empty"),
        (line(owner=1), "Expected `str`, got `int` - at `$.owner`"),
        (line(scopes="ledgers:read"), "Expected `array`, got `str` - at `$.scopes`"),
        (line(expires_at="secret"), "expires_at: write RFC 3339, as 2027-01-31T00:00:00Z"),
        (line(revoked_at="secret"), "revoked_at: write RFC 3339, as 2027-01-31T00:00:00Z"),
        (line(expires_at=1), "Expected `str`, got `int` - at `$.expires_at`"),
        (line(id="api_key_1"), "id: write api_key_ and a UUID in lower case"),
        (line(digest="secret"), "digest: write SHA-256 of the key in 64 hexadecimal digits, lower case"),
        (line(digest="A" * 64), "digest: write SHA-256 of the key in 64 hexadecimal digits, lower case"),
        (
            line(digest="pending:x"),
            "digest: write SHA-256 of the key in 64 hexadecimal digits, lower case",
        ),
        (
            line(digest=f"pending:{RECORD.id}", prefix="A" * 16, bcrypt="secret"),
            NEEDS,
        ),
        (
            line(digest=f"pending:{RECORD.id}", prefix="A", bcrypt=PENDING.bcrypt),
            NEEDS,
        ),
        (
            line(digest=f"pending:{RECORD.id}", prefix="A" * 16, bcrypt="$2b$15$" + PENDING.bcrypt[7:]),
            NEEDS,
        ),
        (
            line(history=[EVENT | {"what": "\x1b[2J"}]),
            "history: write what as rotated or disabled or enabled or updated",
        ),
        (line(terms={"rate": "fast"}), f"terms: {RATE_FORM}"),
        (line(history=[EVENT | {"at": "now"}]), "history: write RFC 3339, as 2027-01-31T00:00:00Z"),
        (line(name="x" * (1 << 18)), "write at most 256 KiB"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(written: bytes, text: str) -> None:
    assert read_records([b"", written], "cli:ann") == ([], [Problem(2, text)])


def test_an_unknown_member_is_refused() -> None:
    _, problems = read_records([line(revokd_at=AT)], "cli:ann")
    assert [problem.text.partition(";")[0] for problem in problems] == ["unknown member"]


@pytest.mark.parametrize(
    ("members", "which"),
    [
        ({"allow_form": ["10.0.0.0/8"]}, "unknown member allow_form"),
        ({"rate": "10/s", "window": 1, "day": 1}, "unknown member day, window"),
        ({"k" * 43 + "=": 1}, "unknown member"),
    ],
    ids=["misspelled", "newer", "key"],
)
def test_an_unknown_term_is_refused_and_named_unless_it_may_be_a_key(
    members: dict[str, object], which: str
) -> None:
    _, problems = read_records([line(terms=members)], "cli:ann")
    known = "allow_from, burst, certificate, concurrency, rate, shared_with"
    assert problems == [Problem(1, f"terms: {which}; known are {known}")]


def test_every_problem_is_reported_and_so_are_repeated_keys() -> None:
    lines = [line(), b"x", line(id=OTHER.id), line(digest=OTHER.digest)]
    _, problems = read_records(lines, "cli:ann")
    twin = "its id or its digest is on line 1 too"
    assert problems == [Problem(2, "write one JSON object"), Problem(3, twin), Problem(4, twin)]


async def test_new_keys_are_stored_batch_by_batch(store: KeyStore) -> None:
    records = many(BATCH + 1)
    batches: list[int] = []
    assert await import_records(store, records, progress=batches.append) == ImportResult(added=BATCH + 1)
    assert batches == [BATCH, 1]
    assert len(await store.owned("acme")) == BATCH + 1


async def test_a_second_import_changes_nothing(store: KeyStore) -> None:
    records = [RECORD, OTHER, PENDING]
    await import_records(store, records)
    await store.bind_digest(PENDING.id, "d" * 64)
    before = await store.last_position()
    assert await import_records(store, records) == ImportResult(there=3)
    assert await store.last_position() == before


async def test_an_import_never_undoes_a_revocation(store: KeyStore) -> None:
    await store.add(RECORD)
    revoked = await revoke_key(store, RECORD.id, revocation(AT, "master"))
    assert await import_records(store, [RECORD]) == ImportResult(there=1)
    assert await store.get_by_digest(RECORD.digest) == revoked


async def test_a_key_that_the_file_says_is_revoked_becomes_revoked(store: KeyStore) -> None:
    await store.add(RECORD)
    revoked = RECORD.as_revoked(revocation(AT, "cli:ann", "stolen"))
    assert await import_records(store, [revoked], dry_run=True) == ImportResult(there=1, revoked=[RECORD.id])
    assert await store.get_by_digest(RECORD.digest) == RECORD
    assert await import_records(store, [revoked]) == ImportResult(there=1, revoked=[RECORD.id])
    assert await store.get_by_digest(RECORD.digest) == revoked


async def test_another_key_under_the_same_id_or_digest_is_a_conflict(store: KeyStore) -> None:
    await store.add(RECORD)
    conflicts = [replace(RECORD, digest="0" * 64), replace(RECORD, id=OTHER.id)]
    assert await import_records(store, conflicts) == ImportResult(conflicts=[RECORD.id, OTHER.id])
    assert await store.owned("acme") == [RECORD]


async def test_a_dry_run_stores_nothing(store: KeyStore) -> None:
    await store.add(RECORD)
    assert await import_records(store, [RECORD, GLOBEX], dry_run=True) == ImportResult(added=1, there=1)
    assert await store.get_by_digest(GLOBEX.digest) is None


async def test_an_interrupted_import_is_finished_by_another() -> None:
    class Failing(MemoryKeyStore):
        batches = 0

        async def add_all(
            self, records: Sequence[KeyRecord], *, dry_run: bool = False
        ) -> list[KeyRecord | None]:
            self.batches += 1
            if self.batches == 2:
                raise StoreUnavailableError
            return await super().add_all(records, dry_run=dry_run)

    store = Failing()
    records = many(2 * BATCH)
    with pytest.raises(GatewayError):
        await import_records(store, records)
    assert len(await store.owned("acme")) == BATCH
    assert await import_records(store, records) == ImportResult(added=BATCH, there=BATCH)
