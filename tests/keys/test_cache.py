"""When a principal in process may be honoured, under a clock and a store of the tests."""

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
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ScriptedStore(MemoryKeyStore):
    """Memory whose changes are told by the test, and whose look-ups can be held, fail or be stale.

    A look-up takes the record when it is asked, as a store does, and brings it when it is let go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finds: list[str] = []
        self.clients: list[str] = []
        self.down = False
        self.failure: GatewayError = StoreUnavailableError()
        self.stale: KeyRecord | None = None
        self.let_go = asyncio.Event()
        self.let_go.set()
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._responses: asyncio.Queue[KeyChangeBatch | GatewayError] = asyncio.Queue()

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.finds.append(digest)
        self.clients.append(client)
        let_go, down, record = (
            self.let_go,
            self.down,
            self.stale or await super().get_by_digest(digest, client),
        )
        await let_go.wait()
        if down:
            raise self.failure.again()
        return record

    def forget(self) -> None:
        """Lose every record, without a change."""
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
        """The position of the next read of changes, once it is sent."""
        return await self._asked.get()

    async def tell(
        self, *changes: KeyChange, position: str = "1", continuous: bool = True, whole: bool = True
    ) -> str:
        """Answer the read that is waiting; returns when the next is sent."""
        self._responses.put_nowait(KeyChangeBatch(position, changes, continuous, whole))
        return await self.asked()

    async def cut(self) -> str:
        """Fail the read that is waiting; returns when the next is sent."""
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


async def begun(scripted: ScriptedStore, count: int) -> None:
    """Return once so many look-ups have been sent."""
    async with asyncio.timeout(5):
        while len(scripted.finds) < count:
            await asyncio.sleep(0)


async def keep_proven(scripted: ScriptedStore, clock: Clock, *, until: float) -> None:
    """Let time pass with a link that answers at once."""
    while clock.now < until:
        clock.now = min(until, clock.now + 0.5)
        # The first answers a read that was sent before the step.
        await scripted.tell()
        await scripted.tell()


async def test_a_found_key_is_honoured_while_the_link_is_proven(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.tell()
    assert cache.peek(RECORD.digest) is None
    assert await cache.lookup(RECORD.digest) == KEY
    assert cache.peek(RECORD.digest) == KEY
    assert await cache.lookup(RECORD.digest) == KEY
    assert scripted.finds == [RECORD.digest]


async def test_the_proof_counts_from_when_the_read_was_sent(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    clock.now += 0.6
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    clock.now += 0.09
    assert (cache.peek(RECORD.digest), cache.linked) == (KEY, True)
    clock.now += 0.02
    assert (cache.peek(RECORD.digest), cache.linked) == (None, False)


async def test_without_a_proof_every_request_asks_the_store(cache: KeyCache, scripted: ScriptedStore) -> None:
    assert [await cache.lookup(RECORD.digest) for _ in range(3)] == [KEY] * 3
    assert len(scripted.finds) == 3


async def test_a_cut_link_is_asked_around_once_the_proof_has_lapsed(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    await scripted.cut()
    assert cache.peek(RECORD.digest) == KEY
    assert isinstance(cache.failure, GatewayError)
    clock.now += 0.7
    await cache.lookup(RECORD.digest)
    await cache.lookup(RECORD.digest)
    assert len(scripted.finds) == 3


async def test_a_link_that_was_down_drops_every_entry(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell(position="5")
    await cache.lookup(RECORD.digest)
    # The position stays: what happened during the outage is still to be read.
    assert await scripted.cut() == "5"
    await scripted.tell(position="5")
    assert (cache.peek(RECORD.digest), cache.failure) == (None, None)


async def test_an_entry_is_honoured_for_ten_seconds_at_most(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    began = clock.now
    await keep_proven(scripted, clock, until=began + 7.9)
    assert cache.peek(RECORD.digest) == KEY
    await keep_proven(scripted, clock, until=began + 10)
    assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_the_age_counts_from_when_the_look_up_began(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    scripted.let_go.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    clock.now += 0.5
    scripted.let_go.set()
    assert await look_up == KEY
    await keep_proven(scripted, clock, until=clock.now + 9.5)
    assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_a_change_drops_the_entry_of_its_key_alone(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.add(OTHER)
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    await cache.lookup(OTHER.digest)
    await scripted.tell(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    assert (cache.peek(RECORD.digest), cache.peek(OTHER.digest)) == (None, OTHER.principal())


async def test_a_look_up_from_before_a_revocation_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell()
    scripted.let_go.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    await scripted.tell(REVOCATION)
    after = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 2)
    scripted.let_go.set()
    assert (await before, await after) == (REVOKED, REVOKED)
    assert cache.peek(RECORD.digest) == REVOKED


async def test_a_look_up_from_before_any_change_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell()
    scripted.stale = replace(RECORD, scopes=("*:*",))
    scripted.let_go.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    scripted.stale = None
    await scripted.tell(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    scripted.let_go.set()
    assert await before == KEY


async def test_a_look_up_from_before_a_change_is_not_kept_when_it_comes_late(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell()
    scripted.stale = replace(RECORD, scopes=("*:*",))
    scripted.let_go.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    late, scripted.let_go = scripted.let_go, asyncio.Event()
    scripted.let_go.set()
    scripted.stale = None
    await scripted.tell(KeyChange(RECORD.digest, RECORD.id, revoked=False))
    assert await cache.lookup(RECORD.digest) == KEY
    before.cancel()
    late.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert cache.peek(RECORD.digest) == KEY


async def test_a_look_up_from_before_a_gap_counts_for_nobody(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell()
    scripted.let_go.clear()
    before = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    await scripted.tell(continuous=False)
    scripted.let_go.set()
    assert await before == REVOKED
    assert len(scripted.finds) == 2


async def test_a_gap_drops_every_entry(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    assert await scripted.tell(position="9", continuous=False) == "9"
    assert (cache.peek(RECORD.digest), cache.linked) == (None, True)


async def test_what_was_found_before_the_first_position_is_dropped(
    scripted: ScriptedStore, clock: Clock
) -> None:
    cache = KeyCache(scripted, clock)
    await cache.lookup(RECORD.digest)
    async with following(cache):
        await scripted.asked()
        await scripted.tell()
        assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)


async def test_a_key_once_seen_revoked_in_the_changes_stays_revoked(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell(REVOCATION)
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
    """An import of many revoked keys pushes out those that nobody saw since."""
    cache = KeyCache(scripted, clock, limits=CacheLimits(revoked=2))
    for record in (RECORD, OTHER, RECORD, GLOBEX):
        cache.apply_record(replace(record, revocation=revocation(AT, "")))
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_an_own_revocation_counts_before_it_is_read_back(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    revoked = await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    assert revoked is not None
    cache.apply_record(revoked)
    assert await cache.lookup(RECORD.digest) == REVOKED


async def test_a_key_in_use_is_looked_up_again_on_the_side(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    """Before it is too old, and once; nobody waits for it, behind whatever flood of other keys."""
    await scripted.tell()
    await cache.lookup(RECORD.digest)
    await keep_proven(scripted, clock, until=clock.now + 8)
    scripted.let_go.clear()
    assert [cache.peek(RECORD.digest) for _ in range(3)] == [KEY] * 3
    await begun(scripted, 2)
    scripted.let_go.set()
    await keep_proven(scripted, clock, until=clock.now + 4)
    assert cache.peek(RECORD.digest) == KEY
    assert len(scripted.finds) == 2


async def test_only_a_key_that_the_store_has_not_known_is_looked_up_for_its_client(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    """Also where nothing is left of what was known of it; so it never waits in a flood of unknown ones."""
    await scripted.tell()
    await cache.lookup(RECORD.digest, "192.0.2.1")
    await cache.lookup(OTHER.digest, "192.0.2.1")
    await scripted.tell(REVOCATION, continuous=False)
    await cache.lookup(RECORD.digest, "192.0.2.1")
    await cache.lookup(OTHER.digest, "192.0.2.1")
    assert scripted.clients == ["192.0.2.1", "192.0.2.1", "", "192.0.2.1"]


async def test_a_key_that_is_gone_is_an_unknown_one_again(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell()
    await cache.lookup(RECORD.digest, "192.0.2.1")
    scripted.forget()
    await scripted.tell(continuous=False)
    assert [await cache.lookup(RECORD.digest, "192.0.2.1") for _ in range(2)] == [None, None]
    assert scripted.clients == ["192.0.2.1", "", "192.0.2.1"]


async def test_a_refused_look_up_says_nothing_of_the_store(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell()
    scripted.down, scripted.failure = True, LookupOverloadError()
    with pytest.raises(LookupOverloadError):
        await cache.lookup(OTHER.digest, "192.0.2.1")
    assert (cache.last_lookup_failed, cache.counts) == (False, {"hit": 0, "miss": 0, "refused": 1})


async def test_a_read_that_left_some_changes_unread_proves_nothing(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    """A revocation may be among them."""
    await scripted.tell(whole=False)
    assert not cache.linked
    await scripted.tell()
    assert cache.linked


async def test_it_is_told_that_changes_were_missed(scripted: ScriptedStore, clock: Clock) -> None:
    missed: list[bool] = []
    async with following(
        KeyCache(scripted, clock, callbacks=ChangeCallbacks(on_gap=lambda: missed.append(True)))
    ):
        await scripted.asked()
        await scripted.tell()
        assert missed == []
        await scripted.tell(continuous=False)
        assert missed == [True]


async def test_a_hundred_requests_for_one_key_are_one_look_up(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.let_go.clear()
    requests = [asyncio.create_task(cache.lookup(RECORD.digest)) for _ in range(100)]
    await begun(scripted, 1)
    await asyncio.sleep(0)
    scripted.let_go.set()
    assert await asyncio.gather(*requests) == [KEY] * 100
    assert scripted.finds == [RECORD.digest]


async def test_a_request_that_leaves_does_not_take_the_others_with_it(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.let_go.clear()
    first, second = (asyncio.create_task(cache.lookup(RECORD.digest)) for _ in range(2))
    await begun(scripted, 1)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    scripted.let_go.set()
    assert await second == KEY
    assert scripted.finds == [RECORD.digest]


async def test_a_failure_that_nobody_waits_for_any_more_is_silent(
    cache: KeyCache, scripted: ScriptedStore
) -> None:
    scripted.down = True
    scripted.let_go.clear()
    request = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    scripted.let_go.set()
    scripted.down = False
    for _ in range(5):
        await asyncio.sleep(0)
    assert await cache.lookup(RECORD.digest) == KEY


async def test_a_failure_is_shared_but_not_kept(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell()
    scripted.down = True
    failures = await asyncio.gather(*(cache.lookup(RECORD.digest) for _ in range(3)), return_exceptions=True)
    assert [code_of(failure) for failure in failures if isinstance(failure, GatewayError)] == [
        Code.KEY_STORE_UNAVAILABLE
    ] * 3
    assert len(scripted.finds) == 1
    scripted.down = False
    assert await cache.lookup(RECORD.digest) == KEY


async def test_an_unknown_key_is_not_kept(cache: KeyCache, scripted: ScriptedStore) -> None:
    await scripted.tell()
    assert await cache.lookup(OTHER.digest) is None
    await scripted.add(OTHER)
    assert await cache.lookup(OTHER.digest) == OTHER.principal()


async def test_entries_are_bounded_and_the_oldest_goes_first(scripted: ScriptedStore, clock: Clock) -> None:
    await scripted.add(OTHER)
    cache = KeyCache(scripted, clock, limits=CacheLimits(entries=1))
    async with following(cache):
        await scripted.asked()
        await scripted.tell()
        await cache.lookup(RECORD.digest)
        await cache.lookup(OTHER.digest)
        assert (cache.peek(RECORD.digest), cache.peek(OTHER.digest)) == (None, OTHER.principal())


async def test_following_survives_a_store_that_is_down_at_the_start(clock: Clock) -> None:
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
        await late.tell()
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


async def test_a_response_that_took_too_long_is_a_failure(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await scripted.tell()
    scripted.let_go.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    clock.now += 0.95
    scripted.let_go.set()
    with pytest.raises(GatewayError) as failure:
        await look_up
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert cache.peek(RECORD.digest) is None


async def test_a_revocation_counts_however_long_its_response_took(
    cache: KeyCache, scripted: ScriptedStore, clock: Clock
) -> None:
    await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
    scripted.let_go.clear()
    look_up = asyncio.create_task(cache.lookup(RECORD.digest))
    await begun(scripted, 1)
    clock.now += 5
    scripted.let_go.set()
    assert await look_up == REVOKED


async def test_changes_that_are_read_are_told(scripted: ScriptedStore, clock: Clock) -> None:
    told: list[KeyChange] = []
    cache = KeyCache(scripted, clock, callbacks=ChangeCallbacks(on_change=told.append))
    async with following(cache):
        await scripted.asked()
        await scripted.tell(REVOCATION)
        cache.apply_record(OTHER)
        assert told == [REVOCATION]


def test_the_bound_is_said_with_its_grace() -> None:
    sentence = "every replica refuses a revoked key within 1 s"
    cut_off = "one that is cut off from the key store, within"
    assert [revocation_bound(grace) for grace in (0, 60, 0.5)] == [
        sentence,
        f"{sentence}; {cut_off} 61 s (keys.grace)",
        f"{sentence}; {cut_off} 1.5 s (keys.grace)",
    ]


class TestGrace:
    """`keys.grace`: 60 s in these tests."""

    @pytest.fixture
    async def cache(self, scripted: ScriptedStore, clock: Clock) -> AsyncIterator[KeyCache]:
        """A cache that follows, knows RECORD, and has just proven its link."""
        cache = KeyCache(scripted, clock, grace=60)
        async with following(cache):
            await scripted.asked()
            await scripted.tell()
            assert await cache.lookup(RECORD.digest) == KEY
            yield cache

    async def lose(self, scripted: ScriptedStore, clock: Clock) -> None:
        """The store fails, link and look-ups, and the proof has lapsed."""
        scripted.down = True
        await scripted.cut()
        clock.now += 0.7

    async def test_a_known_key_is_honoured_while_the_store_fails(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose(scripted, clock)
        assert (cache.peek(RECORD.digest), await cache.lookup(RECORD.digest)) == (None, KEY)

    async def test_it_ends_so_long_after_the_store_was_last_heard_of(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose(scripted, clock)
        clock.now += 59.9
        assert await cache.lookup(RECORD.digest) == KEY
        clock.now += 0.2
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_it_counts_from_the_last_read_of_the_changes_for_a_key_found_long_ago(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await keep_proven(scripted, clock, until=clock.now + 100)
        await self.lose(scripted, clock)
        assert await cache.lookup(RECORD.digest) == KEY

    async def test_it_counts_from_the_look_up_where_the_link_was_cut_before(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.cut()
        clock.now += 100
        assert await cache.lookup(RECORD.digest) == KEY
        scripted.down = True
        clock.now += 60
        assert await cache.lookup(RECORD.digest) == KEY

    async def test_a_look_up_of_another_key_that_fails_covers_no_revoked_one(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        """The store answers; its changes cannot be read, and one record cannot either."""
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
        await self.lose(scripted, clock)
        await cache.lookup(RECORD.digest)
        scripted.let_go.clear()
        asked = len(scripted.finds)
        async with asyncio.timeout(5):
            assert [await cache.lookup(RECORD.digest) for _ in range(10)] == [KEY] * 10
        # It is asked on the side, once at a time.
        await begun(scripted, asked + 1)
        assert len(scripted.finds) == asked + 1
        scripted.let_go.set()

    async def test_the_store_is_believed_as_soon_as_it_answers(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose(scripted, clock)
        await cache.lookup(RECORD.digest)
        scripted.down = False
        await revoke_key(scripted, RECORD.id, revocation(AT, "master"))
        await cache.lookup(RECORD.digest)
        await begun(scripted, 3)
        await asyncio.sleep(0)
        assert await cache.lookup(RECORD.digest) == REVOKED

    async def test_an_unknown_key_is_not_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await self.lose(scripted, clock)
        with pytest.raises(GatewayError):
            await cache.lookup(OTHER.digest)

    @pytest.mark.parametrize("change", [REVOCATION, KeyChange(RECORD.digest, RECORD.id, revoked=False)])
    async def test_a_key_whose_change_was_seen_is_not_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock, change: KeyChange
    ) -> None:
        await scripted.tell(change)
        await self.lose(scripted, clock)
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

    async def test_a_gap_ends_it(self, cache: KeyCache, scripted: ScriptedStore, clock: Clock) -> None:
        await scripted.tell(continuous=False)
        await self.lose(scripted, clock)
        with pytest.raises(GatewayError):
            await cache.lookup(RECORD.digest)

    async def test_a_store_that_comes_and_goes_leaves_its_keys_covered(
        self, cache: KeyCache, scripted: ScriptedStore, clock: Clock
    ) -> None:
        await scripted.cut()
        await scripted.tell(position="1")
        assert (cache.linked, cache.peek(RECORD.digest)) == (True, None)
        await self.lose(scripted, clock)
        assert await cache.lookup(RECORD.digest) == KEY
