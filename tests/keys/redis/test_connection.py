"""Connections that find the primary of every kind of Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.crc import key_slot

from gateway.errors import Code, GatewayError
from gateway.keys.record import KeyRecord
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.proxy.errors import code_of
from tests import redis_acl
from tests.keys.records import OTHER, RECORD, revocation
from tests.keys.redis_setups import (
    SERVICE,
    Cluster,
    Replicated,
    Sentinels,
    certificates,
    cluster,
    replica_of,
    replicated,
    sentinels,
    until,
)
from tests.redis_server import RedisServer, commands_of_clients, free_port, start_redis
from tests.running import ROOT

AT = "2026-02-01T00:00:00Z"
REVOKED = RECORD.as_revoked(revocation(AT, "master"))
SLOT = key_slot(PREFIX.encode())


def test_the_documented_rights_are_those_of_the_tests() -> None:
    """The tests use the same ACL line that operators copy from the documentation."""
    line = f"ACL SETUSER {redis_acl.USER} on >PASSWORD {redis_acl.RULES}"
    assert line in (ROOT / "deploy/README.md").read_text()


@asynccontextmanager
async def opened(url: str, replicas: int = 0) -> AsyncIterator[RedisKeyStore]:
    store = RedisKeyStore(url, replicas=replicas)
    try:
        yield store
    finally:
        await store.close()


async def answers(store: RedisKeyStore) -> None:
    """Wait until the store responds; a call fails at once while Redis is away."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.ping()
            except GatewayError:
                await asyncio.sleep(0.02)


async def assert_down(store: RedisKeyStore) -> str:
    """Check that the store fails, and return the reason."""
    with pytest.raises(GatewayError) as failure:
        await store.ping()
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    return str(failure.value.__cause__)


@pytest.mark.redis
class TestSingle:
    async def test_the_documented_user_can_do_nothing_else(self, redis_server: RedisServer) -> None:
        """The user cannot read other names, nor change a setting, nor load a script."""
        async with opened(redis_server.url) as store:
            for words in (
                ["GET", "other"],
                ["FLUSHALL"],
                ["CONFIG", "SET", "save", ""],
                ["EVAL", "return redis.call('GET', 'other')", "0"],
                ["SCRIPT", "LOAD", "return 1"],
                ["WATCH", PREFIX],
            ):
                with pytest.raises(Exception, match=r"permissions|NOPERM|ACL|executing the script can't"):
                    await store.link.changes.execute_command(*words)

    async def test_a_replica_is_refused(self, tmp_path: Path) -> None:
        """A replica could lag behind for ever and report no failure."""
        with replicated(tmp_path) as pair:
            async with opened(pair.replica.url) as store:
                assert (
                    await assert_down(store)
                    == "the Redis that answers is a replica: name its primary, or its Sentinels"
                )

    async def test_a_primary_that_becomes_a_replica_is_refused(self, tmp_path: Path) -> None:
        """Each read of the changes checks the role, so this is noticed without a write."""
        with replicated(tmp_path) as pair:
            async with opened(pair.primary.url) as store:
                await store.add(RECORD)
                position = await store.last_position()
                pair.primary.command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
                # The first call may fail only because its read was cut off.
                for _ in range(2):
                    with pytest.raises(GatewayError):
                        await store.changes(position, 0.05)
                assert (
                    await assert_down(store)
                    == "the Redis that answers is a replica: name its primary, or its Sentinels"
                )

    async def test_tls_verifies_the_certificate(self, tmp_path: Path) -> None:
        made, port = certificates(tmp_path), free_port()
        server = start_redis(tmp_path, *made.options(port))
        url = redis_acl.url(f"127.0.0.1:{port}", scheme="rediss")
        try:
            async with opened(f"{url}?ssl_ca_certs={made.authority}") as store:
                await store.add(RECORD)
                assert await store.get_by_digest(RECORD.digest) == RECORD
            async with opened(url) as store:
                assert "certificate verify failed" in (await assert_down(store)).lower()
            other = redis_acl.url(f"localhost:{port}", scheme="rediss")
            async with opened(f"{other}?ssl_ca_certs={made.authority}") as store:
                assert "certificate" in (await assert_down(store)).lower()
        finally:
            server.kill()


