"""Look-ups in Redis: many in one round trip, and what does not wait for them."""

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
    """So many ask for unknown keys, each anew as soon as it has its answer."""

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
    """A store whose Redis answers 0.1 s late: no more than 640 unknown keys a second."""
    async with slow_link(redis_server.port, 0.1) as port:
        store = RedisKeyStore(redis_acl.url(f"127.0.0.1:{port}"))
        yield store
        await store.close()


async def timed(work: Awaitable[object]) -> tuple[object, float]:
    """The outcome, and how many seconds it took."""
    began = time.monotonic()
    return await work, time.monotonic() - began


async def test_those_who_ask_at_once_share_a_round_trip(
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
    """The flood alone would take 2 s."""
    await distant.add(RECORD)
    async with flooded(lambda key: distant.get_by_digest(digest(key), ATTACKER), 1500):
        found, took = await timed(distant.get_by_digest(RECORD.digest, CLIENT))
    assert found == RECORD
    # What is under way, and its own.
    assert took < 0.35


async def test_a_flood_gets_what_redis_can_answer_in_time_and_the_rest_is_refused(
    distant: RedisKeyStore,
) -> None:
    asked = (distant.get_by_digest(unknown(), ATTACKER) for _ in range(1500))
    outcomes, took = await timed(asyncio.gather(*asked, return_exceptions=True))
    assert isinstance(outcomes, list)
    assert {type(outcome) for outcome in outcomes} == {type(None), LookupOverloadError}
    # 64 every 0.1 s, for as long as an answer would be believed, and those alone that come too late refused.
    assert 128 <= outcomes.count(None) <= 512
    assert took < 2


async def test_a_known_key_waits_for_no_unknown_one_of_its_own_address(distant: RedisKeyStore) -> None:
    await distant.add(RECORD)
    async with flooded(lambda key: distant.get_by_digest(digest(key), ATTACKER), 1500):
        found, took = await timed(distant.get_by_digest(RECORD.digest))
    assert found == RECORD
    # What is under way, and its own.
    assert took < 0.35


async def test_a_pending_key_waits_for_no_flood_of_another_address(distant: RedisKeyStore) -> None:
    await distant.add_all([PENDING])
    async with flooded(lambda key: distant.get_by_prefix(key[:16], ATTACKER), 1500):
        found, took = await timed(distant.get_by_prefix(PENDING.prefix, CLIENT))
    assert found == [PENDING]
    # What is under way, and five steps of its own.
    assert took < 0.8


async def test_changes_and_lists_wait_for_no_look_up(redis_store: RedisKeyStore) -> None:
    """None of them shares a connection with those who need no key."""
    await redis_store.add_all([RECORD, OTHER])
    async with flooded(lambda key: redis_store.get_by_digest(digest(key), ATTACKER), 500):
        revoked, took = await timed(revoke_key(redis_store, RECORD.id, revocation(AT, "master")))
        listed, listing = await timed(redis_store.owned("acme"))
    assert revoked == RECORD.as_revoked(revocation(AT, "master"))
    assert listed == [OTHER, revoked]
    assert max(took, listing) < 0.5


async def test_revoking_waits_for_no_flood_of_new_keys(distant: RedisKeyStore) -> None:
    """A tenth of a second for each step; 200 keys that are added take 5 s and more."""
    await distant.add(RECORD)
    many = [replace(OTHER, id=f"{OTHER.id[:-4]}1{n:03}", digest=f"{n:064x}") for n in range(200)]
    adding = asyncio.gather(*map(distant.add, many), return_exceptions=True)
    await asyncio.sleep(0.3)
    revoked, took = await timed(revoke_key(distant, RECORD.id, revocation(AT, "master")))
    assert StoreUnavailableError in {type(outcome) for outcome in await adding}
    assert revoked == RECORD.as_revoked(revocation(AT, "master"))
    assert took < 1.2


async def test_a_record_that_cannot_be_read_fails_alone(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add_all([RECORD, OTHER])
    redis_server.command("SET", f"{PREFIX}key:{OTHER.digest}", "{")
    found, unread = await asyncio.gather(
        *(redis_store.get_by_digest(each.digest, CLIENT) for each in (RECORD, OTHER)), return_exceptions=True
    )
    assert found == RECORD
    assert isinstance(unread, GatewayError)
    assert unread.reason == f"{PREFIX}key:{OTHER.digest} in Redis holds no record that can be read"


async def test_prefixes_that_are_asked_for_at_once_are_told_apart(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """And an index that names a record of another prefix is not believed."""
    settled = replace(PENDING, id=f"{PENDING.id[:-1]}5", digest=digest("fifth"), prefix="B" * 16, bcrypt="")
    await redis_store.add_all([PENDING, settled])
    redis_server.command("SADD", f"{PREFIX}prefix:{'C' * 16}", PENDING.id)
    asked = (redis_store.get_by_prefix(each * 16, CLIENT) for each in "ABCD")
    assert await asyncio.gather(*asked) == [[PENDING], [settled], [], []]
