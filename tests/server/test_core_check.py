"""The check of Core: is it secure, does it accept the master key, and what happens until both are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import Code
from gateway.server.core_check import Check, CoreProbe, Finding, check_core, probe_limits
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.wire.connect_errors import CLOSED, GATEWAY, MAYBE_NOT_HTTP, SPEAKS_TLS
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits
from tests.conftest import Start
from tests.core_stand_in import (
    REFUSAL,
    Behaviour,
    Request,
    StandInCore,
    like_core,
    never,
    raw,
    refuse,
    responding,
)
from tests.raw_client import PATIENCE, RawClient
from tests.running import MASTER_KEY, Running, eventually
from tests.serving import serving
from tests.tls import self_signed
from tests.wire.asserting import READ, assert_error

ASKER = CoreProbe(b"Host: core.test\r\n", (f"X-Blnk-Key: {MASTER_KEY}\r\n".encode(),), own_ids="0b5e-")
LIMITS = PoolLimits(connections=1, queue=0, connect=5.0, first_byte=5.0, between_bytes=5.0, idle=5.0)

INSECURE = ["200 OK", "202 Accepted", "301 Moved Permanently", "400 Bad Request", "403 Forbidden"]
INSECURE += ["404 Not Found"]
UNSETTLED = ["429 Too Many Requests", "500 Oops", "503 Service Unavailable"]


class Core(StandInCore):
    """A Core whose responses with and without its master key are set by a test."""

    def __init__(self) -> None:
        super().__init__(MASTER_KEY)
        self.without_key: Behaviour = refuse
        self.with_key: Behaviour = like_core
        self.asked: list[Request] = []

    def behaviour_for(self, request: Request) -> Behaviour:
        self.asked.append(request)
        keys = request.values("x-blnk-key")
        if not keys:
            return self.without_key
        return self.with_key if keys == [self.master_key] else refuse


@pytest.fixture
async def upstream() -> AsyncIterator[Core]:
    core = Core()
    async with core:
        yield core


async def check(core: Core, **changes: float) -> Check:
    limits = replace(LIMITS, **changes)  # type: ignore[arg-type]
    pool = Pool("127.0.0.1", core.port, limits, asyncio.get_running_loop())
    try:
        return await check_core(pool, ASKER)
    finally:
        pool.abort()


class TestCheck:
    async def test_a_core_that_refuses_others_and_accepts_us_is_safe(self, upstream: Core) -> None:
        """A Core is safe if it refuses a protected route without a key, and then accepts the master key."""
        assert await check(upstream) == Check(Finding.SAFE, "")
        asked = [(got.method, got.target, got.values("x-blnk-key")) for got in upstream.asked]
        assert asked == [("GET", "/ledgers?limit=1", []), ("GET", "/ledgers?limit=1", [MASTER_KEY])]
        assert {value for got in upstream.asked for value in got.values("host")} == {"core.test"}

    @pytest.mark.parametrize("status", INSECURE)
    async def test_a_core_that_answers_anyone_is_unsafe(self, upstream: Core, status: str) -> None:
        """A Core that serves a request without a key is unsafe, and never gets the master key."""
        upstream.without_key = responding(status)
        found = await check(upstream)
        assert found.finding is Finding.UNSAFE
        assert found.reason.startswith(
            f"Core responds with {status[:3]} to a request without a key: set server.se"
        )
        assert len(upstream.asked) == 1

    async def test_a_core_that_refuses_the_master_key_is_unsafe(self, upstream: Core) -> None:
        """A Core that refuses the master key is unsafe; the reason names the setting, not the key."""
        upstream.with_key = refuse
        assert await check(upstream) == Check(
            Finding.UNSAFE,
            "Core refuses the master key: upstream.master_key must be server.secret_key of blnk.json",
        )

    @pytest.mark.parametrize("status", UNSETTLED)
    @pytest.mark.parametrize("which", ["without_key", "with_key"])
    async def test_a_core_that_says_neither_is_not_reachable_yet(
        self, upstream: Core, status: str, which: str
    ) -> None:
        """A Core that is overloaded or faulty, with a key or without, counts as not reachable yet."""
        setattr(upstream, which, responding(status))
        assert await check(upstream) == Check(Finding.UNREACHABLE, f"Core responds with {status[:3]}")

    async def test_one_whose_head_comes_slowly_is_not_reachable_yet(self, upstream: Core) -> None:
        """The time of a head does not begin anew with each line."""
        upstream.without_key = raw(b"HTTP/1.1 401 Unauthorized\r\n", *[b"X: y\r\n"] * 50, pause=0.1)
        reason = "Core is not reachable: Core's response stalled for 0.3 s"
        assert await check(upstream, between_bytes=0.3) == Check(Finding.UNREACHABLE, reason)

    async def test_a_page_that_comes_slowly_is_not_waited_for(self, upstream: Core) -> None:
        """A 400 could say that Core speaks TLS; the check then goes by its status."""
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 300\r\n\r\n"
        upstream.without_key = raw(head, *[b"x"] * 300, pause=0.1)
        async with asyncio.timeout(5):
            found = await check(upstream, first_byte=0.3)
        assert found.reason.startswith("Core responds with 400 to a request without a key: set server.se")

    async def test_no_connection_is_not_reachable_yet(self, upstream: Core) -> None:
        """A Core that is not up counts as not reachable yet."""
        async with upstream.refusing():
            found = await check(upstream)
        refused = f"connection refused (127.0.0.1:{upstream.port})"
        assert found == Check(Finding.UNREACHABLE, f"Core is not reachable: {refused}")

    @pytest.mark.parametrize(
        ("response", "reason"),
        [
            (b"", f"{CLOSED}; {MAYBE_NOT_HTTP}"),
            (b"\x15\x03\x01\x00\x02\x02\x16", SPEAKS_TLS),
            (
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
                SPEAKS_TLS,
            ),
            (
                b"-ERR wrong number of arguments for 'get' command\r\n",
                "what responds at upstream.url does not speak HTTP: it seems to be a Redis",
            ),
            (b"SSH-2.0-OpenSSH\r\n", "what responds at upstream.url does not speak HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Core's response is malformed HTTP"),
            (b"HTTP/1.1 200 OK\r\nConte", "Core closed the connection in the middle of a response"),
        ],
        ids=["nothing", "TLS", "TLS of Go", "Redis", "SSH", "malformed", "cut"],
    )
    async def test_what_gives_no_http_response_is_not_reachable_yet_and_the_reason_says_what_it_is(
        self, upstream: Core, response: bytes, reason: str
    ) -> None:
        """Bytes that are no HTTP response are described and not repeated, and no master key is sent."""
        upstream.without_key = raw(response)
        assert await check(upstream) == Check(Finding.UNREACHABLE, f"Core is not reachable: {reason}")
        assert [got.values("x-blnk-key") for got in upstream.asked] == [[]]

    async def test_a_core_that_accepts_and_stays_silent_does_not_respond_within_10_s(
        self, upstream: Core
    ) -> None:
        """The check has a deadline of its own, however long a client's request may take."""
        limits = replace(LIMITS, first_byte=300.0)
        assert probe_limits(limits) == replace(
            limits, connections=1, queue=1, first_byte=10.0, between_bytes=10.0
        )
        upstream.without_key = never
        reason = "Core is not reachable: Core does not respond within 0.2 s"
        assert await check(upstream, first_byte=0.2) == Check(Finding.UNREACHABLE, reason)

    async def test_a_gateway_without_its_core_is_not_taken_for_core(self, upstream: Core) -> None:
        """Another gateway counts as Core as long as a Core stands behind it."""
        own = [("Proxy-Status", "blnk-gateway; error=http_request_denied"), ("X-Request-Id", "77aa-1")]
        upstream.without_key = responding("401 Unauthorized", REFUSAL, own)
        assert await check(upstream) == Check(Finding.SAFE, "")
        upstream.with_key = responding("502 Bad Gateway", REFUSAL, own)
        assert await check(upstream) == Check(Finding.UNREACHABLE, f"Core is not reachable: {GATEWAY}")

    async def test_a_gateway_that_asks_itself_is_unsafe_and_shows_no_master_key(self, upstream: Core) -> None:
        """A gateway that calls itself knows the ids of its own requests, and sends no master key."""
        own = [("Proxy-Status", "blnk-gateway; error=http_request_denied"), ("X-Request-Id", "0b5e-1")]
        upstream.without_key = responding("401 Unauthorized", REFUSAL, own)
        reason = "upstream.url is the address of this gateway itself, not of Core"
        assert await check(upstream) == Check(Finding.UNSAFE, reason)
        assert [got.values("x-blnk-key") for got in upstream.asked] == [[]]

    async def test_a_long_response_is_not_read(self, upstream: Core) -> None:
        """A response without an end delays nothing, since only its status is read."""
        upstream.with_key = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", close=False)
        assert (await check(upstream)).finding is Finding.SAFE


