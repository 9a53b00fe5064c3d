"""The store in Redis: names, round trips, the change feed, and every way in which Redis can fail."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.errors import StoreUnavailableError, UncertainError
from gateway.keys.minting import digest
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import encode_record
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.reading import BatchReader, Readable
from gateway.keys.redis.store import KeptEntries, RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyChange, KeyChangeBatch
from gateway.proxy.errors import code_of
from tests.keys.mute import mute_after
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, instant, revocation
from tests.redis_server import RedisServer, commands_of_clients, commands_of_scripts, start_redis

pytestmark = pytest.mark.redis

Call = Callable[[RedisKeyStore], Awaitable[object]]

CALLS: dict[str, Call] = {
    "find": lambda store: store.get_by_digest(RECORD.digest),
    "get": lambda store: store.get(RECORD.id),
    "add": lambda store: store.add(RECORD),
    "revoke": lambda store: revoke_key(store, RECORD.id, revocation("2026-02-01T00:00:00Z", "master")),
    "owned": lambda store: store.owned("acme"),
    "revise": lambda store: store.revise(
        RECORD.id, lambda record: record.as_disabled(RECORD.created_at, "master")
    ),
    "offspring": lambda store: store.children(RECORD.id),
    "every": lambda store: anext(store.scan()),
    "add_all": lambda store: store.add_all([RECORD, OTHER]),
    "prefixed": lambda store: store.get_by_prefix("AAAAAAAAAAAAAAAA"),
    "settle": lambda store: store.bind_digest(RECORD.id, OTHER.digest),
    "used": lambda store: store.record_uses({RECORD.id: 1.0}),
    "empty": lambda store: store.is_empty(),
    "ping": lambda store: store.ping(),
    "last_position": lambda store: store.last_position(),
    "changes": lambda store: store.changes("0-0", 0.05),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


async def assert_unavailable(call: Awaitable[object]) -> BaseException | None:
    """Check that a call fails within its limit because the store is down; return the cause."""
    began = time.monotonic()
    with pytest.raises(GatewayError) as failure:
        await call
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert str(failure.value) == "Key store unavailable"
    assert time.monotonic() - began < 3
    return failure.value.__cause__


async def test_every_name_is_under_one_prefix(redis_store: RedisKeyStore, redis_server: RedisServer) -> None:
    await redis_store.add(RECORD)
    names = re.findall(rb"\r\n([^$*\r\n][^\r\n]*)", redis_server.command("KEYS", "*"))
    assert sorted(name.decode() for name in names) == [
        f"{PREFIX}audit",
        f"{PREFIX}audit-counts",
        f"{PREFIX}changes",
        f"{PREFIX}ends:acme",
        f"{PREFIX}id:{RECORD.id}",
        f"{PREFIX}key:{RECORD.digest}",
        f"{PREFIX}owner:acme",
    ]


async def test_a_look_up_is_one_round_trip(redis_store: RedisKeyStore, redis_server: RedisServer) -> None:
    await redis_store.add(RECORD)
    # The first look-up connects.
    await redis_store.get_by_digest(OTHER.digest)
    redis_server.command("CONFIG", "RESETSTAT")
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD
    counted = redis_server.command("INFO", "commandstats")
    calls = {name: int(count) for name, count in re.findall(rb"cmdstat_([^:]+):calls=(\d+)", counted)}
    calls.pop(b"config|resetstat")
    assert calls == {b"mget": 1}


async def test_a_list_of_many_batches_is_complete(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    text = redis_server.command("GET", f"{PREFIX}key:{RECORD.digest}").split(b"\r\n", 1)[1][:-2]
    for number in range(1200):
        digest = f"{number:064x}"
        redis_server.command(
            "SET", f"{PREFIX}key:{digest}", text.replace(RECORD.digest.encode(), digest.encode())
        )
        redis_server.command("ZADD", f"{PREFIX}owner:acme", "1", digest)
    assert len(await redis_store.owned("acme")) == 1201


async def test_the_record_and_not_the_index_names_the_owner_of_a_key(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(GLOBEX)
    redis_server.command("ZADD", f"{PREFIX}owner:acme", "1", GLOBEX.digest, "2", "0" * 64)
    assert await redis_store.owned("acme") == []


async def test_an_index_without_its_record_finds_nothing(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("DEL", f"{PREFIX}key:{RECORD.digest}")
    assert await redis_store.get(RECORD.id) is None
    assert await revoke_key(redis_store, RECORD.id, revocation("2026-02-01T00:00:00Z", "master")) is None


# As a newer version might write it.
NEWER_TERM = encode_record(RECORD).decode().removesuffix("}") + ',"terms":{"newer":1}}'


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "{}", '{"id":1}', b"\xff", NEWER_TERM, '{"x":' + "[" * 100_000],
    ids=["empty", "cut", "null", "bare", "id alone", "no UTF-8", "a newer term", "nested"],
)
async def test_a_record_that_cannot_be_read_is_a_failure(
    redis_store: RedisKeyStore, redis_server: RedisServer, text: str | bytes
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("SET", f"{PREFIX}key:{RECORD.digest}", text)
    for name in ("find", "get", "add", "revoke", "owned", "revise", "every", "add_all"):
        await assert_unavailable(CALLS[name](redis_store))


async def test_a_record_under_the_digest_of_another_key_is_a_failure(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("RENAME", f"{PREFIX}key:{RECORD.digest}", f"{PREFIX}key:{OTHER.digest}")
    await assert_unavailable(redis_store.get_by_digest(OTHER.digest))


async def test_a_name_of_another_type_is_an_unknown_key(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """MGET returns nothing for such a name, so its key is unknown."""
    redis_server.command("LPUSH", f"{PREFIX}owner:acme", "x")
    redis_server.command("LPUSH", f"{PREFIX}key:{RECORD.digest}", "x")
    assert await redis_store.get_by_digest(RECORD.digest) is None
    await assert_unavailable(redis_store.owned("acme"))


async def test_a_write_that_other_writers_keep_overtaking_is_a_failure(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    text = redis_server.command("GET", f"{PREFIX}key:{RECORD.digest}").split(b"\r\n", 1)[1][:-2]
    done = asyncio.Event()

    def overtake() -> None:
        while not done.is_set():
            redis_server.command("SET", f"{PREFIX}key:{RECORD.digest}", text)

    # A write can succeed between two others, so either it is done or it fails.
    others = [asyncio.create_task(asyncio.to_thread(overtake)) for _ in range(4)]
    try:
        revoked = await revoke_key(redis_store, RECORD.id, revocation("2026-02-01T00:00:00Z", "master"))
        assert revoked is not None
        assert revoked.revocation == revocation("2026-02-01T00:00:00Z", "master")
    except GatewayError as failure:
        assert code_of(failure) is Code.KEY_STORE_UNAVAILABLE  # noqa: PT017
    finally:
        done.set()
        await asyncio.gather(*others)


async def test_a_stream_that_is_trimmed_beyond_the_position_is_a_gap(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    start = await redis_store.last_position()
    await redis_store.add(OTHER)
    await redis_store.add(GLOBEX)
    redis_server.command("XTRIM", f"{PREFIX}changes", "MAXLEN", "1")
    last = KeyChange(GLOBEX.digest, GLOBEX.id, revoked=False)
    end = await redis_store.last_position()
    assert await redis_store.changes(start, 0.05) == KeyChangeBatch(end, (last,), continuous=False)
    assert await redis_store.changes(end, 0.05) == KeyChangeBatch(end)


async def test_a_stream_that_is_gone_is_a_gap_once(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    start = await redis_store.last_position()
    redis_server.command("FLUSHALL")
    assert await redis_store.changes(start, 0.05) == KeyChangeBatch("0-0", continuous=False)
    assert await redis_store.changes("0-0", 0.05) == KeyChangeBatch("0-0")


async def test_a_stream_that_ends_before_the_position_is_a_gap(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    redis_server.command("XADD", f"{PREFIX}changes", "5-0", "digest", "d", "id", "i", "revoked", "0")
    assert await redis_store.changes("9-0", 0.05) == KeyChangeBatch("5-0", continuous=False)


async def test_an_entry_that_cannot_be_read_is_a_gap(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    for number, fields in ((1, ("x", "y")), (2, ("digest", "d", "id", "i", "revoked", "1"))):
        redis_server.command("XADD", f"{PREFIX}changes", f"{number}-0", *fields)
    expected = KeyChangeBatch("2-0", (KeyChange("d", "i", revoked=True),), continuous=False)
    assert await redis_store.changes("1-0", 0.05) == KeyChangeBatch("2-0", expected.changes)
    assert await redis_store.changes("0-1", 0.05) == expected


async def test_the_length_of_the_stream_is_limited(redis_url: str, redis_server: RedisServer) -> None:
    store = RedisKeyStore(redis_url, kept=KeptEntries(changes=1))
    for number in range(300):
        redis_server.command("XADD", f"{PREFIX}changes", "*", "number", str(number))
    await store.add(RECORD)
    length = int(redis_server.command("XLEN", f"{PREFIX}changes")[1:-2])
    await store.close()
    # Redis trims a stream by whole nodes of 100 entries.
    assert length <= 101


@every_call
async def test_a_refused_connection_is_a_failure(call: Call, unused_tcp_port: int) -> None:
    store = RedisKeyStore(f"redis://:secret-password@127.0.0.1:{unused_tcp_port}/0")
    cause = await assert_unavailable(call(store))
    assert "secret-password" not in repr(cause)
    await store.close()


@every_call
@pytest.mark.parametrize(
    "response", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*2\r\n:1\r\n", b"-ERR unknown command\r\n" * 5]
)
async def test_a_peer_that_is_no_redis_is_a_failure(call: Call, response: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        store = RedisKeyStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            await assert_unavailable(call(store))
        finally:
            await store.close()


async def test_a_server_that_does_not_answer_is_a_failure_in_time_and_recovers(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    with redis_server.stalled():
        failures = [assert_unavailable(call(redis_store)) for call in CALLS.values()]
        await asyncio.gather(*failures)
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD


async def test_a_wrong_password_is_a_failure_that_does_not_repeat_it(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    store = RedisKeyStore(f"redis://blnk-gateway:secret-password@127.0.0.1:{server.port}")
    try:
        cause = await assert_unavailable(store.ping())
        assert "secret-password" not in repr(cause)
    finally:
        await store.close()
        server.kill()


async def test_a_restart_costs_no_request_after_it(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--appendonly", "yes")
    store = RedisKeyStore(server.url)
    try:
        await store.add(RECORD)
        server.kill()
        await assert_unavailable(store.get_by_digest(RECORD.digest))
        server = start_redis(tmp_path, "--appendonly", "yes", port=server.port)
        assert await store.get_by_digest(RECORD.digest) == RECORD
    finally:
        await store.close()
        server.kill()


@pytest.mark.parametrize("url", ["http://:secret@h", "redis://:secret@host:port", "redis://:se[cret@h", ""])
def test_a_url_of_something_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^write ") as failure:
        RedisKeyStore(url)
    assert "cret" not in str(failure.value)
    assert failure.value.__context__ is None or failure.value.__suppress_context__


async def test_more_changes_than_one_read_holds_come_in_order(redis_store: RedisKeyStore) -> None:
    """Changes beyond one read come in order, and only the last read says that no change is left."""
    start = await redis_store.last_position()
    many = [replace(RECORD, id=f"{RECORD.id[:-4]}{n:04}", digest=f"{n:064x}") for n in range(1001)]
    await redis_store.add_all(many)
    first = await redis_store.changes(start, 0.05)
    second = await redis_store.changes(first.position, 0.05)
    assert (len(first.changes), first.whole, len(second.changes), second.whole) == (1000, False, 1, True)
    assert [change.digest for change in first.changes + second.changes] == [r.digest for r in many]
    # Whether entries before the first one were trimmed is unknown.
    assert (first.continuous, second.continuous) == (False, True)


async def test_a_position_that_is_no_longer_there_is_a_gap(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """A stream without the position is another stream, whatever entries it has around it."""
    await redis_store.add(RECORD)
    await redis_store.add(OTHER)
    first, second = (await redis_store.changes("0-0", 0.05)).position, await redis_store.last_position()
    assert first == second
    redis_server.command("XDEL", f"{PREFIX}changes", second)
    assert not (await redis_store.changes(second, 0.05)).continuous


async def test_a_record_that_gets_its_digest_while_it_is_read_is_found(redis_store: RedisKeyStore) -> None:
    """A record is found though its digest changes between the reads of the index and of the record."""

    class Settling(BatchReader):
        settled = False

        async def read(self, digests: Sequence[str]) -> dict[str, Readable]:
            if not self.settled:
                self.settled = True
                await redis_store.bind_digest(PENDING.id, digest("fourth"))
            return await super().read(digests)

    await redis_store.add_all([PENDING, RECORD])
    found = await Settling(redis_store.link.lists).get_many([RECORD.id, PENDING.id, OTHER.id])
    assert [(record.id, record.pending) for record in found] == [(RECORD.id, False), (PENDING.id, False)]


async def test_only_a_revocation_has_a_time_in_the_change_feed(redis_store: RedisKeyStore) -> None:
    """Imported revocations have no time in the feed, because the lag of revocations is measured by it."""
    start = await redis_store.last_position()
    await redis_store.add_all([RECORD.as_revoked(revocation("2020-01-01T00:00:00Z", "master")), PENDING])
    before = time.time()
    await revoke_key(redis_store, PENDING.id, revocation("2026-02-01T00:00:00Z", "master"))
    await redis_store.bind_digest(PENDING.id, digest("fourth"))
    imported, added, revoked, settled = (await redis_store.changes(start, 0.05)).changes
    assert [change.revoked for change in (imported, added, revoked, settled)] == [True, False, True, True]
    assert [change.at for change in (imported, added, settled)] == [None, None, None]
    assert revoked.at is not None
    assert abs(revoked.at - before) < 5


async def test_a_change_during_a_lost_connection_is_not_overwritten(
    redis_store: RedisKeyStore, redis_url: str
) -> None:
    """If the connection is lost between read and write, a revocation by another gateway meanwhile stays."""
    await redis_store.add(RECORD)

    async def revoke() -> None:
        other = RedisKeyStore(redis_url)
        await revoke_key(other, RECORD.id, revocation("2026-02-01T00:00:00Z", "master"))
        await other.close()

    def disable_late(record: KeyRecord) -> KeyRecord:
        with pytest.raises(StopIteration):
            redis_store.link.drop().send(None)
        with ThreadPoolExecutor() as elsewhere:
            elsewhere.submit(asyncio.run, revoke()).result()
        return record.as_disabled(instant("2026-02-01T00:00:00Z"), "master")

    await assert_unavailable(redis_store.revise(RECORD.id, disable_late))
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD.as_revoked(
        revocation("2026-02-01T00:00:00Z", "master")
    )


class TestUncertain:
    """In these tests, the response to a change is lost, but the change was made."""

    @pytest.fixture
    async def mute(self, redis_url: str) -> AsyncIterator[RedisKeyStore]:
        with mute_after(b"EVAL", redis_url) as url:
            store = RedisKeyStore(url)
            yield store
            await store.close()

    async def test_a_new_record_may_be_stored(self, mute: RedisKeyStore, redis_store: RedisKeyStore) -> None:
        with pytest.raises(UncertainError) as failure:
            await mute.add(RECORD)
        assert failure.value.reason == "Redis does not answer in time"
        assert await redis_store.get_by_digest(RECORD.digest) == RECORD

    async def test_a_revocation_may_be_stored(self, mute: RedisKeyStore, redis_store: RedisKeyStore) -> None:
        await redis_store.add(RECORD)
        with pytest.raises(UncertainError):
            await revoke_key(mute, RECORD.id, revocation("2026-02-01T00:00:00Z", "master"))
        assert await redis_store.get_by_digest(RECORD.digest) == RECORD.as_revoked(
            revocation("2026-02-01T00:00:00Z", "master")
        )

    async def test_a_change_that_redis_has_confirmed_is_certain(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        """The script is the last command, so nothing can fail after it."""
        with redis_server.monitored() as seen:
            await redis_store.add(RECORD)
            commands = commands_of_clients(seen())
        assert commands[-1] == "EVAL"

    async def test_a_change_that_was_never_sent_is_certain(self, redis_url: str) -> None:
        with mute_after(b"MGET", redis_url) as url:
            store = RedisKeyStore(url)
            with pytest.raises(GatewayError) as failure:
                await store.add(RECORD)
            await store.close()
        assert type(failure.value) is StoreUnavailableError

    async def test_a_change_that_redis_refused_is_certain(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(GatewayError) as failure:
                await redis_store.add(RECORD)
        finally:
            redis_server.command("CONFIG", "SET", "maxmemory", "0")
        assert type(failure.value) is StoreUnavailableError
        assert await redis_store.get_by_digest(RECORD.digest) is None


async def test_writes_that_time_out_keep_no_connection(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """After more failed writes than there are connections, the next command is served at once."""
    await redis_store.add(RECORD)

    async def write(number: int) -> float:
        began = time.monotonic()
        with pytest.raises(GatewayError):
            await redis_store.add(replace(OTHER, id=f"{OTHER.id[:-2]}{number:02}", digest=f"{number:064x}"))
        return time.monotonic() - began

    with redis_server.stalled():
        took = await asyncio.gather(*(write(number) for number in range(40)))
    assert max(took) < 2
    began = time.monotonic()
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD
    await redis_store.add(OTHER)
    assert time.monotonic() - began < 1


async def test_a_peer_that_accepts_connections_and_sends_nothing_blocks_no_call(unused_tcp_port: int) -> None:
    """Calls fail in time though the login on every connection never ends."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", unused_tcp_port)
    store = RedisKeyStore(f"redis://u:p@127.0.0.1:{unused_tcp_port}/0")
    began = time.monotonic()
    for _ in range(2):
        outcomes = await asyncio.gather(*(store.add(RECORD) for _ in range(16)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
    assert time.monotonic() - began < 4
    await store.close()
    server.close()


async def test_a_batch_and_its_indexes_are_one_script(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """One script compares and writes the whole batch, the records last, so no import is done by half."""
    with redis_server.monitored() as seen:
        await redis_store.add_all([RECORD, PENDING])
        lines = seen()
    assert commands_of_clients(lines).count("EVAL") == 1
    indexes, audit = [*["ZADD"] * 4, "SADD"], ["XADD", "XADD", "ZADD"]
    written = [*indexes, "XADD", "XADD", *audit, *["SET"] * 4]
    assert commands_of_scripts(lines) == [*["MGET", "GET"] * 4, *written]


async def test_last_uses_are_one_command(redis_store: RedisKeyStore, redis_server: RedisServer) -> None:
    with redis_server.monitored() as seen:
        await redis_store.record_uses({f"api_key_{number}": 1.0 for number in range(1000)})
        lines = [line for line in seen() if "zadd" in line.lower()]
    assert len(lines) == 1


async def test_a_wrong_entry_in_an_index_is_ignored(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("SADD", f"{PREFIX}offspring:{OTHER.id}", RECORD.id, "gone")
    redis_server.command("SADD", f"{PREFIX}prefix:AAAAAAAAAAAAAAAA", RECORD.id)
    assert await redis_store.children(OTHER.id) == []
    assert await redis_store.get_by_prefix("AAAAAAAAAAAAAAAA") == []


async def test_an_id_whose_record_is_gone_is_stored_again(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("DEL", f"{PREFIX}key:{RECORD.digest}")
    assert await redis_store.add_all([RECORD]) == [None]
    assert await redis_store.get_by_digest(RECORD.digest) == RECORD


async def test_a_cancelled_call_ends_at_any_moment(redis_url: str) -> None:
    """A call ends when it is cancelled at any moment; otherwise it would keep a gateway from stopping."""
    unfinished = 0
    for turns in range(60):
        store = RedisKeyStore(redis_url)
        call = asyncio.create_task(store.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        unfinished += call.cancel()
        await asyncio.wait({call})
        unfinished -= call.cancelled()
        await store.close()
    assert unfinished == 0
