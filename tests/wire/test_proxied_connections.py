"""Connections that begin with a PROXY header: from whom, in which pieces, and what their client is then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Address, UnixAddress
from gateway.errors import Code
from gateway.keys.memory_store import MemoryKeyStore
from gateway.policy.terms import KeyTerms, read_network
from gateway.server.exit_codes import Exit
from tests.addresses import free_ports
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held
from tests.raw_client import RawClient, request
from tests.running import MASTER_KEY, Running, eventually
from tests.serving import serving
from tests.wire.asserting import READ, STREAMED, assert_error
from tests.wire.test_proxy_header import FOUR, SIX, UNIX, binary

PROXY, STRANGER = "127.0.0.1", "127.0.0.9"
TRUSTED: dict[str, Any] = {"proxy_protocol": True, "trusted_proxies": (ip_network(f"{PROXY}/32"),)}
TEXT = b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n"
OTHER = TEXT.replace(b"203.0.113.7", b"203.0.113.8")
LOCAL = binary(0x20, 0x00, b"")
REFUSALS = "blnk_gateway_proxy_header_refusals_total"


@pytest.fixture
async def proxied(start_gateway: Start) -> Running:
    """A gateway behind a proxy at 127.0.0.1 that sends PROXY headers."""
    return await start_gateway(**TRUSTED)


async def ask_behind(gateway: Running, header: bytes, key: str, **more: Any) -> int:
    """Return the status of a request behind a header."""
    async with await gateway.connect(local=PROXY) as client:
        await client.send(header)
        return (await client.ask("GET", READ, key=key, **more)).status


def refusals(gateway: Running) -> dict[str, float]:
    """Return the counts of refusals that are not 0, by their reason."""
    page, _ = gateway.gateway.metrics.exposition("")
    found = (line.split("} ") for line in page.decode().splitlines() if line.startswith(REFUSALS))
    return {name.split('"')[1]: float(count) for name, count in found if float(count)}


class TestClient:
    @pytest.mark.parametrize(
        ("header", "client"),
        [
            (TEXT, "203.0.113.7"),
            (binary(0x21, 0x11, FOUR), "203.0.113.7"),
            (binary(0x21, 0x21, SIX), "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n", "unknown"),
            (binary(0x21, 0x31, UNIX), "unknown"),
            (LOCAL, PROXY),
        ],
    )
    async def test_is_the_one_that_the_header_names(
        self, proxied: Running, upstream: StandInCore, header: bytes, client: str
    ) -> None:
        """The client of the header is the peer in the log and for Core."""
        key = (await proxied.mint("ledgers:read")).key
        assert await ask_behind(proxied, header, key) == 200
        assert upstream.requests[0].values("x-forwarded-for") == [client]
        await proxied.logged(f'"client":"{client}"')

    @pytest.mark.parametrize("header", [TEXT, b"PROXY UNKNOWN\r\n", binary(0x21, 0x31, UNIX)])
    async def test_cannot_name_another_one(
        self, proxied: Running, upstream: StandInCore, header: bytes
    ) -> None:
        """The client behind the proxy is not trusted: its own headers of a proxy are dropped."""
        key = (await proxied.mint("ledgers:read")).key
        spoken = [("X-Forwarded-For", "198.51.100.1"), ("X-Request-Id", "mine")]
        assert await ask_behind(proxied, header, key, headers=spoken) == 200
        [seen] = upstream.requests
        assert "198.51.100.1" not in str(seen.headers)
        assert seen.values("x-request-id") != ["mine"]

    async def test_that_is_a_trusted_proxy_names_its_own_client(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """An HTTP proxy behind the balancer names its client in X-Forwarded-For, if it is trusted itself."""
        networks = (ip_network(f"{PROXY}/32"), ip_network("203.0.113.7/32"))
        gateway = await start_gateway(proxy_protocol=True, trusted_proxies=networks)
        key = (await gateway.mint("ledgers:read")).key
        for header in (TEXT, OTHER):
            assert (
                await ask_behind(gateway, header, key, headers=[("X-Forwarded-For", "198.51.100.1")]) == 200
            )
        await gateway.logged('"client":"203.0.113.8"')
        clients = [json.loads(line).get("client") for line in gateway.log.getvalue().splitlines()]
        assert [client for client in clients if client] == ["198.51.100.1", "203.0.113.8"]

    async def test_a_second_header_is_no_request(self, proxied: Running, upstream: StandInCore) -> None:
        """A client that sends a header of its own behind the proxy's gets 400."""
        key = (await proxied.mint("ledgers:read")).key
        assert await ask_behind(proxied, TEXT + OTHER, key) == 400
        assert upstream.requests == []

    async def test_is_judged_by_the_networks_of_its_key(self, start_gateway: Start) -> None:
        """`allow_from` of a key is compared with the client of the header."""
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store, **TRUSTED)
        minted = await gateway.mint("ledgers:read")
        terms = KeyTerms(allow_from=(read_network("203.0.113.7/32"),))
        await store.revise(minted.id, lambda record: replace(record, terms=terms))
        found = [await ask_behind(gateway, header, minted.key) for header in (TEXT, OTHER, LOCAL)]
        assert found == [200, Code.ADDRESS_DENIED.status, Code.ADDRESS_DENIED.status]

    async def test_has_a_fair_share_of_the_connections(self, start_gateway: Start) -> None:
        """One client behind the proxy cannot keep another one out."""
        gateway = await start_gateway(limits={"connections": 3}, **TRUSTED)
        key = (await gateway.mint("ledgers:read")).key
        flood = [await gateway.connect(local=PROXY) for _ in range(3)]
        for client in flood:
            await client.send(TEXT)
            assert (await client.ask("GET", "/health")).status == 200
        assert await ask_behind(gateway, OTHER, key) == 200

    async def test_on_a_unix_socket_is_the_one_of_the_header(
        self, start_gateway: Start, upstream: StandInCore, tmp_path: Path
    ) -> None:
        """A proxy on a Unix socket that is trusted names its clients as any other."""
        address = UnixAddress(f"{tmp_path}/gateway.sock")
        gateway = await start_gateway(
            proxy_protocol=True, trusted_proxies=("unix",), listen=(address, Address("127.0.0.1", 0))
        )
        key = (await gateway.mint("ledgers:read")).key
        client = RawClient(*await asyncio.open_unix_connection(address.path), keep=True)
        assert (await client.call(TEXT + request("GET", READ, key=key))).status == 200
        await client.close()
        assert upstream.requests[0].values("x-forwarded-for") == ["203.0.113.7"]