class TestServer:
    @pytest.mark.parametrize("status", INSECURE)
    async def test_an_insecure_core_ends_the_start(
        self, start_gateway: Start, upstream: Core, status: str
    ) -> None:
        """A Core without `server.secure` ends the start: exit 3."""
        upstream.without_key = responding(status)
        running: Running = await start_gateway(ready=False)
        with pytest.raises(StartError) as refused:
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)
        assert refused.value.exit_code is Exit.DEPENDENCY
        assert not running.gateway.health.ready

    async def test_a_refused_master_key_ends_the_start(self, start_gateway: Start, upstream: Core) -> None:
        """A Core that refuses the master key ends the start: exit 3."""
        upstream.with_key = refuse
        running: Running = await start_gateway(ready=False)
        with pytest.raises(StartError) as refused:
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)
        assert refused.value.exit_code is Exit.DEPENDENCY

    @pytest.mark.parametrize("status", UNSETTLED)
    @pytest.mark.parametrize("which", ["without_key", "with_key"])
    async def test_nothing_is_forwarded_until_both_are_seen(
        self, start_gateway: Start, upstream: Core, which: str, status: str
    ) -> None:
        """Until Core is accepted the gateway is not ready and all is 502, public routes too."""
        before = getattr(upstream, which)
        setattr(upstream, which, responding(status))
        running: Running = await start_gateway(ready=False)
        key = (await running.mint("ledgers:read")).key
        await eventually(lambda: len(upstream.asked) > 1, "a second look at Core")
        for target in (READ, "/health"):
            assert_error(await running.ask("GET", target, key=key), Code.UPSTREAM_UNREACHABLE)
        assert_error(await running.ask("GET", READ, key=MASTER_KEY), Code.UPSTREAM_UNREACHABLE)
        assert running.gateway.health.reasons == [f"Core responds with {status[:3]}"]
        assert {got.target for got in upstream.asked} == {"/ledgers?limit=1"}
        assert all(got.is_probe for got in upstream.asked)
        setattr(upstream, which, before)
        await eventually(lambda: running.gateway.health.ready, "readiness")
        assert (await running.ask("GET", READ, key=key)).status == 200

    async def test_a_core_that_comes_up_later_is_noticed(self, start_gateway: Start, upstream: Core) -> None:
        """Without a connection to Core the gateway starts, not ready, and tries again."""
        async with upstream.refusing():
            running: Running = await start_gateway(ready=False)
            await running.logged("waiting for core")
            assert not running.gateway.health.ready
        await eventually(lambda: running.gateway.health.ready, "readiness")

    async def test_a_core_found_unsafe_after_a_wait_ends_the_start(
        self, start_gateway: Start, upstream: Core
    ) -> None:
        """A Core that comes up later without `server.secure` ends the start as well."""
        upstream.without_key = responding("503 Service Unavailable")
        running: Running = await start_gateway(ready=False)
        await running.logged("waiting for core")
        upstream.without_key = responding("200 OK")
        with pytest.raises(StartError):
            await asyncio.wait_for(running.gateway.ready(), PATIENCE)

    async def test_the_reason_is_logged_once(self, start_gateway: Start, upstream: Core) -> None:
        """The reason is logged once while Core stays down."""
        upstream.without_key = responding("503 Service Unavailable")
        running: Running = await start_gateway(ready=False)
        await eventually(lambda: len(upstream.asked) > 2, "a third look at Core")
        assert (await running.logged("waiting for core")).count("waiting for core") == 1


