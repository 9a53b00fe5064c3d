"""Is Core secure, does it accept our master key, and what happens until both are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import Code
from gateway.exits import Exit
from gateway.server import StartError
from gateway.startup import Check, Finding, check_core
from gateway.wire.pool import Pool
from gateway.wire.upstream import PoolLimits
from tests.conftest import Start
from tests.raw_client import PATIENCE
from tests.recording import REFUSAL, Behaviour, RecordingUpstream, Request, answering, like_core, raw
from tests.running import MASTER_KEY, Running, eventually
from tests.serving import serving
from tests.wire.asserting import READ, assert_error

HOST_LINE = b"Host: core.test\r\n"
KEY_LINE = f"X-Blnk-Key: {MASTER_KEY}\r\n".encode()
REFUSES = answering("401 Unauthorized", REFUSAL)
LIMITS = PoolLimits(connections=1, queue=0, connect=5.0, first_byte=5.0, between_bytes=5.0, idle=5.0)

INSECURE = ["200 OK", "202 Accepted", "301 Moved Permanently", "400 Bad Request", "403 Forbidden"]
INSECURE += ["404 Not Found"]
UNSETTLED = ["429 Too Many Requests", "500 Oops", "503 Service Unavailable"]


class Core(RecordingUpstream):
    """A Core whose answers with and without its master key are a test's."""

    def __init__(self) -> None:
        super().__init__(MASTER_KEY)
        self.without_key: Behaviour = REFUSES
        self.with_key: Behaviour = like_core
        self.asked: list[Request] = []

    def _behaviour_for(self, request: Request) -> Behaviour:
        self.asked.append(request)
        keys = request.values("x-blnk-key")
        if not keys:
            return self.without_key
        return self.with_key if keys == [self.master_key] else REFUSES


@pytest.fixture
async def upstream() -> AsyncIterator[Core]:
    core = Core()
    async with core:
        yield core


async def check(core: Core) -> Check:
    pool = Pool("127.0.0.1", core.port, LIMITS, asyncio.get_running_loop())
    try:
        return await check_core(pool, HOST_LINE, KEY_LINE)
    finally:
        pool.close()


class TestCheck:
    async def test_a_core_that_refuses_others_and_accepts_us_is_safe(self, upstream: Core) -> None:
        """A protected route is asked for, first without any key, then with ours."""
        assert await check(upstream) == Check(Finding.SAFE, "")
        asked = [(got.method, got.target, got.values("x-blnk-key")) for got in upstream.asked]
        assert asked == [("GET", "/ledgers?limit=1", []), ("GET", "/ledgers?limit=1", [MASTER_KEY])]
        assert {value for got in upstream.asked for value in got.values("host")} == {"core.test"}

    @pytest.mark.parametrize("status", INSECURE)
    async def test_a_core_that_answers_anyone_is_unsafe(self, upstream: Core, status: str) -> None:
        """Anything but a refusal without a key: the master key is not even shown to it."""
        upstream.without_key = answering(status)
        found = await check(upstream)
        assert found.finding is Finding.UNSAFE
        assert found.reason.startswith(f"Core answers {status[:3]} to a request without a key: set server.se")
        assert len(upstream.asked) == 1

    async def test_a_core_that_refuses_the_master_key_is_unsafe(self, upstream: Core) -> None:
        """Every forwarded request would fail; the reason names the setting, not the key."""
        upstream.with_key = REFUSES
        assert await check(upstream) == Check(
            Finding.UNSAFE,
            "Core refuses the master key: upstream.master_key must be server.secret_key of blnk.json",
        )

    @pytest.mark.parametrize("status", UNSETTLED)
    @pytest.mark.parametrize("which", ["without_key", "with_key"])
    async def test_a_core_that_says_neither_is_not_reachable_yet(
        self, upstream: Core, status: str, which: str
    ) -> None:
        """Overload and faults settle nothing, with a key or without."""
        setattr(upstream, which, answering(status))
        assert await check(upstream) == Check(Finding.UNREACHABLE, f"Core answers {status[:3]}")

    async def test_no_connection_is_not_reachable_yet(self, upstream: Core) -> None:
        """A Core that is not up is waited for."""
        await upstream.__aexit__()
        found = await check(upstream)
        assert found == Check(Finding.UNREACHABLE, "Core is not reachable: Upstream unreachable")
        await upstream.__aenter__()

    async def test_garbage_is_not_reachable_yet(self, upstream: Core) -> None:
        """What is no HTTP is not Core."""
        upstream.without_key = raw(b"SSH-2.0-OpenSSH\r\n")
        assert (await check(upstream)).finding is Finding.UNREACHABLE

    async def test_a_long_answer_is_not_read(self, upstream: Core) -> None:
        """Only the status counts, so an answer without an end holds nothing up."""
        upstream.with_key = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", close=False)
        assert (await check(upstream)).finding is Finding.SAFE


