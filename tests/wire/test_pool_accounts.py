"""The counts of the pool return to zero whatever happens to requests to Core, in any order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from gateway.errors import GatewayError
from gateway.wire.deadline_timer import NEVER
from gateway.wire.errors import ClientGoneError
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits
from gateway.wire.upstream_response import UpstreamResponse
from gateway.wire.upstream_upload import UpstreamUpload
from tests.running import eventually

REQUESTS = 300
LIMITS = PoolLimits(
    connections=6, queue=8, connect=0.3, first_byte=0.15, between_bytes=0.15, idle=0.1, age=0.4
)
BODY = b"x" * 4000


@dataclass(eq=False)
class Caller:
    """A request whose client may leave and whose permission to be sent may be pending; it is `Pausable`."""

    chance: random.Random
    party: str
    network: str
    changes: bool
    repeatable: bool
    bodiless: bool = False
    first_byte: float = 0.0
    gone: bool = False
    abandoned: bool = False
    ended_at: float = NEVER
    late: list[int | None] = field(default_factory=list)
    react: Callable[[], None] | None = None

    @property
    def client(self) -> Caller:
        return self

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        self.react = react

    def leave(self, *, gone: bool) -> None:
        self.gone = self.gone or gone
        self.ended_at = asyncio.get_running_loop().time()
        if self.react is not None:
            self.react()

    def passes(self) -> bool:
        return self.chance.random() < 0.8

    async def renew(self) -> None:
        await asyncio.sleep(self.chance.choice([0, 0, 0.02, 0.12]))
        if self.chance.random() < 0.3:
            raise GatewayError

    def unsent(self) -> None: ...

    def ended_late(self, status: int | None) -> None:
        self.late.append(status)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes) -> None: ...


class FickleCore:
    """A Core that responds wholly, in part, late, early, twice or not at all, and closes or resets."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        pick = self._chance.random()
        if pick < 0.1:
            if pick < 0.05:
                writer.transport.abort()
            return False
        if b"Length" in head and pick < 0.9:
            await reader.readexactly(len(BODY))
        await asyncio.sleep(self._chance.choice([0, 0, 0, 0.01, 0.05, 0.2, 0.4]))
        if pick < 0.2:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(1000))
        if pick < 0.3:
            await asyncio.sleep(self._chance.choice([0.01, 0.3]))
            return False
        for _ in range(299):
            writer.write(bytes(1000))
        if pick < 0.35:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return True


class Stage:
    """A pool in front of such a Core, and requests at random."""

    def __init__(self, pool: Pool, chance: random.Random) -> None:
        self._pool = pool
        self._chance = chance

    def caller(self) -> Caller:
        chance = self._chance
        changes = chance.random() < 0.5
        names = (f"key {chance.randrange(4)}", f"network {chance.randrange(3)}")
        return Caller(chance, *names, changes, repeatable=not changes, bodiless=chance.random() < 0.1)

    async def request(self) -> None:
        caller, chance = self.caller(), self._chance
        work = self._upload(caller) if chance.random() < 0.3 else self._ask(caller)
        task = asyncio.ensure_future(work)
        await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05, 0.3]))
        if chance.random() < 0.4:
            caller.leave(gone=chance.random() < 0.5)
        with suppress(GatewayError, ClientGoneError):
            await task

    async def _ask(self, caller: Caller) -> None:
        head = b"POST / HTTP/1.1\r\nLength\r\n\r\n" + BODY if caller.changes else b"GET / HTTP/1.1\r\n\r\n"
        await self._take(self._pool.request(head, caller), caller)

    async def _upload(self, caller: Caller) -> None:
        feeding: list[asyncio.Task[None]] = []

        def begin(upload: UpstreamUpload) -> None:
            feeding.append(asyncio.ensure_future(self._feed(upload, caller)))

        asked = self._pool.upload(b"POST / HTTP/1.1\r\nLength\r\n\r\n", caller, caller, begin)
        try:
            await self._take(asked, caller)
        finally:
            for task in feeding:
                task.cancel()

    async def _feed(self, upload: UpstreamUpload, caller: Caller) -> None:
        try:
            for _ in range(3):
                upload.write(BODY[:1000], last=False)
                await asyncio.sleep(self._chance.choice([0, 0, 0.02]))
                if caller.gone:
                    upload.abort()
            if self._chance.random() < 0.2:
                await asyncio.sleep(1.5)
            upload.write(BODY[:1000], last=True)
        except asyncio.CancelledError:
            # The response is there, or the body will not become whole.
            upload.abort()
            raise

    async def _take(self, asked: Awaitable[UpstreamResponse], caller: Caller) -> None:
        response = await asked
        if response.complete:
            return
        if self._chance.random() < 0.2:
            response.abandon()
            return
        streaming = asyncio.ensure_future(response.stream(caller))
        await asyncio.sleep(0)
        try:
            if self._chance.random() < 0.3:
                response.pause_reading()
                await asyncio.sleep(self._chance.choice([0.02, 0.3, 1.3]))
            response.resume_reading()
            await streaming
        finally:
            streaming.cancel()
            response.resume_reading()

    async def change_limits(self) -> None:
        chance = self._chance
        while True:
            await asyncio.sleep(0.05)
            connections, queue = chance.choice([1, 2, 6, 20]), chance.choice([0, 1, 8])
            self._pool.adopt(
                PoolLimits(connections, queue, 0.3, first_byte=0.15, between_bytes=0.15, idle=0.1, age=0.4)
            )


@pytest.fixture(params=range(2))
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Stage, Pool]]:
    chance = random.Random(request.param)  # noqa: S311  # it has to repeat
    server = await asyncio.start_server(FickleCore(chance).serve, "127.0.0.1", 0)
    pool = Pool("127.0.0.1", server.sockets[0].getsockname()[1], LIMITS, asyncio.get_running_loop())
    yield Stage(pool, chance), pool
    pool.abort()
    server.close()


async def test_every_slot_and_every_turn_in_the_queue_comes_back(stage: tuple[Stage, Pool]) -> None:
    """Every slot and every turn in the queue is given back, whatever clients, Core and deadlines do."""
    playing, pool = stage
    changing = asyncio.ensure_future(playing.change_limits())
    running = []
    for _ in range(REQUESTS):
        running.append(asyncio.ensure_future(playing.request()))
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    changing.cancel()
    nothing = {"idle": 0, "busy": 0, "waiting": 0, "detached": 0}
    await eventually(lambda: pool.counts == nothing, f"nothing, of {pool.counts}")
