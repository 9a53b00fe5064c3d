"""Core's master key is changed while the gateway serves: no request fails, and none is applied twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Code
from gateway.proxy.core_access import CoreAccess, MasterKey
from gateway.proxy.core_client import CoreClient
from gateway.proxy.errors import UpstreamRefusedError
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits
from tests.conftest import Start
from tests.core_stand_in import Behaviour, Request, StandInCore, delayed, refuse, responding
from tests.raw_client import RawClient, Response, request
from tests.running import MASTER_KEY, Running, eventually
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error

NEXT_KEY = "mk-next-2b8e4f60a1d7-of-the-tests"
THIRD_KEY = "mk-third-77c0d9e1b5a2-of-the-tests"
LARGE = b"x" * (1 << 18)
"""A body that streams if it comes in two parts: more than 64 KiB, on a route without a stamp."""


class ReplicatedCore(StandInCore):
    """A Core of several replicas behind one address, each with a master key of its own.

    A balancer gives the replicas requests in turn, or with `by_connection` connections in turn.
    """

    def __init__(self) -> None:
        super().__init__(MASTER_KEY)
        self.keys = [MASTER_KEY]
        self.by_connection = False
        self.accepted: list[Request] = []
        self._turn = 0

    def behaviour_for(self, request: Request) -> Behaviour:
        self._turn += 1
        turn = self._connection_of(request) if self.by_connection else self._turn
        self.master_key = self.keys[turn % len(self.keys)]
        behaviour = super().behaviour_for(request)
        if behaviour is not refuse and not request.is_probe:
            self.accepted.append(request)
        return behaviour

    def _connection_of(self, request: Request) -> int:
        for number, connection in enumerate(self.connections):
            if connection.requests and connection.requests[-1] is request:
                return number
        return self._turn


@dataclass
class Load:
    """A client that sends the same round of requests until it is stopped, and keeps what was not 200."""

    client: RawClient
    key: str
    wrong: list[tuple[str, int]] = field(default_factory=list)
    sent: int = 0
    over: bool = False

    async def run(self) -> None:
        while not self.over:
            await self._ask("GET", READ)
            await self._ask("POST", STAMPED, body=b'{"name":"a"}')
            await self._ask("POST", STREAMED, body=b"{}")
            await self._ask("DELETE", "/hooks/1", key=MASTER_KEY)

    async def _ask(self, method: str, target: str, **more: Any) -> None:
        self.sent += 1
        response = await self.client.ask(method, target, **{"key": self.key, **more})
        if response.status != 200:
            self.wrong.append((f"{method} {target}", response.status))


@dataclass
class Files:
    """The files of the master key and of the next one."""

    current: Path
    following: Path

    @property
    def settings(self) -> dict[str, Path]:
        return {"master_key_file": self.current, "master_key_next_file": self.following}


@pytest.fixture
async def upstream() -> AsyncIterator[ReplicatedCore]:
    core = ReplicatedCore()
    async with core:
        yield core


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The file of the master key; the one of the next key is absent."""
    files = Files(tmp_path / "key", tmp_path / "next")
    files.current.write_text(MASTER_KEY, encoding="ascii")
    return files


@pytest.fixture
async def changing(start_gateway: Start, files: Files) -> Running:
    """A gateway that knows the next master key from its start on."""
    files.following.write_text(NEXT_KEY, encoding="ascii")
    return await started(start_gateway, files)


async def started(start_gateway: Start, files: Files) -> Running:
    running = await start_gateway(upstream=files.settings)
    running.secrets |= {NEXT_KEY, THIRD_KEY}
    return running


async def loads_on(running: Running, count: int) -> list[Load]:
    loads = []
    for _ in range(count):
        key = await running.mint("ledgers:read", "ledgers:write")
        loads.append(Load(await running.connect(), key.key))
    return loads


async def each_goes_on(loads: list[Load]) -> None:
    """Wait until every client has sent thirty more requests."""
    before = [load.sent for load in loads]
    await eventually(
        lambda: all(load.sent >= sent + 30 for load, sent in zip(loads, before, strict=True)),
        "thirty more requests",
    )


