"""Two versions that are next to each other share one Redis: each reads what the other one writes.

`store_of_0_1_0.jsonl` has every name that 0.1.0 wrote for the keys below, one command a line. It was recorded
from the code of 0.1.0 (commit 7a6f95f, "Tell a store that failed in one place, also in the middle of an
import"), run once against an empty Redis; this version writes none of its bytes.

Rules kept here:
- The recording is never written anew by later code. A release adds one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from gateway.keys.key_update import KeyUpdate, updated
from gateway.keys.minting import digest
from gateway.keys.record import UPDATED, Event, KeyRecord, Revocation
from gateway.keys.record_json import decode_record, encode_record
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyChange
from gateway.policy.term_changes import TermChanges
from gateway.policy.terms import KeyTerms, read_rate
from tests.keys.records import KEY_ID, PENDING, instant, revocation
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

RECORDING = Path(__file__).with_name("store_of_0_1_0.jsonl")
STREAM = f"{PREFIX}changes"
KEY = f"{PREFIX}key:"
# Names that 0.1.0 neither writes nor reads.
NEWER = (f"{PREFIX}ends:", f"{PREFIX}audit")

LIVE = KeyRecord(
    id=f"{KEY_ID}1",
    digest=digest("first"),
    name="payroll \u2028 \u00e9",
    owner="acme",
    scopes=("ledgers:read", "transactions:write"),
    expires_at=instant("2999-01-02T03:04:05Z"),
    created_at=instant("2026-01-01T00:00:00.123456Z"),
    created_by="cli:root",
)
CHILD = replace(
    LIVE,
    id=f"{KEY_ID}2",
    digest=digest("second"),
    created_at=instant("2026-01-02T00:00:00Z"),
    created_by=LIVE.id,
    name="child",
)
TOGGLED = replace(
    LIVE,
    id=f"{KEY_ID}3",
    digest=digest("third"),
    owner="globex",
    created_by="master",
    name="",
    scopes=("*:*",),
)
ROTATED = replace(TOGGLED, id=f"{KEY_ID}4", digest=digest("fourth"), name="rotated", scopes=LIVE.scopes)
SUCCESSOR = replace(
    ROTATED,
    id=f"{KEY_ID}5",
    digest=digest("fifth"),
    created_at=instant("2026-02-05T00:00:00Z"),
    replaces=ROTATED.id,
)
OF_CORE = replace(
    LIVE,
    id=f"{KEY_ID}6",
    digest=f"pending:{KEY_ID}6",
    owner="initech",
    created_by="core",
    prefix="AAAAAAAAAAAAAAAA",
    bcrypt=PENDING.bcrypt,
    last_used_at=instant("2026-01-05T06:07:08Z"),
    name="from core",
)
BOUND = replace(
    OF_CORE, id=f"{KEY_ID}7", digest=f"pending:{KEY_ID}7", prefix="BBBBBBBBBBBBBBBB", name="bound"
)
IMPORTED = replace(
    LIVE,
    id=f"{KEY_ID}8",
    digest=digest("eighth"),
    owner="initech",
    created_by="core",
    revocation=Revocation(None),
    name="revoked before the import",
)
RETIRING = replace(
    LIVE, id=f"{KEY_ID}9", digest=digest("ninth"), owner="initech", created_by="core", name="retiring"
)

LIMITED = KeyTerms(rate=read_rate("100/s"))
OFF = Event(instant("2026-02-02T00:00:00Z"), "disabled", "master", "audit")
ON = Event(instant("2026-02-03T00:00:00Z"), "enabled", "cli:root")
OFF_AGAIN = Event(instant("2026-02-04T00:00:00+02:00"), "disabled", "cli:root")
ROTATION = Event(instant("2026-02-05T00:00:00Z"), "rotated", "cli:root", "yearly")
OVERLAP_END = instant("2998-01-01T00:00:00Z")
LEFT = revocation("2026-02-01T00:00:00Z", "master", "left the team")
TO_RETIRE = revocation("2026-02-06T00:00:00Z", "master")

RECORDS = (
    replace(LIVE, last_used_at=instant("2026-01-02T00:00:00.5Z")),
    replace(CHILD, revocation=LEFT),
    replace(TOGGLED, disabled=True, history=(OFF, ON, OFF_AGAIN)),
    replace(ROTATED, expires_at=OVERLAP_END, history=(ROTATION,)),
    SUCCESSOR,
    OF_CORE,
    replace(BOUND, digest=digest("seventh"), bcrypt=""),
    IMPORTED,
    replace(RETIRING, revocation=TO_RETIRE, awaiting_core_revocation=True),
)
"""The records that the recording holds."""


class EventOf010(msgspec.Struct):
    """An event, with the members that 0.1.0 knows."""

    at: str
    what: str
    by: str
    reason: str = ""


class RecordOf010(msgspec.Struct, kw_only=True):
    """A record as 0.1.0 reads it: the members that it knows; others are ignored."""

    id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str
    created_by: str
    last_used_at: str = "0001-01-01T00:00:00Z"
    revoked_at: str | None = None
    revoked_by: str = ""
    revoked_reason: str = ""
    disabled: bool = False
    replaces: str = ""
    retiring: bool = False
    prefix: str = ""
    bcrypt: str = ""
    history: tuple[EventOf010, ...] = ()


@pytest.fixture
def client(redis_url: str, redis_server: RedisServer) -> Iterator[Any]:
    """A client of the empty Redis."""
    with redis.Redis(port=redis_server.port, decode_responses=True) as connected:
        yield connected


@pytest.fixture
async def store(client: Any, redis_url: str) -> Any:
    """The store of this version, in the same Redis."""
    opened = RedisKeyStore(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
def recorded(client: Any) -> Any:
    """The client, after all that 0.1.0 wrote is in its Redis."""
    for line in RECORDING.read_text(encoding="ascii").splitlines():
        client.execute_command(*json.loads(line))
    return client


def held(client: Any) -> dict[str, Any]:
    """Return every name and its value; the stream has its entries without their ids."""
    read = {
        "string": client.get,
        "set": client.smembers,
        "zset": lambda name: dict(client.zrange(name, 0, -1, withscores=True)),
        "stream": lambda name: [fields for _, fields in client.xrange(name)],
    }
    return {name: read[client.type(name)](name) for name in client.keys("*")}


async def repeat_the_recording(store: RedisKeyStore) -> None:
    """Do with this version what 0.1.0 did when it was recorded."""
    await store.add(LIVE)
    await store.record_uses({LIVE.id: 1767312000.5})
    await store.add(CHILD)
    await store.revise(CHILD.id, lambda record: record.as_revoked(LEFT))
    await store.add(TOGGLED)
    await store.revise(TOGGLED.id, lambda record: record.as_disabled(OFF.at, OFF.by, OFF.reason))
    await store.revise(TOGGLED.id, lambda record: record.as_enabled(ON.at, ON.by))
    await store.revise(TOGGLED.id, lambda record: record.as_disabled(OFF_AGAIN.at, OFF_AGAIN.by))
    await store.add(ROTATED)
    await store.revise(
        ROTATED.id, lambda record: record.as_rotated(OVERLAP_END, ROTATION), successor=SUCCESSOR
    )
    await store.add_all([OF_CORE, BOUND, IMPORTED])
    await store.bind_digest(BOUND.id, digest("seventh"))
    await store.add(RETIRING)
    await store.revise(RETIRING.id, lambda record: record.as_revoked(TO_RETIRE, awaiting_core=True))


class TestForward:
    async def test_this_version_reads_every_record_of_0_1_0(
        self, recorded: Any, store: RedisKeyStore
    ) -> None:
        """By their ids and by their digests; the last use is beside the record."""
        assert tuple(await store.get_many([record.id for record in RECORDS])) == RECORDS
        by_digest = [await store.get_by_digest(record.digest) for record in RECORDS]
        assert by_digest == [replace(RECORDS[0], last_used_at=None), *RECORDS[1:]]

    async def test_this_version_finds_them_by_every_index_of_0_1_0(
        self, recorded: Any, store: RedisKeyStore
    ) -> None:
        """By owner, by creator and predecessor, by prefix, and those that Core is still to revoke."""
        owned = {owner: {record.id for record in await store.owned(owner)} for owner in ("acme", "globex")}
        assert owned == {"acme": {LIVE.id, CHILD.id}, "globex": {TOGGLED.id, ROTATED.id, SUCCESSOR.id}}
        assert [record.id for record in await store.children(LIVE.id)] == [CHILD.id]
        assert [record.id for record in await store.children(ROTATED.id)] == [SUCCESSOR.id]
        assert [record.id for record in await store.get_by_prefix(OF_CORE.prefix)] == [OF_CORE.id]
        assert [record.id for record in await store.awaiting_core_revocation()] == [RETIRING.id]

    async def test_this_version_follows_the_changes_of_0_1_0(
        self, recorded: Any, store: RedisKeyStore
    ) -> None:
        """The stream of 0.1.0 has no author; what was revoked by the change itself has its time."""
        batch = await store.changes("0-0", 0.05)
        assert batch.changes[:3] == (
            KeyChange(LIVE.digest, LIVE.id, revoked=False),
            KeyChange(CHILD.digest, CHILD.id, revoked=False),
            KeyChange(CHILD.digest, CHILD.id, revoked=True),
        )
        assert [change.key_id for change in batch.changes if change.at is not None] == [CHILD.id, RETIRING.id]
        assert {change.key_id for change in batch.changes if change.revoked} == {
            CHILD.id,
            IMPORTED.id,
            RETIRING.id,
        }
        assert (batch.continuous, batch.whole) == (True, True)

    @pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name or "toggled")
    async def test_this_version_changes_and_removes_them(
        self, recorded: Any, store: RedisKeyStore, record: KeyRecord
    ) -> None:
        """A key of 0.1.0 is revoked, unless it was before, and a prune finds its record as it read it."""
        revoked = await store.revise(record.id, lambda found: found.as_revoked(LEFT))
        assert revoked is not None
        assert revoked.revocation == (record.revocation or LEFT)
        (stored,) = await store.get_many([record.id])
        assert await store.remove_all([stored]) == [revoked]
        assert await store.get_many([record.id]) == []


class TestBack:
    async def test_what_0_1_0_reads_is_what_it_would_have_written(
        self, client: Any, store: RedisKeyStore
    ) -> None:
        """The same changes leave the same bytes under every name that 0.1.0 knows, but for the stream."""
        await repeat_the_recording(store)
        written = {name: value for name, value in held(client).items() if not name.startswith(NEWER)}
        client.flushall()
        for line in RECORDING.read_text(encoding="ascii").splitlines():
            client.execute_command(*json.loads(line))
        expected = held(client)
        entries, expected_entries = written.pop(STREAM), expected.pop(STREAM)
        assert written == expected
        # 0.1.0 reads these three fields of an entry, and ignores others.
        known = [{name: entry[name] for name in ("digest", "id", "revoked")} for entry in entries]
        assert known == expected_entries

    async def test_0_1_0_reads_a_record_that_was_updated(self, client: Any, store: RedisKeyStore) -> None:
        """It ignores what an update adds to the history, and the terms."""
        await store.add(LIVE)
        update = KeyUpdate(name="renamed", terms=TermChanges(LIMITED, frozenset(["rate"])))
        event = Event(instant("2026-02-07T00:00:00Z"), UPDATED, "master")
        await store.revise(LIVE.id, lambda record: updated(record, update, event))
        read = msgspec.json.decode(client.get(f"{KEY}{LIVE.digest}"), type=RecordOf010)
        assert read == RecordOf010(
            id=LIVE.id,
            digest=LIVE.digest,
            name="renamed",
            owner="acme",
            scopes=LIVE.scopes,
            expires_at="2999-01-02T03:04:05Z",
            created_at="2026-01-01T00:00:00.123456Z",
            created_by="cli:root",
            history=(EventOf010("2026-02-07T00:00:00Z", "updated", "master"),),
        )

    def test_0_1_0_loses_the_terms_of_a_record_that_it_changes(self) -> None:
        """The changelog says so under "Upgrading": keys get terms once no 0.1.0 runs any more."""
        limited = encode_record(replace(LIVE, terms=LIMITED))
        rewritten = msgspec.json.encode(msgspec.json.decode(limited, type=RecordOf010))
        assert decode_record(rewritten) == LIVE