class TestServer:
    @pytest.mark.parametrize("status", INSECURE)
    async def test_an_insecure_core_ends_the_start(
        self, start_gateway: Start, upstream: Core, status: str
    ) -> None:
        """A Core without `server.secure` makes the gateway pointless: exit 3."""
        upstream.without_key = answering(status)
        running: Running = await start_gateway(ready=False)
        with pytest.raises(StartError) as refused:
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)
        assert refused.value.exit_code is Exit.NEIGHBOUR
        assert not running.gateway.health.ready

    async def test_a_refused_master_key_ends_the_start(self, start_gateway: Start, upstream: Core) -> None:
        """Nothing could be forwarded: exit 3."""
        upstream.with_key = REFUSES
        running: Running = await start_gateway(ready=False)
        with pytest.raises(StartError) as refused:
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)
        assert refused.value.exit_code is Exit.NEIGHBOUR

    @pytest.mark.parametrize("status", UNSETTLED)
    @pytest.mark.parametrize("which", ["without_key", "with_key"])
    async def test_nothing_is_forwarded_until_both_are_seen(
        self, start_gateway: Start, upstream: Core, which: str, status: str
    ) -> None:
        """Not ready and 502 while Core settles nothing, public routes too; ready by itself afterwards."""
        before = getattr(upstream, which)
        setattr(upstream, which, answering(status))
        running: Running = await start_gateway(ready=False)
        key = (await running.mint("ledgers:read")).key
        await eventually(lambda: len(upstream.asked) > 1, "a second look at Core")
        for target in (READ, "/health"):
            assert_error(await running.ask("GET", target, key=key), Code.UPSTREAM_UNREACHABLE)
        assert_error(await running.ask("GET", READ, key=MASTER_KEY), Code.UPSTREAM_UNREACHABLE)
        assert running.gateway.health.reasons == [f"Core answers {status[:3]}"]
        assert {got.target for got in upstream.asked} == {"/ledgers?limit=1"}
        assert all(got.is_probe for got in upstream.asked)
        setattr(upstream, which, before)
        await eventually(lambda: running.gateway.health.ready, "readiness")
        assert (await running.ask("GET", READ, key=key)).status == 200

    async def test_a_core_that_comes_up_later_is_noticed(self, start_gateway: Start, upstream: Core) -> None:
        """Without a connection the gateway starts, not ready, and keeps trying."""
        await upstream.__aexit__()
        running: Running = await start_gateway(ready=False)
        await running.logged("waiting for core")
        assert not running.gateway.health.ready
        async with upstream:
            await eventually(lambda: running.gateway.health.ready, "readiness")

    async def test_a_core_found_unsafe_after_a_wait_ends_the_start(
        self, start_gateway: Start, upstream: Core
    ) -> None:
        """A Core that comes up without `server.secure` is refused as one that was there from the start."""
        upstream.without_key = answering("503 Service Unavailable")
        running: Running = await start_gateway(ready=False)
        await running.logged("waiting for core")
        upstream.without_key = answering("200 OK")
        with pytest.raises(StartError):
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)

    async def test_the_reason_is_logged_once(self, start_gateway: Start, upstream: Core) -> None:
        """A Core that is down for hours does not fill the log."""
        upstream.without_key = answering("503 Service Unavailable")
        running: Running = await start_gateway(ready=False)
        await eventually(lambda: len(upstream.asked) > 2, "a third look at Core")
        assert (await running.logged("waiting for core")).count("waiting for core") == 1


class TestProcess:
    async def test_an_insecure_core_is_exit_3(self, upstream: Core) -> None:
        """The last word on stderr says what to change; no traceback."""
        upstream.without_key = answering("200 OK")
        async with serving(upstream.url, {}) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (
            3,
            "blnk-gateway: Core answers 200 to a request without a key: set server.secure to true in "
            "blnk.json, or whoever reaches Core passes the gateway by\n",
        )

    async def test_a_refused_master_key_is_exit_3(self, upstream: Core) -> None:
        """The key itself is not in what it says."""
        upstream.with_key = REFUSES
        async with serving(upstream.url, {}) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (
            3,
            "blnk-gateway: Core refuses the master key: upstream.master_key must be server.secret_key of "
            "blnk.json\n",
        )
        assert MASTER_KEY not in str(ended.events)

    async def test_sigterm_while_core_is_awaited_is_exit_0(self, upstream: Core) -> None:
        """A gateway that never became ready stops as any other."""
        upstream.without_key = answering("503 Service Unavailable")
        async with serving(upstream.url, {"DRAIN__DELAY": "0s"}) as process:
            await process.event("waiting for core")
            process.terminate()
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