class TestProcess:
    async def test_a_gateway_that_is_its_own_core_is_exit_3(self, unused_tcp_port: int) -> None:
        """A gateway that is its own Core, by a name that `check` cannot tell, is exit 3; no key is sent."""
        url, listen = f"http://127.1:{unused_tcp_port}", f"127.0.0.1:{unused_tcp_port}"
        async with serving(url, {"LISTEN": listen}) as process:
            ended = await process.ended()
        reason = "upstream.url is the address of this gateway itself, not of Core"
        assert (ended.code, ended.stderr) == (3, f"blnk-gateway: {reason}\n")
        requests = [event for event in ended.events if event["event"] == "request"]
        assert [(event["status"], event["key_id"]) for event in requests] == [(401, "")]

    async def test_a_core_is_reached_over_tls_once_ssl_cert_file_trusts_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until ssl_cert_file trusts Core, log and health page say how, and nothing is sent to it."""
        shown = self_signed(tmp_path, "DNS:localhost", "IP:127.0.0.1")
        async with StandInCore(MASTER_KEY, shown.listener()) as core:
            async with serving(core.url, {}) as process:
                _, admin = await process.listening()
                waiting = await process.event("waiting for core")
                async with await RawClient.connect(admin) as client:
                    asked = b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                    health = (await client.call(asked)).json()
                process.terminate()
                await process.ended()
            assert (health["status"], health["reasons"]) == ("not ready", [waiting["reason"]])
            reason = "the certificate of localhost is not trusted (self-signed certificate): name a PEM "
            reason += "file with the certificate of its authority in upstream.ca_file"
            assert waiting["reason"] == f"Core is not reachable: {reason}"
            assert core.probes == []
            monkeypatch.setenv("SSL_CERT_FILE", str(shown.certificate))
            async with serving(core.url, {}) as process:
                await process.event("ready")

    async def test_an_insecure_core_is_exit_3(self, upstream: Core) -> None:
        """The last line on stderr says what to change, without a traceback: exit 3."""
        upstream.without_key = responding("200 OK")
        async with serving(upstream.url, {}) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (
            3,
            "blnk-gateway: Core responds with 200 to a request without a key: set server.secure to true in "
            "blnk.json, or whoever can connect to Core bypasses the gateway\n",
        )

    async def test_a_refused_master_key_is_exit_3(self, upstream: Core) -> None:
        """A refused master key is not in the output: exit 3."""
        upstream.with_key = refuse
        async with serving(upstream.url, {}) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (
            3,
            "blnk-gateway: Core refuses the master key: upstream.master_key must be server.secret_key of "
            "blnk.json\n",
        )
        assert MASTER_KEY not in str(ended.events)

    async def test_sigterm_while_core_is_awaited_is_exit_0(self, upstream: Core) -> None:
        """A gateway that never became ready ends on SIGTERM as any other."""
        upstream.without_key = responding("503 Service Unavailable")
        async with serving(upstream.url, {"DRAIN__DELAY": "0s"}) as process:
            await process.event("waiting for core")
            process.terminate()
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
