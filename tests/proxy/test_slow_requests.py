"""A key that ends while its request is still coming in or waits for Core: the request is not carried out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.keys.cache import (
    BOUND_SECONDS,
    CACHED_VALID_SECONDS,
    LATE_SECONDS,
    LINK_PROOF_SECONDS,
    LOOKUP_VALID_SECONDS,
)
from gateway.keys.core.row_cache import CONFIRMED_SECONDS
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.keys.revocation import revoke_key
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held
from tests.keys.records import instant, revocation
from tests.raw_client import Response, chunked, request
from tests.running import Minted, Running
from tests.wire.asserting import READ

AT = "2026-02-01T00:00:00Z"
BODY = b'{"name":"x"}'
PUT = "/transactions/inflight/x"  # its body is forwarded as it comes
UPDATE = b'{"status":"commit"}'

RELIED_ON = CACHED_VALID_SECONDS + 0.05
"""Seconds after which an earlier check is not relied on; a loop's timer may be a little early."""

End = Callable[[MemoryKeyStore, str], Awaitable[KeyRecord | None]]


async def revoked(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await revoke_key(store, key_id, revocation(AT, "master"))


async def disabled(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await store.revise(key_id, lambda record: record.as_disabled(instant(AT), "master"))


async def expired(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await store.revise(key_id, lambda record: replace(record, expires_at=instant(AT)))


async def narrowed(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await store.revise(key_id, lambda record: replace(record, scopes=("search:read",)))


async def renamed(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    """Change the record without ending the key, so that it has to be looked up again."""
    return await store.revise(key_id, lambda record: replace(record, name=f"{record.name}, renamed"))


ENDS = [(revoked, 401), (disabled, 401), (expired, 401), (narrowed, 403)]


class Stage:
    """A gateway whose store a test changes directly."""

    def __init__(self, gateway: Running, store: MemoryKeyStore, caller: Minted) -> None:
        self.gateway = gateway
        self.store = store
        self.caller = caller

    async def send_slowly(self, head: bytes, rest: bytes, end: End) -> Response:
        """Send the last bytes of a request after the key has ended; return the response."""
        async with await self.gateway.connect() as client:
            await client.send(head)
            # Meanwhile the head is checked; then the end of the key becomes known.
            await asyncio.sleep(RELIED_ON)
            await end(self.store, self.caller.id)
            await asyncio.sleep(RELIED_ON)
            await client.send(rest)
            return await client.response()

    def request(self, method: str, target: str, body: bytes, sent: int) -> tuple[bytes, bytes]:
        """Return a request, cut where `sent` bytes of its body have been sent."""
        whole = request(method, target, key=self.caller.key, body=body)
        cut = len(whole) - len(body) + sent
        return whole[:cut], whole[cut:]

    def minting(self) -> tuple[bytes, bytes]:
        """Return a request for a key like the caller's, cut in its body."""
        wanted = {
            "name": "n",
            "owner": self.caller.owner,
            "scopes": ["*:*"],
            "expires_at": "2999-01-01T00:00:00Z",
        }
        return self.request("POST", "/api-keys", json.dumps(wanted).encode(), 5)


@pytest.fixture
async def stage(start_gateway: Start) -> Stage:
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    return Stage(gateway, store, await gateway.mint("*:*"))


@pytest.mark.parametrize(("end", "status"), ENDS)
async def test_a_stamped_body_that_comes_whole_too_late_is_refused(
    stage: Stage, upstream: StandInCore, end: End, status: int
) -> None:
    """A stamped body that is whole after its key has ended is refused, and Core gets nothing."""
    head, rest = stage.request("POST", "/ledgers", BODY, 3)
    response = await stage.send_slowly(head, rest, end)
    assert response.status == status
    assert upstream.requests == []
    assert '"decision":"deny"' in await stage.gateway.logged("/ledgers")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("trailing", [b"", b" "])
async def test_no_more_of_a_streamed_body_reaches_core(
    stage: Stage, upstream: StandInCore, framing: str, trailing: bytes
) -> None:
    """Every part of a streamed body is held back, since Core could act before the last byte."""
    first, last = b'{"pad":"' + b"x" * 70_000, b'","status":"commit"}'
    if framing == "length":
        head, rest = stage.request("PUT", PUT, first + last + trailing, len(first))
        rest = last
    else:
        start = request("PUT", PUT, key=stage.caller.key, headers=[("Transfer-Encoding", "chunked")])
        head, rest = start + b"%x\r\n%b\r\n" % (len(first), first), chunked(last + trailing)
        rest = rest.removesuffix(b"0\r\n\r\n") if trailing else rest
    response = await stage.send_slowly(head, rest, revoked)
    assert response.status == 401
    (seen,) = upstream.requests
    assert first.startswith(bytes(seen.body))


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_small_body_that_comes_whole_too_late_is_refused(
    stage: Stage, upstream: StandInCore, framing: str
) -> None:
    """A small body that is whole after its key has ended is refused, and Core gets nothing."""
    if framing == "length":
        head, rest = stage.request("PUT", PUT, UPDATE, 4)
    else:
        start = request("PUT", PUT, key=stage.caller.key, headers=[("Transfer-Encoding", "chunked")])
        head, rest = start + b"4\r\n%b\r\n" % UPDATE[:4], chunked(UPDATE[4:])
    assert (await stage.send_slowly(head, rest, revoked)).status == 401
    assert upstream.requests == []


async def test_a_request_that_waited_for_a_connection_to_core_is_judged_by_then(
    start_gateway: Start, upstream: StandInCore
) -> None:
    store, release = MemoryKeyStore(), asyncio.Event()
    gateway = await start_gateway(store=store, upstream={"connections": 1})
    first, second = await gateway.mint("ledgers:*"), await gateway.mint("ledgers:*")
    upstream.take()
    # One more slot is kept for a key that holds none.
    upstream.script(held(release), held(release))
    busy = asyncio.create_task(gateway.ask("GET", READ, key=first.key))
    kept = asyncio.create_task(gateway.ask("GET", READ, key=(await gateway.mint("ledgers:*")).key))
    await upstream.arrived(2)
    waiting = asyncio.create_task(gateway.ask("POST", "/ledgers", key=second.key, body=BODY))
    await asyncio.sleep(RELIED_ON)
    await revoked(store, second.id)
    await asyncio.sleep(RELIED_ON)
    release.set()
    assert ((await busy).status, (await kept).status, (await waiting).status) == (200, 200, 401)
    assert len(upstream.requests) == 2
    assert (await gateway.ask("GET", READ, key=first.key)).status == 200


@pytest.mark.parametrize("end", [revoked, disabled, expired])
async def test_a_dead_key_mints_none(stage: Stage, end: End) -> None:
    """A key that ends while its request for a new key is on its way mints none."""
    assert (await stage.send_slowly(*stage.minting(), end)).status == 401
    assert len(await stage.store.owned(stage.caller.owner)) == 1


async def unprivileged(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await store.revise(key_id, lambda record: replace(record, scopes=("api-keys:write",)))


async def moved(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
    return await store.revise(key_id, lambda record: replace(record, owner="elsewhere", scopes=("*:*",)))


@pytest.mark.parametrize(
    ("change", "code"), [(unprivileged, "AUTH_SCOPE_ESCALATION"), (moved, "AUTH_CROSS_OWNER_ACCESS")]
)
async def test_a_key_mints_by_what_it_is_when_its_request_is_whole(
    stage: Stage, change: End, code: str
) -> None:
    """A key mints by its record when its request is whole, not by its earlier scopes and owner."""
    response = await stage.send_slowly(*stage.minting(), change)
    assert (response.status, response.code) == (403, code)
    assert len([record async for batch in stage.store.scan() for record in batch]) == 1


async def test_a_key_that_lives_on_is_not_disturbed(stage: Stage, upstream: StandInCore) -> None:
    """The body of a key that lives on is forwarded unchanged, even if the key is looked up on the way."""
    head, rest = stage.request("PUT", PUT, UPDATE, 4)
    assert (await stage.send_slowly(head, rest, renamed)).status == 200
    head, rest = stage.request("POST", "/ledgers", BODY, 4)
    assert (await stage.send_slowly(head, rest, renamed)).status == 200
    streamed, stamped = upstream.requests
    assert bytes(streamed.body) == UPDATE
    assert json.loads(bytes(stamped.body)) == {
        "name": "x",
        "meta_data": {"BLNK_GENERATED_BY": stage.caller.id},
    }


async def test_a_store_that_fails_meanwhile_is_503(start_gateway: Start, upstream: StandInCore) -> None:
    """A store that fails meanwhile is 503, since nobody can tell whether the key still lives."""

    class Failing(MemoryKeyStore):
        failing = False

        async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
            if self.failing:
                raise StoreUnavailableError
            return await super().get_by_digest(digest, client)

    store = Failing()
    gateway = await start_gateway(store=store)
    stage = Stage(gateway, store, await gateway.mint("*:*"))

    async def down(store: MemoryKeyStore, key_id: str) -> KeyRecord | None:
        Failing.failing = True
        return await renamed(store, key_id)

    for method, target in (("POST", "/ledgers"), ("PUT", PUT)):
        Failing.failing = False
        response = await stage.send_slowly(*stage.request(method, target, BODY, 4), down)
        assert (response.status, response.values("Retry-After")) == (503, ["1"])


def test_what_is_relied_on_and_what_may_be_late_are_less_than_the_bound() -> None:
    assert LINK_PROOF_SECONDS + CACHED_VALID_SECONDS < BOUND_SECONDS
    assert LATE_SECONDS + LOOKUP_VALID_SECONDS < BOUND_SECONDS
    assert CONFIRMED_SECONDS + CACHED_VALID_SECONDS < 2.0