async def revoked_during(
    event: Coroutine[None, None, None], store: RedisKeyStore, records: Sequence[KeyRecord]
) -> list[KeyRecord]:
    """Revoke records, four at a time, during `event`; return those whose revocation was acknowledged."""
    acknowledged: list[KeyRecord] = []

    async def revoke(some: Sequence[KeyRecord]) -> None:
        for record in some:
            with contextlib.suppress(GatewayError):
                await revoke_key(store, record.id, revocation(AT, "master"))
                acknowledged.append(record)

    async def follow() -> None:
        position = await store.last_position()
        while True:
            with contextlib.suppress(GatewayError):
                position = (await store.changes(position, 0.05)).position

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        working = [group.create_task(revoke(records[number::4])) for number in range(4)]
        await event
        await asyncio.gather(*working)
        following.cancel()
    return acknowledged


@pytest.mark.redis
class TestReplicas:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Replicated]:
        with replicated(tmp_path) as pair:
            yield pair

    async def test_a_revocation_is_on_the_replica_when_it_is_done(self, pair: Replicated) -> None:
        async with opened(pair.primary.url) as store:
            await store.add(RECORD)
            assert await revoke_key(store, RECORD.id, revocation(AT, "master")) == REVOKED
            assert b'"revoked_at":"2026' in pair.replica.command("GET", f"{PREFIX}key:{RECORD.digest}")

    async def test_a_revocation_that_a_connected_replica_does_not_acknowledge_is_a_failure(
        self, pair: Replicated
    ) -> None:
        async with opened(pair.primary.url) as store:
            await store.add(RECORD)
            with pair.replica.stalled():
                # The second call finds the record revoked, and still needs the acknowledgement.
                for _ in range(2):
                    with pytest.raises(GatewayError) as failure:
                        await revoke_key(store, RECORD.id, revocation(AT, "master"))
                    assert str(failure.value.__cause__) == "0 of 1 replicas have acknowledged the write"
            assert await revoke_key(store, RECORD.id, revocation(AT, "master")) == REVOKED

    async def test_as_many_replicas_as_are_configured_must_acknowledge(self, pair: Replicated) -> None:
        async with opened(pair.primary.url, replicas=2) as store:
            with pytest.raises(GatewayError) as failure:
                await store.add(RECORD)
            assert str(failure.value.__cause__) == "1 of 2 replicas have acknowledged the write"

    async def test_wait_is_sent_on_the_connection_that_wrote(self, pair: Replicated) -> None:
        """WAIT on another connection would wait for no write."""
        async with opened(pair.primary.url) as store:
            await store.add(RECORD)
            with pair.primary.monitored() as seen:
                await revoke_key(store, RECORD.id, revocation(AT, "master"))
                lines = [line for line in seen() if '"EVAL"' in line or '"WAIT"' in line]
            assert commands_of_clients(lines) == ["EVAL", "WAIT"]
            assert '"WAIT" "1"' in lines[1]
            assert len({line.split("[")[1].split("]")[0] for line in lines}) == 1


