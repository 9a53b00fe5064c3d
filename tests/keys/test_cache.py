"""The cache of keys: how long it uses an entry, with a clock and a store that the tests control."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.cache import ChangeCallbacks, KeyCache, revocation_bound
from gateway.keys.cache_entries import CacheLimits
from gateway.keys.errors import LookupOverloadError, StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyChange, KeyChangeBatch, KeyStore
from gateway.proxy.errors import code_of
from tests.keys.records import GLOBEX, OTHER, RECORD, revocation

AT = "2026-02-01T00:00:00Z"
KEY = RECORD.principal()
REVOKED = replace(KEY, revoked=True)
REVOCATION = KeyChange(RECORD.digest, RECORD.id, revoked=True)


class Clock:
    """A monotonic clock, in seconds, that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ScriptedStore(MemoryKeyStore):
    """A store in memory: a test delivers its changes, and can hold or fail look-ups or make them stale."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[str] = []
        self.clients: list[str] = []
        self.down = False
        self.failure: GatewayError = StoreUnavailableError()
        self.stale: KeyRecord | None = None
        self.released = asyncio.Event()
        self.released.set()
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._responses: asyncio.Queue[KeyChangeBatch | GatewayError] = asyncio.Queue()

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.lookups.append(digest)
        self.clients.append(client)
        released, down, record = (
            self.released,
            self.down,
            self.stale or await super().get_by_digest(digest, client),
        )
        await released.wait()
        if down:
            raise self.failure.again()
        return record

    def forget(self) -> None:
        """Lose every record without a change in the feed."""
        self._table = type(self._table)()

    async def last_position(self) -> str:
        return "start"

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        self._asked.put_nowait(after)
        response = await self._responses.get()
        if isinstance(response, GatewayError):
            raise response
        return response

    async def asked(self) -> str:
        """Wait for the next read of the changes, and return its position."""
        return await self._asked.get()

    async def deliver(
        self, *changes: KeyChange, position: str = "1", continuous: bool = True, whole: bool = True
    ) -> str:
        """Respond to the read that is waiting; return when the next one is sent."""
        self._responses.put_nowait(KeyChangeBatch(position, changes, continuous, whole))
        return await self.asked()

    async def cut(self) -> str:
        """Fail the read that is waiting; return when the next one is sent."""
        self._responses.put_nowait(StoreUnavailableError())
        return await self.asked()


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def scripted() -> ScriptedStore:
    store = ScriptedStore()
    await store.add(RECORD)
    return store


@contextlib.asynccontextmanager
async def following(cache: KeyCache) -> AsyncIterator[None]:
    follower = asyncio.create_task(cache.follow())
    try:
        yield
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


@pytest.fixture
async def cache(scripted: ScriptedStore, clock: Clock) -> AsyncIterator[KeyCache]:
    """A cache that follows; its first read of changes is sent at the clock's start and unanswered."""
    cache = KeyCache(scripted, clock)
    async with following(cache):
        assert await scripted.asked() == "start"
        yield cache


async def looked_up(scripted: ScriptedStore, count: int) -> None:
    """Wait until `count` look-ups have been sent."""
    async with asyncio.timeout(5):
        while len(scripted.lookups) < count:
            await asyncio.sleep(0)


async def keep_proven(scripted: ScriptedStore, clock: Clock, *, until: float) -> None:
    """Let time pass with a store that responds to every poll of changes at once."""
    while clock.now < until:
        clock.now = min(until, clock.now + 0.5)
        # The first call responds to a read that was sent before the step.
        await scripted.deliver()
        await scripted.deliver()


