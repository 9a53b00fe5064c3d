"""Several processes that share one port: who may, how connections spread, and restarts under load."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.config import Address
from gateway.server.listeners import ACCEPTED
from gateway.server.sharing import why_not_shared
from tests.addresses import free_ports
from tests.core_stand_in import StandInCore
from tests.raw_client import BrokenResponse, RawClient, request
from tests.running import MASTER_KEY, shipped_config
from tests.serving import Serving, serving
from tests.wire.asserting import READ

SHARED = ("--reuse-port",)
CONNECTIONS = 1600
NEW, KEPT = 24, 12
"""Clients that send requests on new connections, and on kept ones."""
WAITING = 20 * ACCEPTED
"""Connections that wait at a socket when its process is told to end: more than it accepts meanwhile."""
MOST_APART = 0.2
"""The largest part of its fair share by which the connections of a process may differ from that share.

160 of 800: Linux draws a process for each connection, and the standard deviation of 1,600 draws is 20.
"""


class TestConfiguration:
    def test_one_with_keys_in_redis_and_a_port_can_be_shared(self) -> None:
        config = shipped_config()
        keys = replace(config.keys, store="redis://127.0.0.1:6379/0")
        shared = replace(config, keys=keys, listen=(Address("127.0.0.1", 5001),))
        assert why_not_shared(shared, "linux") == ""
        assert why_not_shared(shared, "darwin") == (
            "only Linux spreads connections over processes: run one process, or several on different ports"
        )

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            (
                {"LISTEN": "127.0.0.1:5001"},
                "keys.store is memory://, so each process would have keys of its own: write a redis:// URL, "
                "which all processes share, or run one process without this option",
            ),
            (
                {"KEYS__STORE": "redis://127.0.0.1:1/0", "LISTEN": "127.0.0.1:5001,127.0.0.2:0"},
                "listen has port 0, so each process would get a port of its own: write the port that all "
                "processes share",
            ),
            (
                {
                    "KEYS__STORE": "redis://127.0.0.1:1/0",
                    "LISTEN": "127.0.0.1:5001",
                    "DECIDE__LISTEN": "127.0.0.1:0",
                    "TRUSTED_PROXIES": "127.0.0.1",
                },
                "decide.listen has port 0, so each process would get a port of its own: write the port that "
                "all processes share",
            ),
        ],
    )
    async def test_what_cannot_be_shared_is_refused_before_anything_starts(
        self, upstream: StandInCore, settings: Mapping[str, str], text: str
    ) -> None:
        """Keys in memory and port 0 are refused with the reason and the remedy: exit 2, and no log line."""
        async with serving(upstream.url, settings, options=SHARED) as process:
            ended = await process.ended()
        assert (ended.code, ended.events) == (2, [])
        assert ended.stderr.endswith(f"Error: Invalid value for '--reuse-port': {text}\n")


@dataclass(frozen=True, slots=True)
class Site:
    """Where processes of the tests listen, and what they use."""

    core: str
    redis: str
    listen: Address
    settings: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def process(self, *options: str, **settings: str) -> AsyncIterator[Serving]:
        """Run a process at this site; `settings` are further ones."""
        given = {"LISTEN": str(self.listen), "KEYS__STORE": self.redis} | settings
        async with serving(self.core, given, options=options) as running:
            yield running


@pytest.fixture
def site(upstream: StandInCore, redis_url: str) -> Site:
    return Site(upstream.url, redis_url, Address("127.0.0.1", free_ports(1)[0]))


@pytest.mark.redis
class TestPort:
    async def test_two_processes_spread_connections_evenly(self, site: Site) -> None:
        """Each of two processes gets its half of many connections, give or take a fifth of it."""
        async with site.process(*SHARED) as first, site.process(*SHARED) as second:
            processes = (first, second)
            addresses = [await process.listening() for process in processes]
            assert [clients for clients, _ in addresses] == [site.listen] * 2
            assert len({admin for _, admin in addresses}) == 2
            for _ in range(CONNECTIONS):
                async with await RawClient.connect(site.listen) as client:
                    assert (await client.ask("GET", "/health")).status == 200
            for process in processes:
                process.terminate()
            ended = [await process.ended() for process in processes]
        assert [(end.code, end.stderr) for end in ended] == [(0, "")] * 2
        served = [sum(event["event"] == "request" for event in end.events) for end in ended]
        assert sum(served) == CONNECTIONS
        assert max(served) <= CONNECTIONS / 2 * (1 + MOST_APART)

    async def test_a_log_tells_the_processes_apart(self, site: Site) -> None:
        """The event `listening` has the id of the process and the admin port that it chose."""
        async with site.process(*SHARED) as process:
            event = await process.event("listening")
            assert event["pid"] == process.process.pid
            assert event["clients"] == str(site.listen)
            assert not event["admin"].endswith(":0")

    @pytest.mark.parametrize(
        ("first", "second", "reason"),
        [
            (
                (),
                SHARED,
                "another program listens there, without --reuse-port or as another user: stop it, start it "
                "with --reuse-port and as the same user, or write another port",
            ),
            (
                SHARED,
                (),
                "processes with --reuse-port listen there: start this one with --reuse-port too, or write "
                "another port",
            ),
        ],
    )
    async def test_a_port_is_shared_only_by_processes_that_all_say_so(
        self, site: Site, first: tuple[str, ...], second: tuple[str, ...], reason: str
    ) -> None:
        async with site.process(*first) as holder:
            await holder.listening()
            async with site.process(*second) as refused:
                ended = await refused.ended()
        text = f"blnk-gateway: listen: cannot listen on {site.listen}: {reason}\n"
        assert (ended.code, ended.stderr) == (1, text)

    @pytest.mark.parametrize("setting", ["admin", "health"])
    async def test_no_other_port_is_shared(self, site: Site, setting: str) -> None:
        taken = Address("127.0.0.1", free_ports(1)[0])
        own = {setting.upper(): str(taken)}
        async with site.process(*SHARED, **own) as holder:
            await holder.listening()
            async with site.process(*SHARED, **own) as refused:
                ended = await refused.ended()
        assert (ended.code, ended.stderr) == (
            1,
            f"blnk-gateway: {setting}: cannot listen on {taken}: another program listens there: with "
            "--reuse-port processes share only the ports of listen and decide.listen; write an address that "
            "only this process has, or port 0 for a free port\n",
        )

    async def test_the_port_for_decisions_is_shared_too(self, site: Site) -> None:
        """An ingress asks every process at one address."""
        address = Address("127.0.0.1", free_ports(1)[0])
        decides = {"DECIDE__LISTEN": str(address), "TRUSTED_PROXIES": "127.0.0.1", "DRAIN__DELAY": "0s"}
        async with site.process(*SHARED, **decides) as first, site.process(*SHARED, **decides) as second:
            events = [await process.event("listening") for process in (first, second)]
            assert [event["decide"] for event in events] == [str(address)] * 2
            for process in (first, second):
                async with await RawClient.connect(address) as ingress:
                    assert (await ingress.ask("GET", "/decide/envoy/health")).status == 200
                process.terminate()
                assert (await process.ended()).code == 0

    @pytest.mark.parametrize("host", ["localhost", "::1", "::"])
    async def test_processes_take_the_same_addresses_of_a_name(
        self, upstream: StandInCore, redis_url: str, host: str
    ) -> None:
        site = Site(upstream.url, redis_url, Address(host, free_ports(1)[0]))
        async with site.process(*SHARED) as first, site.process(*SHARED) as second:
            events = [await process.event("listening") for process in (first, second)]
        assert events[0]["clients"] == events[1]["clients"] != ""

    async def test_a_process_that_is_not_ready_gets_no_connection(
        self, site: Site, upstream: StandInCore
    ) -> None:
        """A process whose Core does not respond stays apart, and the others serve every connection."""
        unreachable = f"http://127.0.0.1:{free_ports(1)[0]}"
        async with site.process(*SHARED) as ready, site.process(*SHARED, UPSTREAM__URL=unreachable) as waits:
            await ready.listening()
            told = await waits.event("waiting to listen")
            assert told["pid"] == waits.process.pid
            assert not told["admin"].endswith(":0")
            await waits.event("waiting for core")
            for _ in range(30):
                async with await RawClient.connect(site.listen) as client:
                    assert (await client.ask("GET", "/health")).status == 200
            waits.terminate()
            assert (await waits.ended()).code == 0


@dataclass(slots=True)
class Load:
    """Clients that send one request after the other until they are stopped, and what went wrong."""

    address: Address
    served: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    async def on_new_connections(self) -> None:
        """Send each request on a connection of its own."""
        while not self.stopped:
            await self._requests("new", 1)

    async def on_kept_connections(self) -> None:
        """Send requests on one connection, until a response says that it ends."""
        while not self.stopped:
            await self._requests("kept", None)

    async def _requests(self, kind: str, count: int | None) -> None:
        sent = 0
        try:
            async with await RawClient.connect(self.address, keep=False) as client:
                for sent in itertools.count() if count is None else range(count):
                    response = await client.ask("GET", READ, key=MASTER_KEY)
                    if response.status != 200:
                        self.failures.append(f"{kind}, request {sent}: {response.status}")
                    self.served += 1
                    if self.stopped or response.value("connection") == "close":
                        return
                    await asyncio.sleep(0.005)
        except (OSError, BrokenResponse) as broken:
            self.failures.append(f"{kind}, request {sent}: {broken!r}")

    async def goes_on(self, count: int = 200) -> None:
        """Wait until so many more requests are served."""
        until = self.served + count
        async with asyncio.timeout(30):
            while self.served < until:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def under_load(address: Address) -> AsyncIterator[Load]:
    """Send requests to `address` all the time, on new connections and on kept ones."""
    load = Load(address)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(NEW):
            tasks.create_task(load.on_new_connections())
        for _ in range(KEPT):
            tasks.create_task(load.on_kept_connections())
        yield load
        load.stopped = True


async def until_nobody_listens(address: Address) -> None:
    """Wait until no socket listens at an IPv4 address."""
    # proc(5): the address in hexadecimal, and 0A for a listening socket.
    place = f"{socket.inet_aton(address.host)[::-1].hex().upper()}:{address.port:04X} 00000000:0000 0A"
    async with asyncio.timeout(10):
        while place in Path("/proc/net/tcp").read_text():
            await asyncio.sleep(0.005)


class TestQueue:
    async def test_requests_that_wait_at_the_socket_of_a_process_that_ends_are_served(
        self, upstream: StandInCore
    ) -> None:
        """Connections that were made while the process was held up are served, and not reset."""
        settings = {"DRAIN__DELAY": "0s", "DRAIN__TIMEOUT": "20s"}
        async with serving(upstream.url, settings) as process, AsyncExitStack() as stack:
            address, _ = await process.listening()
            await process.event("ready")
            process.process.send_signal(signal.SIGSTOP)
            clients = [await RawClient.connect(address, keep=False) for _ in range(WAITING)]
            for client in clients:
                stack.push_async_callback(client.close)
                await client.send(request("GET", READ, key=MASTER_KEY))
            process.terminate()
            process.process.send_signal(signal.SIGCONT)
            responses = [await client.response() for client in clients]
            ended = await process.ended()
        assert {(response.status, response.value("connection")) for response in responses} == {(200, "close")}
        assert (ended.code, ended.stderr) == (0, "")

    async def test_a_connection_of_the_last_moment_gets_its_first_request_served(
        self, upstream: StandInCore
    ) -> None:
        """A client that has just connected when the socket is closed has a second for its first request."""
        settings = {"DRAIN__DELAY": "0s", "DRAIN__TIMEOUT": "20s"}
        async with serving(upstream.url, settings) as process:
            address, _ = await process.listening()
            await process.event("ready")
            late, silent = [await RawClient.connect(address) for _ in range(2)]
            process.terminate()
            await until_nobody_listens(address)
            response = await late.ask("GET", READ, key=MASTER_KEY)
            assert (response.status, response.value("connection")) == (200, "close")
            assert await silent.ended()
            assert not silent.was_reset
            for client in (late, silent):
                await client.close()
            ended = await process.ended()
        assert (ended.code, ended.events[-1]["cut"]) == (0, 0)


@pytest.mark.redis
class TestRestart:
    @pytest.mark.parametrize("delay", ["0s", "300ms"])
    async def test_a_rolling_restart_under_load_loses_no_request(self, site: Site, delay: str) -> None:
        """Two processes are replaced one after the other; every request gets its response meanwhile."""
        async with AsyncExitStack() as stack:

            async def begin() -> Serving:
                process = await stack.enter_async_context(site.process(*SHARED, DRAIN__DELAY=delay))
                await process.listening()
                return process

            running = [await begin(), await begin()]
            ended = []
            async with under_load(site.listen) as load:
                await load.goes_on()
                for _ in range(2):
                    running.append(await begin())
                    await load.goes_on()
                    oldest = running.pop(0)
                    oldest.terminate()
                    ended.append(await oldest.ended())
                    await load.goes_on()
            assert load.failures == []
            assert [(end.code, end.stderr, end.events[-1]["cut"]) for end in ended] == [(0, "", 0)] * 2
