"""The script that shares the limits of keys, in a real Redis."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from redis.crc import key_slot

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.leases import NO_ESTIMATE, BucketMemory, Lease, LeaseRequest
from gateway.keys.redis.leases import RedisLeases
from gateway.keys.redis.names import CHANGES, LIMIT_REPLICAS, limit_name
from gateway.keys.redis.store import RedisKeyStore
from tests.redis_acl import USER
from tests.redis_server import RedisServer, commands_of_clients

pytestmark = pytest.mark.redis

NOTHING = BucketMemory(NO_ESTIMATE, 0.0, 0.0)
# At this rate nothing noticeable flows in during a test.
WISH = LeaseRequest("k", rate=0.001, capacity=100, spent=0, granted=0, wanted=0, memory=NOTHING)
BUCKET = "{blnk-gateway}:limit:k"


class Asking:
    """Asks for leases of one key."""

    def __init__(self, leases: RedisLeases) -> None:
        self.leases = leases

    async def __call__(self, replica: str = "a", **wish: object) -> Lease:
        found = await self.leases.lease(replica, [replace(WISH, **wish)])  # type: ignore[arg-type]
        return found.leases[0]


@pytest.fixture
def ask(redis_store: RedisKeyStore) -> Asking:
    return Asking(RedisLeases(redis_store.link))


def rounded(lease: Lease) -> tuple[float, float]:
    return lease.granted, round(lease.level)


class TestBucket:
    async def test_it_begins_full(self, ask: Asking) -> None:
        """A new bucket has its capacity, without what was spent before the first call."""
        assert rounded(await ask(spent=3)) == (0, 97)

    async def test_a_lease_is_taken_out_of_it(self, ask: Asking) -> None:
        """A replica gets what it wants, the next one what is left, the third one nothing."""
        found = [rounded(await ask(replica, wanted=60)) for replica in "abc"]
        assert found == [(60, 40), (40, 0), (0, 0)]

    async def test_what_is_not_used_is_returned(self, ask: Asking) -> None:
        """A lease of 60 of which 10 were spent returns 50."""
        await ask(wanted=60)
        assert rounded(await ask(granted=60, spent=10)) == (0, 90)

    async def test_it_never_holds_more_than_its_capacity(self, ask: Asking) -> None:
        """Tokens that are returned to a full bucket are lost."""
        await ask()
        assert rounded(await ask(granted=60)) == (0, 100)

    async def test_it_counts_what_was_spent_without_a_token(self, ask: Asking) -> None:
        """Replicas that spent more than there was leave a debt, and nobody gets a token."""
        await ask(spent=80)
        assert rounded(await ask("b", spent=80, wanted=5)) == (0, -60)

    async def test_tokens_flow_in_at_the_rate(self, ask: Asking) -> None:
        """An empty bucket of 100/s has about 20 tokens after 0.2 s, by the clock of Redis."""
        first = await ask.leases.lease("a", [replace(WISH, rate=100, spent=100)])
        await asyncio.sleep(0.2)
        second = await ask.leases.lease("a", [replace(WISH, rate=100)])
        elapsed = second.now - first.now
        assert second.leases[0].level == pytest.approx(elapsed * 100, abs=0.1)

    async def test_all_requests_are_totalled(self, ask: Asking) -> None:
        """Each replica learns how many requests all of them reported."""
        assert [(await ask(replica, spent=5)).total for replica in "abc"] == [5, 10, 15]

    async def test_it_expires_once_it_would_be_full(self, ask: Asking, redis_server: RedisServer) -> None:
        """A bucket of 100/s that was emptied is gone from Redis after 3 s at the latest."""
        await ask(rate=100, spent=100)
        assert 0 < int(redis_server.command("PTTL", BUCKET)[1:]) <= 3000

    async def test_many_keys_take_one_command(self, ask: Asking, redis_server: RedisServer) -> None:
        """A call for 100 keys is one command of the replica."""
        await ask()
        with redis_server.monitored() as seen:
            wishes = [replace(WISH, key_id=f"k{number}", spent=number) for number in range(100)]
            found = await ask.leases.lease("a", wishes)
            assert commands_of_clients(seen()).count("EVAL") == 1
        assert [round(lease.level) for lease in found.leases] == [100 - number for number in range(100)]


class TestLostBuckets:
    async def test_a_lost_bucket_is_made_as_full_as_a_replica_remembers_it(
        self, ask: Asking, redis_server: RedisServer
    ) -> None:
        """After a restart of Redis without the bucket, it is made at the level that is remembered."""
        before = await ask(spent=90)
        redis_server.command("DEL", BUCKET)
        memory = BucketMemory(10.0, before.began, time.time())
        assert rounded(await ask(spent=5, memory=memory)) == (0, 10)

    async def test_the_lowest_level_counts(self, ask: Asking, redis_server: RedisServer) -> None:
        """Of several replicas that remember the lost bucket, the one that remembers least counts."""
        before = await ask(spent=90)
        redis_server.command("DEL", BUCKET)
        levels = []
        for estimate in (40.0, 10.0, 30.0):
            memory = BucketMemory(estimate, before.began, time.time())
            levels.append(rounded(await ask(memory=memory)))
        assert levels == [(0, 40), (0, 10), (0, 10)]

    async def test_an_older_copy_counts_as_lost(self, ask: Asking, redis_server: RedisServer) -> None:
        """A bucket that an older snapshot brought back, fuller than it was, is a lost one."""
        first = await ask.leases.lease("a", [replace(WISH, spent=1)])
        copy = redis_server.command("GET", BUCKET).split(b"\r\n")[1]
        await asyncio.sleep(0.01)
        later = await ask.leases.lease("a", [replace(WISH, spent=89)])
        redis_server.command("SET", BUCKET, copy)
        memory = BucketMemory(10.0, first.leases[0].began, later.now)
        assert rounded(await ask(memory=memory)) == (0, 10)

    @pytest.mark.parametrize(
        "value",
        [
            b"", b"x", b"1 2 3", b"nan x y z", b"\xff\x00 1 1 1",
            b"nan nan nan nan", b"nan 1 1 1", b"1 nan 1 1", b"1 1 nan 1", b"1 1 1 nan",
            b"inf inf inf inf", b"-inf 1 1 1", b"1 -inf 1 1", b"1 1 1 inf",
            b"-1e308 1 1 1", b"1 -1e308 1 1", b"1 1 1e308 1", b"1 1 1 -1e308", b"1e308 1 1 1e308",
            b"-9e14 1 1 0", b"-9e14 4e9 4e9 0", b"-1.1e11 1 1 0", b"1 9e14 1 0", b"1 1 9e14 0",
        ],
    )  # fmt: skip
    async def test_a_value_that_cannot_be_read_is_a_lost_bucket(
        self, ask: Asking, redis_server: RedisServer, value: bytes
    ) -> None:
        """A damaged value fails no call."""
        redis_server.command("SET", BUCKET, value)
        assert rounded(await ask(spent=1)) == (0, 99)
        assert rounded(await ask(spent=1)) == (0, 98)

    @pytest.mark.parametrize("level", [-1e14, -9e14])
    async def test_a_damaged_level_keeps_nobody_out(
        self, ask: Asking, redis_server: RedisServer, level: float
    ) -> None:
        redis_server.command("SET", BUCKET, f"{level} {time.time()} 1 1")
        assert rounded(await ask(rate=100, wanted=10)) == (10, 90)

    async def test_a_debt_is_a_burst_and_what_flows_in_within_a_day_at_most(self, ask: Asking) -> None:
        """Of more, the rest is forgotten and not all of it."""
        found = [rounded(await ask(spent=spent)) for spent in (1_000_000, 1, 1_000_000)]
        assert found == [(0, -186)] * 3

    async def test_a_key_whose_rate_is_lowered_keeps_its_debt(self, ask: Asking) -> None:
        """It counts as a burst and a day of the new rate, and not as a lost bucket."""
        assert rounded(await ask(rate=100, spent=100_000)) == (0, -99_900)
        assert rounded(await ask(rate=0.5, wanted=10)) == (0, -43_300)

    @pytest.mark.parametrize("level", [-186, -1, 99, 1e14])
    async def test_the_largest_numbers_that_are_read_fail_no_call(
        self, ask: Asking, redis_server: RedisServer, level: float
    ) -> None:
        redis_server.command("SET", BUCKET, f"{level} {time.time()} 1 1")
        assert rounded(await ask()) == (0, min(100, level))

    async def test_a_bucket_that_is_full_only_after_ages_has_an_end(
        self, ask: Asking, redis_server: RedisServer
    ) -> None:
        """Redis refuses an end that is too far away."""
        await ask(rate=1e-12, spent=100)
        assert int(redis_server.command("PTTL", BUCKET)[1:]) > 9e11

    @pytest.mark.parametrize("name", [BUCKET, LIMIT_REPLICAS])
    async def test_a_value_of_another_type_is_replaced(
        self, ask: Asking, redis_server: RedisServer, name: str | bytes
    ) -> None:
        redis_server.command("DEL", name)
        redis_server.command("RPUSH", name, "x")
        assert rounded(await ask(spent=1)) == (0, 99)


class TestReplicas:
    async def test_those_that_ask_are_counted(self, ask: Asking) -> None:
        """Each call says how many replicas asked lately, without any key too."""
        assert [(await ask.leases.lease(name, [])).replicas for name in ("a", "b", "a")] == [1, 2, 2]

    async def test_one_that_has_gone_is_not_counted(self, ask: Asking, redis_server: RedisServer) -> None:
        """A replica that asked 6 s ago counts no more, and is forgotten."""
        redis_server.command("ZADD", "{blnk-gateway}:limit-replicas", str(time.time() - 6), "gone")
        assert (await ask.leases.lease("a", [])).replicas == 1
        assert redis_server.command("ZCARD", "{blnk-gateway}:limit-replicas") == b":1\r\n"

    @pytest.mark.parametrize("ahead", [60, 1e9, 9e14])
    async def test_one_that_seems_to_have_asked_in_the_future_is_not_counted(
        self, ask: Asking, redis_server: RedisServer, ahead: float
    ) -> None:
        """The clock of Redis was set back, or the value is damaged."""
        redis_server.command("ZADD", LIMIT_REPLICAS, str(time.time() + ahead), "future")
        assert (await ask.leases.lease("a", [])).replicas == 1

    async def test_a_user_who_may_not_ask_for_the_time_is_told(
        self, ask: Asking, redis_server: RedisServer
    ) -> None:
        """The failure names the right that an older user of the gateway lacks."""
        redis_server.command("ACL", "SETUSER", USER, "-time")
        try:
            with pytest.raises(StoreUnavailableError) as failure:
                await ask()
        finally:
            redis_server.command("ACL", "SETUSER", USER, "+time")
        assert failure.value.reason == (
            "Redis does not let the user of keys.store run time: see the rights in deploy/README.md"
        )

    def test_all_names_are_in_one_slot_of_a_cluster(self) -> None:
        """So one script can use them."""
        names = (LIMIT_REPLICAS, limit_name("master"), limit_name(WISH.key_id), CHANGES)
        assert len({key_slot(name) for name in names}) == 1

    async def test_an_outage_is_a_failure_of_the_store(self, ask: Asking, redis_server: RedisServer) -> None:
        """A Redis that does not respond fails the call in time."""
        with redis_server.stalled(), pytest.raises(StoreUnavailableError):
            await ask()