async def streamed(running: Running, key: str, core: StandInCore, target: str) -> Response:
    """Send LARGE in two parts, the second once Core has got a request for `target`."""
    core.take()
    data = request("POST", STREAMED, key=key, body=LARGE)
    client = await running.connect()
    await client.send(data[: len(data) // 2])
    await eventually(lambda: target in core.targets, f"a request for {target}")
    return await client.call(data[len(data) // 2 :])


async def test_the_steps_of_the_operating_guide_cost_no_request(
    start_gateway: Start, upstream: ReplicatedCore, files: Files
) -> None:
    """The steps of the operating guide cost no request, and each request is applied once."""
    running = await started(start_gateway, files)
    loads = await loads_on(running, 4)
    tasks = [asyncio.create_task(load.run()) for load in loads]
    files.following.write_text(NEXT_KEY + "\n", encoding="ascii")
    await running.logged("two master keys are known")
    assert (await running.ask("GET", "/hooks", key=NEXT_KEY)).status == 200
    await each_goes_on(loads)
    upstream.keys = [NEXT_KEY]
    await each_goes_on(loads)
    await running.logged("core accepts another master key")
    for load in loads:
        load.over = True
    await asyncio.gather(*tasks)
    files.current.write_text(NEXT_KEY, encoding="ascii")
    files.following.write_text("", encoding="ascii")
    await running.logged("one master key is known")
    assert [load.wrong for load in loads] == [[], [], [], []]
    assert len(upstream.accepted) == sum(load.sent for load in loads) + 1
    assert (await running.ask("GET", "/hooks", key=NEXT_KEY)).status == 200
    assert_error(await running.ask("GET", "/hooks", key=MASTER_KEY), Code.INVALID_KEY)


@pytest.mark.parametrize("by_connection", [False, True], ids=["by request", "by connection"])
@pytest.mark.parametrize("keys", [(MASTER_KEY, NEXT_KEY), (NEXT_KEY, MASTER_KEY)], ids=["forward", "back"])
async def test_replicas_of_core_that_change_one_after_the_other_cost_no_request(
    changing: Running, upstream: ReplicatedCore, *, keys: tuple[str, str], by_connection: bool
) -> None:
    """Replicas of Core may get the next key one after the other, or the old one again: no request fails."""
    upstream.by_connection, (old, new) = by_connection, keys
    upstream.keys = [old] * 3
    loads = await loads_on(changing, 3)
    tasks = [asyncio.create_task(load.run()) for load in loads]
    for changed in range(4):
        upstream.keys = [new] * changed + [old] * (3 - changed)
        await each_goes_on(loads)
    for load in loads:
        load.over = True
    await asyncio.gather(*tasks)
    assert [load.wrong for load in loads] == [[], [], []]
    assert len(upstream.accepted) == sum(load.sent for load in loads)


async def test_the_key_that_core_accepts_is_sent_first_from_then_on(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """After one refusal the key that Core accepts is sent first."""
    key = await changing.mint("ledgers:read")
    upstream.keys = [NEXT_KEY]
    for _ in range(2):
        assert (await changing.ask("GET", READ, key=key.key)).status == 200
    sent = [request.values("x-blnk-key") for request in upstream.requests]
    assert sent == [[MASTER_KEY], [NEXT_KEY], [NEXT_KEY]]


async def test_a_core_with_neither_key_is_502_and_costs_it_no_flood(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """A Core with a third key is 502; after one request that tried all, each tries both keys once."""
    key = await changing.mint("ledgers:read")
    upstream.keys = [THIRD_KEY]
    counts = []
    for _ in range(3):
        upstream.take()
        assert_error(await changing.ask("GET", READ, key=key.key), Code.UPSTREAM_REFUSED)
        counts.append(len(upstream.take()))
    assert counts == [16, 2, 2]
    await changing.logged("core refused the master key")
    upstream.keys = [NEXT_KEY]
    assert (await changing.ask("GET", READ, key=key.key)).status == 200


async def test_a_file_that_is_overwritten_before_core_changes_costs_no_request(
    start_gateway: Start, upstream: ReplicatedCore, files: Files
) -> None:
    """Without a file of the next key, the request that finds a new key in the file is sent again with it."""
    running = await start_gateway(upstream={"master_key_file": files.current})
    running.secrets.add(NEXT_KEY)
    key = await running.mint("ledgers:write")
    files.current.write_text(NEXT_KEY, encoding="ascii")
    upstream.keys = [NEXT_KEY]
    assert (await running.ask("POST", STAMPED, key=key.key, body=b'{"name":"a"}')).status == 200


async def test_a_body_that_streams_is_sent_once_core_has_accepted_a_key(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """A body that streams gets the key that Core has just accepted for a GET."""
    key = await changing.mint("ledgers:write")
    upstream.keys = [NEXT_KEY]
    assert (await streamed(changing, key.key, upstream, "/ledgers?limit=1")).status == 200
    assert [request.target for request in upstream.accepted] == ["/ledgers?limit=1", STREAMED]
    assert upstream.accepted[-1].body_length == len(LARGE)


async def test_a_body_that_streams_while_the_key_changes_is_503_and_passes_when_repeated(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """If the key changes between that GET and the body, nothing was done: 503, and the repetition passes."""
    key = await changing.mint("ledgers:write")
    upstream.script(_then(upstream, NEXT_KEY))
    refused = await streamed(changing, key.key, upstream, STREAMED)
    assert_error(refused, Code.UNAVAILABLE)
    assert refused.value("retry-after") == "1"
    assert (await streamed(changing, key.key, upstream, STREAMED)).status == 200


async def test_a_key_that_core_has_not_accepted_is_not_said_to_be(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """A body that Core refuses while it gets a third key says nothing of the second one."""
    key = await changing.mint("ledgers:read", "ledgers:write")
    upstream.script(_then(upstream, THIRD_KEY))
    assert_error(await streamed(changing, key.key, upstream, STREAMED), Code.UNAVAILABLE)
    assert_error(await changing.ask("GET", READ, key=key.key), Code.UPSTREAM_REFUSED)
    log = await changing.logged("core refused the master key")
    assert "core accepts another master key" not in log


async def test_the_time_of_every_attempt_is_that_of_core(changing: Running, upstream: ReplicatedCore) -> None:
    """The time of a request that is sent again, and of asking for the key, is Core's in the log.

    The event loop counts whole milliseconds, so a delay may be a little shorter than it says.
    """
    key = await changing.mint("ledgers:read", "ledgers:write")
    upstream.keys = [NEXT_KEY]
    upstream.behaviour = delayed(0.1)
    await changing.ask("GET", READ, key=key.key)
    assert (await streamed(changing, key.key, upstream, "/ledgers?limit=1")).status == 200
    log = await changing.logged(f'"path":"{STREAMED}"')
    lines = [json.loads(line) for line in log.splitlines() if '"event":"request"' in line]
    assert [line["upstream_ms"] >= least for line, least in zip(lines, (90, 180), strict=True)] == [True] * 2


async def test_a_scoped_caller_gets_another_401_of_core_and_no_key_is_tried(
    changing: Running, upstream: ReplicatedCore
) -> None:
    """A 401 of Core without an AUTH code is passed on, and not sent again."""
    key = await changing.mint("ledgers:read")
    upstream.script(responding("401 Unauthorized", b'{"error":"no"}'))
    assert (await changing.ask("GET", READ, key=key.key)).body == b'{"error":"no"}'
    assert len(upstream.requests) == 1


async def test_a_gateway_that_starts_while_core_changes_is_ready(
    start_gateway: Start, upstream: ReplicatedCore, files: Files
) -> None:
    """At the start Core may have either key, or its replicas both."""
    files.following.write_text(NEXT_KEY, encoding="ascii")
    upstream.keys = [NEXT_KEY, MASTER_KEY, NEXT_KEY]
    running = await started(start_gateway, files)
    assert running.gateway.health.ready


def _then(core: ReplicatedCore, key: str) -> Behaviour:
    """Respond, and change Core's key."""

    async def behave(exchange: Any) -> None:
        core.keys = [key]
        await exchange.body()
        await exchange.respond()

    return behave


class Observer:
    """Counts what a `CoreClient` reports."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def core_responded(self) -> None:
        self.seen.append("responded")

    def key_refused(self) -> None:
        self.seen.append("key refused")

    def key_accepted(self) -> None:
        self.seen.append("key accepted")

    def refused(self) -> None:
        self.seen.append("refused")


async def test_requests_of_the_gateway_itself_try_both_keys(upstream: ReplicatedCore) -> None:
    """A key that the gateway creates or revokes in Core changes once, whichever master key Core has."""
    access = CoreAccess(upstream.url, "core", MasterKey(MASTER_KEY), MasterKey(NEXT_KEY))
    access.verify()
    limits = PoolLimits(connections=1, queue=1, connect=5.0, first_byte=5.0, between_bytes=5.0, idle=5.0)
    pool, observer = Pool("127.0.0.1", upstream.port, limits, asyncio.get_running_loop()), Observer()
    client = CoreClient(pool, access, observer)
    upstream.keys = [NEXT_KEY]
    for method, body in (("POST", b'{"name":"a"}'), ("DELETE", b"")):
        assert (await client.ask(method, "/api-keys", body)).status == 200
    upstream.keys = [THIRD_KEY]
    with pytest.raises(UpstreamRefusedError):
        await client.ask("POST", "/api-keys", b"{}")
    pool.abort()
    assert observer.seen == [
        "key refused",
        "key accepted",
        "responded",
        "responded",
        "key refused",
        "refused",
    ]
    assert [(got.method, bytes(got.body)) for got in upstream.accepted] == [
        ("POST", b'{"name":"a"}'),
        ("DELETE", b""),
    ]
