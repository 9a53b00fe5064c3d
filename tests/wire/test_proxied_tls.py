"""TLS behind a PROXY header: the header comes first, in clear, and names the client of the TLS connection."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.sections.tls import TlsConfig
from tests.addresses import free_ports
from tests.conftest import Start
from tests.core_stand_in import StandInCore
from tests.raw_client import PATIENCE, RawClient, request
from tests.running import Running
from tests.tls import Authority
from tests.wire.asserting import READ
from tests.wire.test_proxied_connections import PROXY, TEXT, TRUSTED, haproxy, refusals, running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def proxied(start_gateway: Start, authority: Authority) -> Running:
    """A gateway that speaks TLS behind a proxy at 127.0.0.1."""
    shown = authority.issue("gateway", "localhost")
    tls = TlsConfig(certificate=shown.certificate, key=shown.key, client_ca=authority.certificate)
    return await start_gateway(tls=tls, **TRUSTED)


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """The context of a client with a certificate."""
    return authority.trusting(authority.issue("payments"))


@asynccontextmanager
async def secured(opened: socket.socket, context: ssl.SSLContext) -> AsyncIterator[RawClient]:
    """Speak TLS on a connection."""
    opened.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        streams = await asyncio.open_connection(sock=opened, ssl=context, server_hostname="localhost")
    async with RawClient(*streams, keep=True) as client:
        yield client


async def test_the_header_comes_before_the_handshake(
    proxied: Running, upstream: StandInCore, context: ssl.SSLContext
) -> None:
    """The client of the header is the peer, and the certificate is the one that it showed in TLS."""
    key = (await proxied.mint("ledgers:read")).key
    address = proxied.gateway.address
    opened = socket.create_connection((address.host, address.port), source_address=(PROXY, 0))
    opened.sendall(TEXT)
    async with secured(opened, context) as client:
        for _ in range(2):
            assert (await client.call(request("GET", READ, key=key))).status == 200
    seen = upstream.requests[0]
    assert (seen.values("x-forwarded-for"), seen.values("x-forwarded-proto")) == (["203.0.113.7"], ["https"])
    await proxied.logged("CN=payments")


async def test_header_and_handshake_may_come_in_one_segment(
    proxied: Running, context: ssl.SSLContext
) -> None:
    """What follows the header in its segment is the begin of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    async with await proxied.connect(local=PROXY) as client:
        await client.send(TEXT + outgoing.read())
        incoming.write(await client.read_some())
        session.do_handshake()


async def test_a_header_inside_tls_is_none(proxied: Running, context: ssl.SSLContext) -> None:
    """A connection that begins with the handshake is cut, whatever comes in it."""
    address = proxied.gateway.address
    opened = socket.create_connection((address.host, address.port), source_address=(PROXY, 0))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with secured(opened, context):
            pass
    assert refusals(proxied) == {"malformed": 1.0}


async def test_haproxy_passes_tls_through_and_names_the_client(
    proxied: Running, upstream: StandInCore, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """haproxy that passes TLS through names the client, and the gateway sees the client's certificate."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    key = (await proxied.mint("ledgers:read")).key
    [port] = free_ports(1)
    command = haproxy("tcp", "send-proxy-v2")(tmp_path, port, proxied.gateway.address.port)
    async with running(*command, port=port):
        opened = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.5", 0))
        async with secured(opened, context) as client:
            assert (await client.call(request("GET", READ, key=key))).status == 200
    assert upstream.requests[0].values("x-forwarded-for") == ["127.0.0.5"]
    await proxied.logged("CN=payments")
