"""Changes of keys in Redis: the values that a write is compared with, and failures during a write."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.audit import THE_GATEWAY
from gateway.errors import GatewayError
from gateway.keys.errors import StoreUnavailableError, UnacknowledgedError, UncertainError
from gateway.keys.minting import digest
from gateway.keys.quota import Quota
from gateway.keys.record import KeyRecord
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.record_commands import RecordCommands
from gateway.keys.redis.script import Command, Outcome, eval_command, read_outcome
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import DuplicateKeyError
from tests import redis_acl
from tests.keys.records import OTHER, PENDING, RECORD, instant, revocation
from tests.keys.redis.cut_link import altered_after, cut_after
from tests.keys.redis_setups import Replicated, replicated
from tests.redis_server import RedisServer, commands_of_clients, start_redis

pytestmark = pytest.mark.redis

AT = "2026-02-01T00:00:00Z"
REVOKED = RECORD.as_revoked(revocation(AT, "master"))
NAME = f"{PREFIX}name".encode()


def disable(record: KeyRecord) -> KeyRecord:
    return record.as_disabled(instant(AT), "cli:ann")


def elsewhere(url: str, work: Callable[[RedisKeyStore], Awaitable[object]]) -> None:
    """Run a task with another store to its end, in a thread, from a function that cannot await."""

    async def run() -> None:
        store = RedisKeyStore(url)
        await work(store)
        await store.close()

    with ThreadPoolExecutor() as pool:
        pool.submit(asyncio.run, run()).result()


async def run(client: Any, request: list[Any]) -> Any:
    """Send one command through a client of redis-py, whose type also covers synchronous clients."""
    return await client.execute_command(*request)


async def failure_of(change: Awaitable[object]) -> tuple[type[Exception], str]:
    """Return the type of a failure, and its reason for operators."""
    with pytest.raises(GatewayError) as failure:
        await change
    return type(failure.value), failure.value.reason


# Two writers.


async def test_a_change_that_came_first_is_kept(redis_store: RedisKeyStore, redis_url: str) -> None:
    """The second change is made again from the first one, so a revoked key is never overwritten as live."""
    await redis_store.add(RECORD)
    seen: list[KeyRecord] = []

    def disable_late(record: KeyRecord) -> KeyRecord:
        seen.append(record)
        if len(seen) == 1:
            elsewhere(redis_url, lambda store: revoke_key(store, RECORD.id, revocation(AT, "master")))
        return disable(record)

    assert await redis_store.revise(RECORD.id, disable_late) == REVOKED
    assert seen == [RECORD, REVOKED]
    assert await redis_store.get_by_digest(RECORD.digest) == REVOKED


async def test_a_creator_that_is_revoked_meanwhile_creates_nothing(
    redis_store: RedisKeyStore, redis_url: str
) -> None:
    """Either the creation or the revocation comes first, and the list of children agrees with that."""
    for number in range(20):
        creator = replace(RECORD, id=f"{RECORD.id[:-2]}{number:02}", digest=digest(f"creator {number}"))
        created = replace(
            OTHER,
            id=f"{OTHER.id[:-4]}1{number:03}",
            digest=digest(f"created {number}"),
            created_by=creator.id,
        )
        await redis_store.add(creator)
        added, _ = await asyncio.gather(
            redis_store.add(created),
            revoke_key(redis_store, creator.id, revocation(AT, "master")),
            return_exceptions=True,
        )
        there = await redis_store.children(creator.id)
        assert there == ([created] if added is None else [])


async def test_one_of_twenty_simultaneous_writers_of_a_key_succeeds(redis_url: str) -> None:
    stores = [RedisKeyStore(redis_url) for _ in range(3)]
    adding = (stores[number % 3].add(replace(RECORD, name=f"{number}")) for number in range(20))
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    (won,) = (number for number, outcome in enumerate(outcomes) if outcome is None)
    assert [type(outcome) for outcome in outcomes].count(DuplicateKeyError) == 19
    assert await stores[0].get_by_digest(RECORD.digest) == replace(RECORD, name=f"{won}")
    for store in stores:
        await store.close()


async def test_a_script_that_is_sent_twice_changes_nothing_the_second_time(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        request = eval_command({NAME: None}, [Command("SET", NAME, (b"new",))])
        outcomes = [read_outcome(await run(client, request)) for _ in range(2)]
    assert outcomes == [(Outcome.WRITTEN, 0), (Outcome.CHANGED, 0)]


@pytest.mark.parametrize("value", [b"", b"\x00", b"\r\n", b"\xff\xfe", bytes(range(256)), b"0", b"a" * 70000])
async def test_values_are_compared_and_written_as_bytes(redis_url: str, value: bytes) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.set(NAME, value)
        other, wrong = value + b"\x00", value + b"x"
        for read, written, outcome in (
            (wrong, other, Outcome.CHANGED),
            (value, other, Outcome.WRITTEN),
            (other, value, Outcome.WRITTEN),
        ):
            request = eval_command({NAME: read}, [Command("SET", NAME, (written,))])
            assert read_outcome(await run(client, request)) == (outcome, 0)
        assert await client.get(NAME) == value


async def test_a_record_with_bytes_of_any_kind_is_compared(redis_store: RedisKeyStore) -> None:
    odd = replace(RECORD, name="\x00\r\n\x7f\u2028é\U0001f600", owner='"\\ {x}')
    await redis_store.add(odd)
    assert await redis_store.revise(odd.id, disable) == disable(odd)
    assert await redis_store.owned(odd.owner) == [disable(odd)]


async def test_a_batch_of_more_arguments_than_lua_takes_at_once_is_written(redis_url: str) -> None:
    many = [replace(RECORD, id=f"{RECORD.id[:-4]}{n:04}", digest=f"{n:064x}") for n in range(5000)]
    commands = RecordCommands(changes_kept=10, audit_kept=lambda: 10, author=THE_GATEWAY)
    request = eval_command({}, commands.write(many, before={}))
    async with Redis.from_url(redis_url) as client:
        assert read_outcome(await run(client, request)) == (Outcome.WRITTEN, 0)
        assert await client.zcard(f"{PREFIX}owner:acme") == 5000


async def test_every_name_is_declared_to_the_script(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """A Cluster requires that a script declares every name that it writes."""
    record = replace(PENDING, created_by=RECORD.id, replaces=OTHER.id)
    with redis_server.monitored() as seen:
        await redis_store.add_all([record])
        await revoke_key(redis_store, record.id, revocation(AT, "master"), awaiting_core=True)
        await redis_store.bind_digest(record.id, digest("fourth"))
        stored = await redis_store.get(record.id)
        assert stored is not None
        await redis_store.remove_all([stored])
        lines = seen()
    written, declared = set[str](), set[str]()
    for line in lines:
        words = line.partition("] ")[2].strip('"\n').split('" "')
        if "lua]" in line:
            written.add(words[1])
        elif words[0] == "EVAL":
            declared.update(words[3 : 3 + int(words[2])])
    assert written == declared
    assert len(written) == 13


# Commands that Redis refuses.


@pytest.mark.parametrize("command", ["eval", "mget", "zcard", "zadd", "sadd", "xadd", "set"])
async def test_a_forbidden_command_leaves_no_record(
    redis_store: RedisKeyStore, redis_server: RedisServer, command: str
) -> None:
    """No record is found afterwards, and the failure says that the change was not made."""
    creator = replace(OTHER, id=RECORD.id.replace("0", "9"), digest=digest("creator"))
    record = replace(RECORD, created_by=creator.id)
    await redis_store.add(creator)
    redis_server.command("ACL", "SETUSER", "poor", "on", ">p", *redis_acl.RULES.split(), f"-{command}")
    poor = RedisKeyStore(f"redis://poor:p@127.0.0.1:{redis_server.port}/0")
    try:
        text = f"Redis does not let the user of keys.store run {command}: see the rights in deploy/README.md"
        assert await failure_of(poor.add(record, Quota(5))) == (StoreUnavailableError, text)
    finally:
        await poor.close()
        redis_server.command("ACL", "DELUSER", "poor")
    assert (await redis_store.get_by_digest(record.digest), await redis_store.get(record.id)) == (None, None)
    assert (await redis_store.owned("acme"), await redis_store.children(creator.id)) == ([creator], [])
    assert await redis_store.count_owned("acme") == 1
    await redis_store.add(record)
    assert await redis_store.children(creator.id) == [record]


async def test_an_index_of_another_type_is_a_failure_and_the_record_stays(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("DEL", f"{PREFIX}owner:acme")
    redis_server.command("LPUSH", f"{PREFIX}owner:acme", "x")
    reason = "Redis holds a value of another type under one of the gateway's names, {blnk-gateway}:*"
    expected = (StoreUnavailableError, reason)
    assert await failure_of(redis_store.revise(RECORD.id, disable)) == expected
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD


async def test_a_full_redis_applies_no_part_of_a_change_and_can_be_pruned(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(REVOKED)
    position = await redis_store.last_position()
    before = redis_server.command("KEYS", "*")
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        expected = (StoreUnavailableError, "Redis takes no change: it is out of memory (maxmemory)")
        assert await failure_of(redis_store.add(OTHER)) == expected
        assert await failure_of(redis_store.revise(RECORD.id, lambda r: replace(r, name="new"))) == expected
        assert sorted(redis_server.command("KEYS", "*").split()) == sorted(before.split())
        assert await redis_store.last_position() == position
        assert await redis_store.remove_all([REVOKED]) == [REVOKED]
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert await redis_store.get_by_digest(RECORD.digest) is None


# Connections that are lost.


async def test_a_change_whose_response_is_lost_is_uncertain_and_not_repeated(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    async with cut_after(b"EVAL", redis_server.port) as url:
        store = RedisKeyStore(url)
        with redis_server.monitored() as seen:
            failure = await failure_of(revoke_key(store, RECORD.id, revocation(AT, "master")))
            commands = commands_of_clients(seen())
        await store.close()
    assert failure == (UncertainError, "Redis closed the connection")
    assert commands.count("EVAL") == 1
    assert await redis_store.get_by_digest(RECORD.digest) == REVOKED


async def test_a_change_whose_script_was_not_sent_is_certain(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    async with cut_after(b"MGET", redis_server.port) as url:
        store = RedisKeyStore(url)
        failure = await failure_of(revoke_key(store, RECORD.id, revocation(AT, "master")))
        await store.close()
    assert failure == (StoreUnavailableError, "Redis closed the connection")
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD


async def test_a_connection_that_is_closed_before_the_script_is_not_replaced(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """redis-py would connect again, perhaps to another primary than the one that was read."""
    await redis_store.add(RECORD)

    def disable_late(record: KeyRecord) -> KeyRecord:
        with pytest.raises(StopIteration):
            redis_store.link.drop().send(None)
        return disable(record)

    with redis_server.monitored() as seen:
        failed = await failure_of(redis_store.revise(RECORD.id, disable_late))
        commands = commands_of_clients(seen())
    assert failed == (
        StoreUnavailableError,
        "the connection to Redis was closed before the command was sent",
    )
    assert "EVAL" not in commands
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD
    # The next call connects again.
    assert await redis_store.revise(RECORD.id, disable) == disable(RECORD)


class TestReplicas:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Replicated]:
        with replicated(tmp_path) as pair:
            yield pair

    async def test_a_change_whose_acknowledgement_is_lost_is_uncertain(self, pair: Replicated) -> None:
        """The change is uncertain if the connection ends between the script and the acknowledgement."""
        store = RedisKeyStore(pair.primary.url)
        await store.add(RECORD)
        async with cut_after(b"EVAL", pair.primary.port, passed=1) as url:
            cut = RedisKeyStore(url)
            with pair.replica.stalled():
                failure = await failure_of(revoke_key(cut, RECORD.id, revocation(AT, "master")))
            await cut.close()
        assert failure == (UncertainError, "Redis closed the connection")
        assert await store.get_by_digest(RECORD.digest) == REVOKED
        await store.close()

    async def test_a_primary_that_becomes_a_replica_before_the_script_applies_nothing(
        self, pair: Replicated
    ) -> None:
        store = RedisKeyStore(pair.primary.url)
        await store.add(RECORD)

        def demote(record: KeyRecord) -> KeyRecord:
            pair.replica.command("REPLICAOF", "NO", "ONE")
            pair.primary.command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
            return disable(record)

        failure = await failure_of(store.revise(RECORD.id, demote))
        assert failure == (StoreUnavailableError, "Redis has no primary that takes changes")
        await store.close()
        promoted = RedisKeyStore(pair.replica.url)
        assert await promoted.get_by_digest(RECORD.digest) == RECORD
        await promoted.close()

    async def test_a_primary_that_becomes_a_replica_after_the_script_leaves_it_uncertain(
        self, pair: Replicated
    ) -> None:
        """The change is uncertain: it may be on the new primary, or lost."""
        store = RedisKeyStore(pair.primary.url)
        await store.add(RECORD)
        with pair.replica.stalled(), pair.primary.monitored() as seen:
            revoking = asyncio.ensure_future(
                failure_of(revoke_key(store, RECORD.id, revocation(AT, "master")))
            )
            async with asyncio.timeout(5):
                while "WAIT" not in commands_of_clients(seen()):
                    await asyncio.sleep(0.01)
            pair.primary.command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
            kind, _ = await revoking
        assert kind is UncertainError
        await store.close()

    @pytest.mark.parametrize("reply", [b"-MASTERDOWN x", b"-READONLY x", b"-CLUSTERDOWN x"])
    async def test_a_peer_that_is_no_primary_when_it_responds_to_wait_leaves_the_change_uncertain(
        self, pair: Replicated, reply: bytes
    ) -> None:
        """The change was made before the peer became a replica."""
        store = RedisKeyStore(pair.primary.url)
        await store.add(RECORD)

        def altering() -> Callable[[bytes], bytes]:
            return lambda data: re.sub(rb":1\r\n\Z", reply + b"\r\n", data)

        async with altered_after(b"EVAL", pair.primary.port, altering) as url:
            altered = RedisKeyStore(url)
            kind, _ = await failure_of(revoke_key(altered, RECORD.id, revocation(AT, "master")))
            await altered.close()
        assert kind is UncertainError
        assert await store.get_by_digest(RECORD.digest) == REVOKED
        await store.close()

    async def test_a_refused_change_needs_no_acknowledgement(self, pair: Replicated) -> None:
        store = RedisKeyStore(pair.primary.url)
        await store.add(RECORD)
        with pair.replica.stalled():
            with pytest.raises(DuplicateKeyError):
                await store.add(RECORD)
            kind, reason = await failure_of(store.add(OTHER))
        assert (kind, reason) == (UnacknowledgedError, "0 of 1 replicas have acknowledged the write")
        assert await store.get_by_digest(OTHER.digest) == OTHER
        await store.close()

    async def test_changes_of_many_writers_are_all_acknowledged(self, pair: Replicated) -> None:
        """Each connection waits for the acknowledgement of its own change, and no change is lost."""
        stores = [RedisKeyStore(pair.primary.url) for _ in range(3)]
        await stores[0].add(RECORD)
        numbers = itertools.count()

        def add_scope(record: KeyRecord) -> KeyRecord:
            return replace(record, scopes=(*record.scopes, f"s{next(numbers)}"))

        for _ in range(5):
            await asyncio.gather(*(store.revise(RECORD.id, add_scope) for store in stores))
        found = await stores[0].get_by_digest(RECORD.digest)
        assert found is not None
        assert len(found.scopes) == 1 + 15
        text = pair.replica.command("GET", f"{PREFIX}key:{RECORD.digest}")
        assert all(scope.encode() in text for scope in found.scopes)
        for store in stores:
            await store.close()


class TestRights:
    @pytest.mark.parametrize(
        "script",
        [
            "return redis.call('GET', 'other')",
            "return redis.call('FLUSHALL')",
            "return redis.call('KEYS', '*')",
        ],
    )
    async def test_a_script_has_no_right_that_its_user_lacks(self, redis_url: str, script: str) -> None:
        async with Redis.from_url(redis_url) as client:
            with pytest.raises(ResponseError, match=r"ACL failure|executing the script can't"):
                await run(client, ["EVAL", script, "0"])


async def test_a_script_reports_a_read_only_redis(tmp_path: Path) -> None:
    """The failure has the same type as if a command outside a script had failed."""
    server = start_redis(tmp_path, "--min-replicas-to-write", "1")
    store = RedisKeyStore(server.url)
    try:
        expected = "Redis takes no change: too few of its replicas are well (min-replicas-to-write)"
        assert await failure_of(store.add(RECORD)) == (StoreUnavailableError, expected)
        assert await store.get_by_digest(RECORD.digest) is None
    finally:
        await store.close()
        server.kill()
