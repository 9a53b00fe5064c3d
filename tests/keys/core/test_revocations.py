"""The gateways revoke rotated keys in Core once their overlap has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import GatewayError
from gateway.gocompat.times import Instant
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.records import CoreRow
from gateway.keys.core.revocations import CoreRevocations
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.record import Event, KeyRecord
from gateway.wire.errors import UpstreamTimeoutError
from tests.conftest import Start
from tests.core_stand_in import StandInCore, abort
from tests.core_stand_in.api_keys import CoreApi
from tests.keys.core.conftest import CoreKey, Postgres, Table
from tests.keys.records import GLOBEX, OTHER, RECORD, instant, revocation, revoker
from tests.running import MASTER_KEY

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
END = Instant(AT)
DONE, UNKNOWN, BROKEN = ApiResponse(204), ApiResponse(404, b"{}"), ApiResponse(500, b"{}")


def rotated(record: KeyRecord = RECORD, end: Instant = END) -> KeyRecord:
    return record.as_rotated(
        end, Event(instant("2026-02-28T12:00:00Z"), "rotated", "cli:ann", "yearly"), awaiting_core=True
    )


@dataclass(slots=True)
class Core:
    """Returns the rows and the responses that a test sets, and records its requests."""

    responses: list[ApiResponse | GatewayError]
    rows: dict[str, CoreRow] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, method: str, target: str, body: bytes) -> ApiResponse:
        self.asked.append((method, target))
        response = self.responses.pop(0)
        if isinstance(response, GatewayError):
            raise response
        return response

    async def by_ids(self, key_ids: Sequence[str]) -> Mapping[str, CoreRow]:
        return {key_id: self.rows[key_id] for key_id in key_ids if key_id in self.rows}


def row(record: KeyRecord, *, owner: str = "acme", revoked: bool = False) -> CoreRow:
    return CoreRow(record.id, "", "n", owner, (), 1e12, 0.0, revoked)


@dataclass(slots=True)
class Replica:
    """The pending revocations of one gateway, at a time that a test sets."""

    store: MemoryKeyStore
    core: Core
    now: datetime = AT
    changed: list[KeyRecord] = field(default_factory=list)

    def __call__(self, left: Callable[[str, str], None] = lambda *_: None) -> CoreRevocations:
        writes = CoreKeyWrites(self.core.ask, self.core, self.store, self.changed.append, lambda: self.now)
        return CoreRevocations(self.store, writes, lambda: self.now, left)


class Leasing(MemoryKeyStore):
    """A store that grants every lease."""

    async def take_lease(self, name: str, seconds: float) -> bool:
        return True


async def with_keys(*records: KeyRecord) -> MemoryKeyStore:
    store = MemoryKeyStore()
    for record in records:
        await store.add(record)
    return store


async def test_a_key_is_revoked_when_its_overlap_has_ended_and_not_before() -> None:
    """The request to Core has the owner in the row, and the record names who rotated the key."""
    store = await with_keys(rotated(), OTHER)
    replica = Replica(store, Core([DONE], {RECORD.id: row(RECORD, owner="a&b")}), AT - timedelta(seconds=1))
    await replica().revoke_ended()
    assert replica.core.asked == []
    replica.now = AT
    await replica().revoke_ended()
    assert replica.core.asked == [("DELETE", f"/api-keys/{RECORD.id}?owner=a%26b")]
    revoked = rotated().as_revoked(revocation(str(END), "cli:ann", "rotated"))
    revoked_in_core = replace(revoked, awaiting_core_revocation=False)
    assert (await store.get(RECORD.id), await store.get(OTHER.id)) == (revoked_in_core, OTHER)
    assert replica.changed == [revoked, revoked_in_core]
    assert await store.awaiting_core_revocation() == []


@pytest.mark.parametrize("rows", [{}, {RECORD.id: row(RECORD, revoked=True)}])
async def test_a_row_that_is_revoked_or_gone_needs_no_core(rows: dict[str, CoreRow]) -> None:
    replica = Replica(await with_keys(rotated()), Core([], rows))
    await replica().revoke_ended()
    assert replica.core.asked == []
    record = await replica.store.get(RECORD.id)
    assert record is not None
    assert (revoker(record), record.awaiting_core_revocation) == ("core" if rows else "cli:ann", False)


async def test_who_rotated_a_key_is_stored_before_core_is_asked() -> None:
    """Otherwise a replica could read the revoked row first, and store Core as who revoked it."""
    store = await with_keys(rotated())
    stored: list[KeyRecord | None] = []

    class Slow(Core):
        async def ask(self, method: str, target: str, body: bytes) -> ApiResponse:
            stored.append(await store.get(RECORD.id))
            return DONE

    await Replica(store, Slow([], {RECORD.id: row(RECORD)}))().revoke_ended()
    assert stored == [rotated().as_revoked(revocation(str(END), "cli:ann", "rotated"))]


@pytest.mark.parametrize("revoked", [False, True])
async def test_an_interrupted_revocation_is_finished(revoked: bool) -> None:
    """It is finished whether Core got the request or not, and the record keeps who, when and why."""
    cut_short = RECORD.as_revoked(revocation("2026-02-01T00:00:00Z", "master", "stolen"), awaiting_core=True)
    core = Core([DONE], {RECORD.id: row(RECORD, revoked=revoked)})
    replica = Replica(await with_keys(cut_short), core)
    await replica().revoke_ended()
    assert len(core.asked) == (0 if revoked else 1)
    done = RECORD.as_revoked(revocation("2026-02-01T00:00:00Z", "master", "stolen"))
    assert (replica.changed, await replica.store.get(RECORD.id)) == ([done], done)
    assert await replica.store.awaiting_core_revocation() == []


async def test_a_revocation_that_core_refuses_is_repeated_later_and_the_others_are_done() -> None:
    keys = rotated(), rotated(GLOBEX)
    core = Core([BROKEN, DONE], {record.id: row(record) for record in keys})
    replica = Replica(await with_keys(*keys), core)
    await replica().revoke_ended()
    assert [record.id for record in replica.changed if not record.awaiting_core_revocation] == [GLOBEX.id]
    assert await replica.store.awaiting_core_revocation() == [
        rotated().as_revoked(revocation(str(END), "cli:ann", "rotated"))
    ]


async def test_replicas_take_turns() -> None:
    """While one replica has the lease, the other does nothing, whether the first one succeeds or not."""
    core = Core([UpstreamTimeoutError()], {RECORD.id: row(RECORD)})
    replica = Replica(await with_keys(rotated()), core)
    for _ in range(2):
        await replica().revoke_ended()
    assert len(core.asked) == 1


async def test_a_key_that_core_does_not_revoke_is_logged_once() -> None:
    """It is logged once, and it does not stop the revocation of the others."""
    reported: list[tuple[str, str]] = []
    keys = rotated(), rotated(GLOBEX), rotated(OTHER)
    core = Core(
        [UpstreamTimeoutError(), BROKEN, DONE, BROKEN, DONE, BROKEN],
        {record.id: row(record) for record in keys},
    )
    store = Leasing()
    for record in keys:
        await store.add(record)
    revocations = Replica(store, core)(lambda *left: reported.append(left))
    await revocations.revoke_ended()
    assert reported == [(RECORD.id, "Upstream timed out"), (GLOBEX.id, "Core responded with 500")]
    await revocations.revoke_ended()
    assert reported[2:] == [(RECORD.id, "Core responded with 500")]
    await revocations.revoke_ended()
    assert [record.id for record in await store.awaiting_core_revocation()] == [RECORD.id]
    assert len(reported) == 3


async def test_no_lease_is_taken_when_no_key_is_due() -> None:
    replica = Replica(await with_keys(RECORD), Core([]))
    await replica().revoke_ended()
    assert await replica.store.take_lease("retirements", 1.0)


async def test_a_failure_does_not_end_the_loop() -> None:
    """After a failure of the store, the loop keeps running."""

    class Failing(MemoryKeyStore):
        looks = 0

        async def awaiting_core_revocation(self, until: float = float("inf")) -> list[KeyRecord]:
            self.looks += 1
            raise StoreUnavailableError

    store = Failing()
    running = asyncio.create_task(Replica(store, Core([]))().run(every=0.0))
    async with asyncio.timeout(5):
        while store.looks < 3:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.postgres
async def test_a_gateway_that_starts_later_revokes_the_key_in_core(
    start_gateway: Start, upstream: StandInCore, postgres: Postgres, table: Table
) -> None:
    """A gateway that starts after Core failed revokes the old key, which is refused from its end on."""
    core = CoreApi(table, failing=[abort])
    upstream.behaviour = core
    old, new = await table.mint("ledgers:read"), await table.mint("ledgers:read")
    end = Instant.of(datetime.now(UTC) + timedelta(seconds=1))
    store = await with_keys(
        rotated(replace(RECORD, id=old.id, digest=digest(old.key)), end),
        replace(RECORD, id=new.id, digest=digest(new.key), replaces=old.id),
    )
    keys = {"authority": "core", "core_database": postgres.url()}
    one = await start_gateway(keys=keys, store=store)
    assert (await one.ask("GET", "/api-keys?owner=acme", key=old.key)).status == 403
    await asyncio.sleep(1.1)
    assert (await one.ask("GET", "/api-keys?owner=acme", key=old.key)).status == 401
    await one.close()
    await start_gateway(keys=keys, store=store)
    await start_gateway(keys=keys, store=store)
    began = time.monotonic()
    while not await table.value(old, "is_revoked"):
        assert time.monotonic() - began < 25
        await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        while await store.awaiting_core_revocation():
            await asyncio.sleep(0.05)
    record = await store.get(old.id)
    assert record is not None
    assert record.revocation is not None
    assert record.revocation is not None
    assert (record.revocation.by, record.revocation.reason) == ("cli:ann", "rotated")
    assert not await table.value(CoreKey(new.key, new.id, "acme"), "is_revoked")
    assert {request.values("X-Blnk-Key")[0] for request in upstream.requests} == {MASTER_KEY}
