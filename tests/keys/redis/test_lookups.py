"""Look-ups in Redis: many share one round trip, and other work does not wait for them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.keys.errors import LookupOverloadError, StoreUnavailableError
from gateway.keys.minting import digest, mint_key
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from tests import redis_acl
from tests.keys.records import OTHER, PENDING, RECORD, revocation
from tests.keys.slow_link import slow_link
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

ATTACKER, CLIENT = "192.0.2.66", "192.0.2.1"
AT = "2026-02-01T00:00:00Z"


def unknown() -> str:
    return digest(mint_key(os.urandom))


@asynccontextmanager
async def flooded(ask: Callable[[str], Coroutine[Any, Any, object]], at_once: int) -> AsyncIterator[None]:
    """Look up unknown keys from `at_once` tasks, each of which starts again after every response."""

    async def flood() -> None:
        while True:
            try:
                await ask(mint_key(os.urandom))
            except LookupOverloadError:
                await asyncio.sleep(0)

    flooding = [asyncio.create_task(flood()) for _ in range(at_once)]
    await asyncio.sleep(0.3)
    try:
        yield
    finally:
        for task in flooding:
            task.cancel()
        outcomes = await asyncio.gather(*flooding, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}


@pytest.fixture
async def distant(redis_server: RedisServer, redis_url: str) -> AsyncIterator[RedisKeyStore]:
    """Yield a store whose Redis responds 0.1 s late, so it looks up at most 640 unknown keys a second."""
    async with slow_link(redis_server.port, 0.1) as port:
        store = RedisKeyStore(redis_acl.url(f"127.0.0.1:{port}"))
        yield store
        await store.close()


async def timed(work: Awaitable[object]) -> tuple[object, float]:
    """Return the result, and how many seconds it took."""
    began = time.monotonic()
    return await work, time.monotonic() - began


async def test_simultaneous_look_ups_share_a_round_trip(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    with redis_server.monitored() as seen:
        asked = [RECORD.digest, *(unknown() for _ in range(49))]
        found = await asyncio.gather(*(redis_store.get_by_digest(each, CLIENT) for each in asked))
        words = [line.split('"')[1].upper() for line in seen() if "SELECT" not in line.upper()]
    assert found == [RECORD] + [None] * 49
    assert words.count("MGET") == 1


async def test_a_first_use_waits_for_no_flood_of_another_address(distant: RedisKeyStore) -> None:
    """A first use takes less than 0.7 s, though the flood alone takes 2 s."""
    await distant.add(RECORD)
    async with flooded(lambda key: distant.get_by_digest(digest(key), ATTACKER), 1500):
        found, took = await timed(distant.get_by_digest(RECORD.digest, CLIENT))
    assert found == RECORD
    # It waits for the round trip under way, and for its own.
    assert took < 0.7


async def test_look_ups_of_a_flood_beyond_what_redis_can_do_in_time_are_refused(
    distant: RedisKeyStore,
) -> None:
    asked = (distant.get_by_digest(unknown(), ATTACKER) for _ in range(1500))
    outcomes, took = await timed(asyncio.gather(*asked, return_exceptions=True))
    assert isinstance(outcomes, list)
    assert {type(outcome) for outcome in outcomes} == {type(None), LookupOverloadError}
    # Redis looks up 64 keys every 0.1 s, until responses would be too late to be used.
    assert 128 <= outcomes.count(None) <= 512
    assert took < 2


async def test_a_known_key_waits_for_no_unknown_one_of_its_own_address(distant: RedisKeyStore) -> None:
    await distant.add(RECORD)
    async with flooded(lambda key: distant.get_by_digest(digest(key), ATTACKER), 1500):
        found, took = await timed(distant.get_by_digest(RECORD.digest))
    assert found == RECORD
    # It waits for the round trip under way, and for its own.
    assert took < 0.7


async def test_a_pending_key_waits_for_no_flood_of_another_address(distant: RedisKeyStore) -> None:
    await distant.add_all([PENDING])
    async with flooded(lambda key: distant.get_by_prefix(key[:16], ATTACKER), 1500):
        found, took = await timed(distant.get_by_prefix(PENDING.prefix, CLIENT))
    assert found == [PENDING]
    # It waits for the round trip under way, and for five of its own.
    assert took < 1.2


async def test_changes_and_lists_wait_for_no_look_up(redis_store: RedisKeyStore) -> None:
    """Changes and lists use other connections than the look-ups of unknown keys."""
    await redis_store.add_all([RECORD, OTHER])
    async with flooded(lambda key: redis_store.get_by_digest(digest(key), ATTACKER), 500):
        revoked, took = await timed(revoke_key(redis_store, RECORD.id, revocation(AT, "master")))
        listed, listing = await timed(redis_store.owned("acme"))
    assert revoked == RECORD.as_revoked(revocation(AT, "master"))
    assert listed == [OTHER, revoked]
    assert max(took, listing) < 0.5


async def test_revoking_waits_for_no_flood_of_new_keys(distant: RedisKeyStore) -> None:
    """The revocation takes less than 1.2 s, though 200 creations take 5 s and more."""
    await distant.add(RECORD)
    many = [replace(OTHER, id=f"{OTHER.id[:-4]}1{n:03}", digest=f"{n:064x}") for n in range(200)]
    adding = asyncio.gather(*map(distant.add, many), return_exceptions=True)
    await asyncio.sleep(0.3)
    revoked, took = await timed(revoke_key(distant, RECORD.id, revocation(AT, "master")))
    assert StoreUnavailableError in {type(outcome) for outcome in await adding}
    assert revoked == RECORD.as_revoked(revocation(AT, "master"))
    assert took < 1.2


@pytest.mark.parametrize("text", ["{", '{"x":' + "[" * 100_000], ids=["cut", "nested"])
async def test_a_record_that_cannot_be_read_fails_alone(
    redis_store: RedisKeyStore, redis_server: RedisServer, text: str
) -> None:
    await redis_store.add_all([RECORD, OTHER])
    redis_server.command("SET", f"{PREFIX}key:{OTHER.digest}", text)
    found, unread = await asyncio.gather(
        *(redis_store.get_by_digest(each.digest, CLIENT) for each in (RECORD, OTHER)), return_exceptions=True
    )
    assert found == RECORD
    assert isinstance(unread, GatewayError)
    assert unread.reason == f"{PREFIX}key:{OTHER.digest} in Redis holds no record that can be read"


async def test_simultaneous_look_ups_of_several_prefixes_get_their_own_records(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """Each look-up gets the records of its prefix; a wrong entry in an index is ignored."""
    settled = replace(PENDING, id=f"{PENDING.id[:-1]}5", digest=digest("fifth"), prefix="B" * 16, bcrypt="")
    await redis_store.add_all([PENDING, settled])
    redis_server.command("SADD", f"{PREFIX}prefix:{'C' * 16}", PENDING.id)
    asked = (redis_store.get_by_prefix(each * 16, CLIENT) for each in "ABCD")
    assert await asyncio.gather(*asked) == [[PENDING], [settled], [], []]