@pytest.mark.redis
class TestSentinel:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Iterator[Replicated]:
        with replicated(tmp_path) as pair:
            yield pair

    @pytest.fixture
    def watching(self, tmp_path: Path, pair: Replicated) -> Iterator[Sentinels]:
        with sentinels(tmp_path, pair.primary.port) as watching:
            yield watching

    async def test_an_acknowledged_revocation_survives_the_primary(
        self, pair: Replicated, watching: Sentinels
    ) -> None:
        async with opened(watching.url) as store:
            await store.add(RECORD)
            await revoke_key(store, RECORD.id, revocation(AT, "master"))
            position = await store.last_position()
            pair.primary.kill()
            await asyncio.to_thread(until, pair.promoted, "a promotion")
            await answers(store)
            assert await store.get_by_digest(RECORD.digest) == REVOKED
            assert (await store.changes(position, 0.05)).continuous
            await store.add(OTHER)

    async def test_a_planned_failover_loses_no_acknowledged_revocation(
        self, pair: Replicated, tmp_path: Path
    ) -> None:
        """The promoted replica disconnects before the Sentinels name it, so one replica is left till then."""
        others = [replace(RECORD, id=f"{RECORD.id[:-4]}{n:04}", digest=f"{n:064x}") for n in range(3000)]

        async def fail_over() -> None:
            await asyncio.sleep(0.3)
            watching.servers[0].command("SENTINEL", "FAILOVER", SERVICE)
            promoted = [Replicated(pair.primary, each).promoted for each in (pair.replica, second)]
            await asyncio.to_thread(until, lambda: any(asked() for asked in promoted), "a promotion")

        with replica_of(tmp_path / "second", pair.primary) as second:
            connected = b"connected_slaves:2"
            until(lambda: connected in pair.primary.command("INFO", "replication"), "a second replica")
            with sentinels(tmp_path, pair.primary.port, replicas=2) as watching:
                async with opened(watching.url) as store:
                    await store.add_all(others)
                    acknowledged = await revoked_during(fail_over(), store, others)
                    await answers(store)
                    kept = await store.get_many([record.id for record in acknowledged])
        assert acknowledged
        assert [record.id for record in kept if not record.revoked] == []

    async def test_a_primary_that_was_replaced_is_not_read_when_it_comes_back(
        self, pair: Replicated, watching: Sentinels
    ) -> None:
        """Such a primary does not know that it was replaced, and would report a revoked key as live."""
        async with opened(watching.url) as reader, opened(watching.url) as writer:
            await reader.add(RECORD)
            position = await reader.last_position()
            assert await reader.get_by_digest(RECORD.digest) == RECORD
            with pair.primary.stalled():
                await asyncio.to_thread(until, lambda: watching.name(pair.replica.port), "a promotion")
                await answers(writer)
                await revoke_key(writer, RECORD.id, revocation(AT, "master"))
                with pytest.raises(GatewayError):
                    await reader.changes(position, 0.05)
            # The old connections of `reader` to this primary work again now.
            assert await reader.get_by_digest(RECORD.digest) == REVOKED

    async def test_a_sentinel_in_the_place_of_a_redis_is_reported_as_one(self, watching: Sentinels) -> None:
        async with opened(f"redis://127.0.0.1:{watching.ports[0]}/0") as store:
            expected = "what answers is a Sentinel: write redis+sentinel://host:port/NAME/0"
            assert await assert_down(store) == expected

    async def test_without_a_sentinel_the_link_is_not_proven_but_the_primary_is_asked(
        self, pair: Replicated, watching: Sentinels
    ) -> None:
        async with opened(watching.url) as store:
            await store.add(RECORD)
            # This connection stays open, because without a Sentinel none can be opened later.
            assert await store.get_by_digest(RECORD.digest) == RECORD
            position = await store.last_position()
            await store.changes(position, 0.05)
            for server in watching.servers:
                server.kill()
            with pytest.raises(GatewayError):
                await store.changes(position, 0.05)
            assert await store.get_by_digest(RECORD.digest) == RECORD

    async def test_sentinels_that_are_away_cause_no_failure(
        self, pair: Replicated, watching: Sentinels
    ) -> None:
        watching.servers[0].kill()
        with watching.servers[1].stalled():
            async with opened(watching.url) as store:
                await store.add(RECORD)
                position = await store.last_position()
                assert (await store.changes(position, 0.05)).continuous


@pytest.mark.redis
class TestCluster:
    @pytest.fixture
    def nodes(self, tmp_path: Path) -> Iterator[Cluster]:
        with cluster(tmp_path, SLOT) as nodes:
            yield nodes

    async def test_all_names_are_in_one_slot(self, nodes: Cluster) -> None:
        """Records, indexes and changes have one slot, so that one script can write them."""
        async with opened(nodes.url) as store:
            await store.add(RECORD)
            position = await store.last_position()
            await revoke_key(store, RECORD.id, revocation(AT, "master"))
            assert await store.get_by_digest(RECORD.digest) == REVOKED
            assert await store.owned("acme") == [REVOKED]
            assert len((await store.changes(position, 0.05)).changes) == 1
            assert [record async for batch in store.scan() for record in batch] == [REVOKED]
        assert b"keys=" not in nodes.other.command("INFO", "keyspace")

    async def test_a_failover_is_followed(self, nodes: Cluster) -> None:
        async with opened(nodes.url) as store:
            await store.add(RECORD)
            await asyncio.to_thread(nodes.fail_over)
            await answers(store)

            async def revoked() -> bool:
                try:
                    return await revoke_key(store, RECORD.id, revocation(AT, "master")) == REVOKED
                except GatewayError:
                    return False

            async with asyncio.timeout(20):
                while not await revoked():
                    await asyncio.sleep(0.02)
            assert b'"revoked_at":"2026' in nodes.replica.command("GET", f"{PREFIX}key:{RECORD.digest}")

    async def test_a_configured_node_may_go_away(self, nodes: Cluster) -> None:
        """Configured nodes may go away once the other nodes are known."""
        async with opened(nodes.url) as store:
            await store.add(RECORD)
            await store.link.find()
            nodes.other.process.kill()
            assert await store.link.find() == ("127.0.0.1", nodes.ours.port)