async def test_an_entry_is_used_while_the_link_is_proven(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.deliver()
    assert cache.peek(RECORD.digest) is None
    assert await cache.lookup(RECORD.digest) == KEY
    assert cache.peek(RECORD.digest) == KEY
    assert await cache.lookup(RECORD.digest) == KEY
    assert scripted.lookups == [RECORD.digest]


async def test_the_proof_counts_from_when_the_read_was_sent(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    clock.now += 0.6
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    clock.now += 0.09
    assert (cache.peek(RECORD.digest), cache.linked) == (KEY, True)
    clock.now += 0.02
    assert (cache.peek(RECORD.digest), cache.linked) == (None, False)


async def test_without_a_proof_every_request_asks_the_store(cache: KeyCache, scripted: ScriptedStore) -> None:
    assert [await cache.lookup(RECORD.digest) for _ in range(3)] == [KEY] * 3
    assert len(scripted.lookups) == 3


async def test_once_the_proof_of_a_cut_link_has_lapsed_look_ups_are_sent(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    await scripted.cut()
    assert cache.peek(RECORD.digest) == KEY
    assert isinstance(cache.failure, GatewayError)
    clock.now += 0.7
    await cache.lookup(RECORD.digest)
    await cache.lookup(RECORD.digest)
    assert len(scripted.lookups) == 3


async def test_every_entry_is_dropped_when_a_link_has_been_down(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver(position="5")
    await cache.lookup(RECORD.digest)
    # The position stays, so changes during the outage are still read.
    assert await scripted.cut() == "5"
    await scripted.deliver(position="5")
    assert (cache.peek(RECORD.digest), cache.failure) == (None, None)


async def test_an_entry_is_used_for_ten_seconds_at_most(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    began = clock.now
    await keep_proven(scripted, clock, until=began + 7.9)
    assert cache.peek(RECORD.digest) == KEY
    await keep_proven(scripted, clock, until=began + 10)
    assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_the_age_counts_from_when_the_look_up_began(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    scripted.released.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    clock.now += 0.5
    scripted.released.set()
    assert await look_up == KEY
    await keep_proven(scripted, clock, until=clock.now + 9.5)
    assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_a_change_drops_the_entry_of_its_key_alone(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.add(OTHER)
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    await cache.lookup(OTHER.digest)
    await scripted.deliver(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    assert (cache.peek(RECORD.digest), cache.peek(OTHER.digest)) == (None, OTHER.principal())


async def test_a_look_up_from_before_a_revocation_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver()
    scripted.released.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    await scripted.deliver(REVOCATION)
    after = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 2)
    scripted.released.set()
    assert (await before, await after) == (REVOKED, REVOKED)
    assert cache.peek(RECORD.digest) == REVOKED


async def test_a_look_up_from_before_any_other_change_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver()
    scripted.stale = replace(RECORD, scopes=("*:*",))
    scripted.released.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    scripted.stale = None
    await scripted.deliver(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    scripted.released.set()
    assert await before == KEY


async def test_a_look_up_from_before_a_change_is_not_kept_when_it_comes_late(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver()
    scripted.stale = replace(RECORD, scopes=("*:*",))
    scripted.released.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    late, scripted.released = scripted.released, asyncio.Event()
    scripted.released.set()
    scripted.stale = None
    await scripted.deliver(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    assert await cache.lookup(RECORD.digest) == KEY
    before.cancel()
    late.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert cache.peek(RECORD.digest) == KEY


async def test_a_look_up_from_before_a_gap_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver()
    scripted.released.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    await scripted.deliver(continuous=False)
    scripted.released.set()
    assert await before == REVOKED
    assert len(scripted.lookups) == 2


async def test_a_gap_drops_every_entry(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    assert await scripted.deliver(position="9", continuous=False) == "9"
    assert (cache.peek(RECORD.digest), cache.linked) == (None, True)


async def test_an_entry_from_before_the_first_position_is_dropped(
    scripted: ScriptedStore, clock: Clock
) -> None:
    cache = KeyCache(scripted, clock)
    await cache.lookup(RECORD.digest)
    async with following(cache):
        await scripted.asked()
        await scripted.deliver()
        assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_a_key_once_seen_revoked_in_the_changes_stays_revoked(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver(REVOCATION)
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_a_key_once_found_revoked_stays_revoked(cache: KeyCache, scripted: ScriptedStore) -> None:
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    assert await cache.lookup(RECORD.digest) == REVOKED
    scripted.stale = RECORD
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_revoked_ids_are_remembered_up_to_a_bound(scripted: ScriptedStore, clock: Clock) -> None:
    cache = KeyCache(scripted, clock, limits=CacheLimits(revoked=1))
    cache.apply_record(replace(RECORD, revocation=revocation(AT, "")))
    cache.apply_record(replace(RECORD, revocation=revocation(AT, "")))
    assert await cache.lookup(RECORD.digest) == REVOKED
    cache.apply_record(replace(OTHER, revocation=revocation(AT, "")))
    assert await cache.lookup(RECORD.digest) == KEY


async def test_a_revoked_id_that_is_seen_again_is_remembered_anew(
    scripted: ScriptedStore, clock: Clock
) -> None:
    """A remembered id that is seen again is kept, and an import of many revoked keys drops the others."""
    cache = KeyCache(scripted, clock, limits=CacheLimits(revoked=2))
    for record in (RECORD, OTHER, RECORD, GLOBEX):
        cache.apply_record(replace(record, revocation=revocation(AT, "")))
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_a_revocation_by_this_gateway_counts_before_its_change_is_read(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    revoked = await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    assert revoked is not None
    cache.apply_record(revoked)
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_a_key_in_use_is_looked_up_again_in_the_background(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    """A key in use is looked up again once, before its entry is too old, and no request waits for it."""
    await scripted.deliver()
    await cache.lookup(RECORD.digest)
    await keep_proven(scripted, clock, until=clock.now + 8)
    scripted.released.clear()
    assert [cache.peek(RECORD.digest) for _ in range(3)] == [KEY] * 3
    await looked_up(scripted, 2)
    scripted.released.set()
    await keep_proven(scripted, clock, until=clock.now + 4)
    assert cache.peek(RECORD.digest) == KEY
    assert len(scripted.lookups) == 2


async def test_only_a_key_that_was_never_known_is_looked_up_for_its_client(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    """A key that was known once is looked up without its client, so it never queues behind unknown keys."""
    await scripted.deliver()
    await cache.lookup(RECORD.digest, "192.0.2.1")
    await cache.lookup(OTHER.digest, "192.0.2.1")
    await scripted.deliver(REVOCATION, continuous=False)
    await cache.lookup(RECORD.digest, "192.0.2.1")
    await cache.lookup(OTHER.digest, "192.0.2.1")
    assert scripted.clients == ["192.0.2.1", "192.0.2.1", "", "192.0.2.1"]


async def test_a_key_whose_record_is_gone_is_unknown_again(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.deliver()
    await cache.lookup(RECORD.digest, "192.0.2.1")
    scripted.forget()
    await scripted.deliver(continuous=False)
    assert [await cache.lookup(RECORD.digest, "192.0.2.1") for _ in range(2)] == [None, None]
    assert scripted.clients == ["192.0.2.1", "", "192.0.2.1"]


async def test_a_refused_look_up_is_no_failure_of_the_store(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.deliver()
    scripted.down, scripted.failure = True, LookupOverloadError()
    with pytest.raises(LookupOverloadError):
        await cache.lookup(OTHER.digest, "192.0.2.1")
    assert (cache.last_lookup_failed, cache.counts) == (False, {"hit": 0, "miss": 0, "refused": 1})


async def test_a_read_that_left_some_changes_unread_proves_nothing(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    """A read that left changes unread does not prove the link, because one of them may be a revocation."""
    await scripted.deliver(whole=False)
    assert not cache.linked
    await scripted.deliver()
    assert cache.linked


async def test_the_callback_for_missed_changes_is_called(scripted: ScriptedStore, clock: Clock) -> None:
    missed: list[bool] = []
    async with following(
        KeyCache(scripted, clock, callbacks=ChangeCallbacks(on_gap=lambda: missed.append(True)))
    ):
        await scripted.asked()
        await scripted.deliver()
        assert missed == []
        await scripted.deliver(continuous=False)
        assert missed == [True]


async def test_a_hundred_requests_for_one_key_are_one_look_up(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.released.clear()
    requests = [asyncio.create_task(cache.lookup(RECORD.digest)) for _ in range(100)]
    await looked_up(scripted, 1)
    await asyncio.sleep(0)
    scripted.released.set()
    assert await asyncio.gather(*requests) == [KEY] * 100
    assert scripted.lookups == [RECORD.digest]


async def test_a_cancelled_request_does_not_cancel_the_others(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.released.clear()
    first, second = (asyncio.create_task(cache.lookup(RECORD.digest)) for _ in range(2))
    await looked_up(scripted, 1)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    scripted.released.set()
    assert await second == KEY
    assert scripted.lookups == [RECORD.digest]


async def test_a_failure_that_nobody_waits_for_is_not_reported(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.down = True
    scripted.released.clear()
    request = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    scripted.released.set()
    scripted.down = False
    for _ in range(5):
        await asyncio.sleep(0)
    assert await cache.lookup(RECORD.digest) == KEY


async def test_a_failure_is_shared_but_not_kept(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.deliver()
    scripted.down = True
    failures = await asyncio.gather(*(cache.lookup(RECORD.digest) for _ in range(3)), return_exceptions=True)
    assert [code_of(failure) for failure in failures if isinstance(failure, GatewayError)] == [
        Code.KEY_STORE_UNAVAILABLE
    ] * 3
    assert len(scripted.lookups) == 1
    scripted.down = False
    assert await cache.lookup(RECORD.digest) == KEY


async def test_an_unknown_key_is_not_kept(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.deliver()
    assert await cache.lookup(OTHER.digest) is None
    await scripted.add(OTHER)
    assert await cache.lookup(OTHER.digest) == OTHER.principal()


async def test_entries_are_bounded_and_the_oldest_goes_first(scripted: ScriptedStore, clock: Clock) -> None:
    await scripted.add(OTHER)
    cache = KeyCache(scripted, clock, limits=CacheLimits(entries=1))
    async with following(cache):
        await scripted.asked()
        await scripted.deliver()
        await cache.lookup(RECORD.digest)
        await cache.lookup(OTHER.digest)
        assert (cache.peek(RECORD.digest), cache.peek(OTHER.digest)) == (None, OTHER.principal())


async def test_the_cache_follows_a_store_that_was_down_at_the_start(clock: Clock) -> None:
    class Late(ScriptedStore):
        starts = 0

        async def last_position(self) -> str:
            self.starts += 1
            if self.starts == 1:
                raise StoreUnavailableError
            return "late"

    late = Late()
    cache = KeyCache(late, clock)
    async with following(cache):
        assert await late.asked() == "late"
        await late.deliver()
        assert (cache.linked, cache.failure) == (True, None)


async def test_a_revocation_reaches_a_cache_over_a_real_store(store: KeyStore) -> None:
    loop = asyncio.get_running_loop()
    await store.add(RECORD)
    cache = KeyCache(store, loop.time)
    async with following(cache), asyncio.timeout(5):
        while not cache.linked:
            await asyncio.sleep(0.01)
        assert await cache.lookup(RECORD.digest) == KEY
        await revoke_key(store, RECORD.id, revocation(AT, "master"))
        revoked = loop.time()
        while cache.peek(RECORD.digest) == KEY:
            await asyncio.sleep(0.001)
        assert loop.time() - revoked < 1
        assert await cache.lookup(RECORD.digest) == REVOKED


async def test_a_look_up_that_took_too_long_is_a_failure(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.deliver()
    scripted.released.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    clock.now += 0.95
    scripted.released.set()
    with pytest.raises(GatewayError) as failure:
        await look_up
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert cache.peek(RECORD.digest) is None


async def test_a_revocation_counts_however_long_the_look_up_took(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    scripted.released.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await looked_up(scripted, 1)
    clock.now += 5
    scripted.released.set()
    assert await look_up == REVOKED


async def test_the_callback_for_changes_gets_each_change_that_was_read(
    scripted: ScriptedStore, clock: Clock
) -> None:
    reported: list[KeyChange] = []
    cache = KeyCache(scripted, clock, callbacks=ChangeCallbacks(on_change=reported.append))
    async with following(cache):
        await scripted.asked()
        await scripted.deliver(REVOCATION)
        cache.apply_record(OTHER)
        assert reported == [REVOCATION]


def test_the_text_of_the_bound_includes_the_grace() -> None:
    sentence = "every replica refuses a revoked key within 1 s"
    cut_off = "one that is cut off from the key store, within"
    assert [revocation_bound(grace) for grace in (0, 60, 0.5)] == [
        sentence,
        f"{sentence}; {cut_off} 61 s (keys.grace)",
        f"{sentence}; {cut_off} 1.5 s (keys.grace)",
    ]


class TestGrace:
    """In these tests, `keys.grace` is 60 s."""

    @pytest.fixture
    async def cache(self, scripted: ScriptedStore, clock: Clock) -> AsyncIterator[KeyCache]:
        """Yield a cache that follows the changes, has RECORD, and has just proven its link."""
        cache = KeyCache(scripted, clock, grace=60)
        async with following(cache):
            await scripted.asked()
            await scripted.deliver()
            assert await cache.lookup(RECORD.digest) == KEY
            yield cache

    async def lose_store(self, scripted: ScriptedStore, clock: Clock) -> None:
        """Make the store fail, for polls and look-ups, and let the proof of the link lapse."""
        scripted.down = True
        await scripted.cut()
        clock.now += 0.7

    async def test_a_known_key_is_accepted_while_the_store_fails(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose_store(scripted, clock)
        assert (cache.peek(RECORD.digest), await cache.lookup(RECORD.digest)) == (None, KEY)

    async def test_it_ends_60_s_after_the_last_response_of_the_store(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose_store(scripted, clock)
        clock.now += 59.9
        assert await cache.lookup(RECORD.digest) == KEY
        clock.now += 0.2
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_it_counts_from_the_last_poll_of_changes_if_the_look_up_is_older(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await keep_proven(scripted, clock, until=clock.now + 100)
        await self.lose_store(scripted, clock)
        assert await cache.lookup(RECORD.digest) == KEY

    async def test_it_counts_from_the_look_up_if_the_link_was_cut_before(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.cut()
        clock.now += 100
        assert await cache.lookup(RECORD.digest) == KEY
        scripted.down = True
        clock.now += 60
        assert await cache.lookup(RECORD.digest) == KEY

    async def test_a_failed_look_up_of_another_key_covers_no_revoked_key(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        """If one record and the changes cannot be read, a revoked key is still refused."""
        await scripted.cut()
        clock.now += 50
        await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
        scripted.down = True
        with pytest.raises(GatewayError):
            await cache.lookup(OTHER.digest)
        scripted.down = False
        assert await asyncio.gather(*(cache.lookup(RECORD.digest) for _ in range(5))) == [REVOKED] * 5

    async def test_nobody_waits_long_for_a_store_that_fails(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose_store(scripted, clock)
        await cache.lookup(RECORD.digest)
        scripted.released.clear()
        asked = len(scripted.lookups)
        async with asyncio.timeout(5):
            assert [await cache.lookup(RECORD.digest) for _ in range(10)] == [KEY] * 10
        # The store is asked in the background, by one look-up at a time.
        await looked_up(scripted, asked + 1)
        assert len(scripted.lookups) == asked + 1
        scripted.released.set()

    async def test_the_store_decides_again_as_soon_as_it_responds(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose_store(scripted, clock)
        await cache.lookup(RECORD.digest)
        scripted.down = False
        await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
        await cache.lookup(RECORD.digest)
        await looked_up(scripted, 3)
        await asyncio.sleep(0)
        assert await cache.lookup(RECORD.digest) == REVOKED

    async def test_an_unknown_key_is_not_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose_store(scripted, clock)
        with pytest.raises(GatewayError):
            await cache.lookup(OTHER.digest)

    @pytest.mark.parametrize("change", [REVOCATION, KeyChange(RECORD.digest, RECORD.id, revoked=False)])
    async def test_a_key_whose_change_was_seen_is_not_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock, change: KeyChange
    ) -> None:
        await scripted.deliver(change)
        await self.lose_store(scripted, clock)
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_a_key_that_the_store_lost_is_not_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.cut()
        clock.now += 0.7
        scripted.stale = None
        scripted.forget()
        assert await cache.lookup(RECORD.digest) is None
        scripted.down = True
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_missed_changes_end_it(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.deliver(continuous=False)
        await self.lose_store(scripted, clock)
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_a_store_that_comes_and_goes_leaves_its_keys_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.cut()
        await scripted.deliver(position="1")
        assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)
        await self.lose_store(scripted, clock)
        assert await cache.lookup(RECORD.digest) == KEY