class TestHeader:
    async def test_may_come_in_pieces_of_any_size(self, proxied: Running) -> None:
        """A header that is cut anywhere, and one with requests behind it in one segment, are the same."""
        key = (await proxied.mint("ledgers:read")).key
        sent = request("GET", READ, key=key)
        for data in (TEXT, binary(0x21, 0x21, SIX)):
            async with await proxied.connect(local=PROXY) as client:
                for byte in data:
                    await client.send(bytes((byte,)))
                    await asyncio.sleep(0)
                assert (await client.call(sent)).status == 200
            async with await proxied.connect(local=PROXY) as client:
                await client.send(data + sent + sent)
                assert [(await client.response()).status for _ in range(2)] == [200, 200]

    @pytest.mark.parametrize(
        "data",
        [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xa5", b"PROXY TCP4 no\r\n"],
        ids=["a request", "TLS", "malformed"],
    )
    async def test_is_required_from_a_proxy(self, proxied: Running, data: bytes) -> None:
        """A trusted proxy without a header is cut without a byte, and the reason is in the log."""
        async with await proxied.connect(local=PROXY) as client:
            await client.send(data)
            assert await client.ended()
        assert refusals(proxied) == {"malformed": 1.0}
        event = await logged_event(proxied, "connection without a PROXY header")
        assert (event["level"], event["peer"]) == ("warning", PROXY)

    @pytest.mark.parametrize("data", [TEXT + request("GET", "/health"), request("GET", "/health"), b""])
    async def test_is_not_read_from_anybody_else(
        self, proxied: Running, upstream: StandInCore, data: bytes
    ) -> None:
        """A peer that is not trusted is cut at once, with a header or without one."""
        for _ in range(3):
            async with await proxied.connect(local=STRANGER) as client:
                await client.send(data)
                assert await client.ended()
        assert refusals(proxied) == {"untrusted": 3.0}
        event = await logged_event(proxied, "connection without a PROXY header")
        assert event["reason"] == "trusted_proxies does not name its peer"
        assert proxied.log.getvalue().count("connection without a PROXY header") == 1
        assert upstream.requests == []

    async def test_has_the_time_of_a_head(self, start_gateway: Start) -> None:
        """A header that is not whole in `timeouts.head` ends its connection, however it drips."""
        gateway = await start_gateway(timeouts={"head": 0.3}, **TRUSTED)
        async with await gateway.connect(local=PROXY) as client, asyncio.timeout(5):
            dripping = asyncio.ensure_future(_drip(client, TEXT[:-1] * 20))
            assert await client.ended()
            dripping.cancel()
        assert refusals(gateway) == {"late": 1.0}

    async def test_connections_without_one_are_bounded(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Beyond 128 connections without a whole header the oldest is cut; others are served meanwhile."""
        gateway = await start_gateway(**TRUSTED)
        key = (await gateway.mint("ledgers:read")).key
        release = asyncio.Event()
        upstream.script(held(release))
        async with await gateway.connect(local=PROXY) as busy, contextlib.AsyncExitStack() as flood:
            await busy.send(TEXT + request("GET", READ, key=key))
            await upstream.arrived()
            waiting = [
                await flood.enter_async_context(await gateway.connect(local=PROXY)) for _ in range(140)
            ]
            await eventually(lambda: refusals(gateway) == {"crowded": 12.0}, "12 refusals")
            assert [await client.ended() for client in waiting[:12]] == [True] * 12
            assert await ask_behind(gateway, OTHER, key) == 200
            release.set()
            assert (await busy.response()).status == 200

    async def test_is_not_read_unless_it_is_asked_for(self, gateway: Running) -> None:
        """Without `proxy_protocol` a header is a malformed request."""
        async with await gateway.connect() as client:
            response = await client.call(TEXT + request("GET", "/health"))
        assert_error(response, Code.MALFORMED_REQUEST)


class TestDrain:
    async def test_waits_for_a_header_that_is_on_its_way(self, proxied: Running) -> None:
        """A connection whose header is not whole when the drain begins gets its response."""
        key = (await proxied.mint("ledgers:read")).key
        async with await proxied.connect(local=PROXY) as client:
            await client.send(TEXT[:20])
            draining = asyncio.ensure_future(proxied.gateway.drain(0))
            assert await asyncio.wait({draining}, timeout=0.2) == (set(), {draining})
            assert (await client.call(TEXT[20:] + request("GET", READ, key=key))).status == 200
        assert await draining == Exit.OK

    @pytest.mark.parametrize(("sent", "code"), [(TEXT[:20], Exit.FAILED), (b"", Exit.OK)])
    async def test_cuts_one_that_does_not_come(self, proxied: Running, sent: bytes, code: Exit) -> None:
        """A header that stays incomplete is cut and counted; a connection without a byte is only closed."""
        async with await proxied.connect(local=PROXY) as client, asyncio.timeout(5):
            await client.send(sent)
            assert await proxied.gateway.drain(0.1) == code
            assert await client.ended()


async def _drip(client: RawClient, data: bytes) -> None:
    for byte in data:
        await client.send(bytes((byte,)))
        await asyncio.sleep(0.02)


async def logged_event(gateway: Running, name: str) -> dict[str, Any]:
    log = await gateway.logged(name)
    return next(event for event in map(json.loads, log.splitlines()) if event["event"] == name)


async def test_a_process_reads_headers_on_its_own_event_loop(upstream: StandInCore) -> None:
    """`serve`, whose event loop is uvloop's, reads a header in pieces, and large bodies behind it."""
    settings = {"PROXY_PROTOCOL": "true", "TRUSTED_PROXIES": PROXY}
    async with serving(upstream.url, settings) as process:
        address, _ = await process.listening()
        await process.event("ready")
        for cut in (1, 20, len(TEXT)):
            async with await RawClient.connect(address, local=PROXY) as client:
                await client.send(TEXT[:cut])
                await asyncio.sleep(0.02)
                await client.send(TEXT[cut:])
                for _ in range(2):
                    sent = await client.ask("POST", STREAMED, key=MASTER_KEY, body=b"x" * 300_000)
                    assert sent.status == 200
    assert {tuple(request.values("x-forwarded-for")) for request in upstream.requests} == {("203.0.113.7",)}


# Real proxies.

HAPROXY = """
global
    nbthread 1
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    server gateway 127.0.0.1:{gateway} {option} check inter 200ms
"""
NGINX = """
{load}
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
stream {{
    server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{gateway}; proxy_protocol on; }}
}}
"""
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[None]:
    """Run a proxy, until the end of the block, once it listens."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        await eventually(lambda: _listens(port), f"{command[0]} at its port")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def haproxy(mode: str, option: str) -> Callable[[Path, int, int], tuple[str, ...]]:
    """Return what makes the command of a haproxy that sends this kind of header."""

    def command(folder: Path, port: int, gateway: int) -> tuple[str, ...]:
        file = folder / "haproxy.cfg"
        file.write_text(HAPROXY.format(mode=mode, port=port, gateway=gateway, option=option))
        return "haproxy", "-db", "-f", str(file)

    return command


def nginx(folder: Path, port: int, gateway: int) -> tuple[str, ...]:
    """Return the command of an nginx that sends headers of version 1."""
    if not NGINX_STREAM.exists():
        pytest.skip("nginx has no stream module: install libnginx-mod-stream")
    file = folder / "nginx.conf"
    load = f"load_module {NGINX_STREAM};"
    file.write_text(NGINX.format(load=load, folder=folder, port=port, gateway=gateway))
    return "nginx", "-p", str(folder), "-c", str(file)


@pytest.mark.parametrize(
    "proxy",
    [
        haproxy("tcp", "send-proxy"),
        haproxy("tcp", "send-proxy-v2"),
        haproxy("http", "send-proxy-v2 proxy-v2-options unique-id"),
        nginx,
    ],
    ids=["haproxy 1", "haproxy 2", "haproxy 2 with an extension", "nginx"],
)
async def test_a_real_proxy_names_its_client(
    proxied: Running,
    upstream: StandInCore,
    tmp_path: Path,
    proxy: Callable[[Path, int, int], tuple[str, ...]],
) -> None:
    """haproxy and nginx name the address of each client, and haproxy's own checks are served, too."""
    [port] = free_ports(1)
    command = proxy(tmp_path, port, proxied.gateway.address.port)
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    key = (await proxied.mint("ledgers:read")).key
    clients = ["127.0.0.5", "127.0.0.6"]
    async with running(*command, port=port):
        for local in clients:
            async with await proxied.connect(Address("127.0.0.1", port), local=local) as client:
                for _ in range(2):
                    assert (await client.ask("GET", READ, key=key)).status == 200
    seen = [request.values("x-forwarded-for")[-1].split(", ")[-1] for request in upstream.requests]
    assert seen == [client for client in clients for _ in range(2)]
    assert refusals(proxied) == {}
