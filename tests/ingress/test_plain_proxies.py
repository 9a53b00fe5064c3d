"""Real ingresses with the files of `deploy/examples` that end TLS, or pass it on, in front of `listen`."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Address
from gateway.config.sections.tls import TlsConfig
from tests.core_stand_in import StandInCore, abort, like_core, responding
from tests.ingress.proxies import CADDY_PROXY, HAPROXY, HTTP_PROXIES, TRAEFIK_PROXY, Proxy, plain_ingress
from tests.ingress.test_examples import AMBIGUOUS, CLIENT, RETRIES
from tests.raw_client import BrokenResponse, RawClient, Response, request
from tests.running import MASTER_KEY, Minted, Running, start
from tests.tls import Authority, Issued

pytestmark = [pytest.mark.nginx, pytest.mark.asyncio(loop_scope="module")]

TRUSTED: dict[str, Any] = {"trusted_proxies": (ip_network("127.0.0.1/32"),)}
ALL = (*HTTP_PROXIES, HAPROXY)
ESCAPING = (CADDY_PROXY, TRAEFIK_PROXY)
"""They make %E9 of the byte E9 in a target, as every program in Go does."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """What an ingress shows, and the context of a client that trusts it."""

    shown: Issued
    trusting: ssl.SSLContext


@dataclass(slots=True)
class Scene:
    """An ingress in front of a gateway, the Core behind it, and a key with every scope."""

    proxy: Proxy
    running: Running
    core: StandInCore
    address: Address
    tls: ssl.SSLContext
    writer: Minted

    async def send(self, data: bytes) -> Response:
        """Send a request to the ingress over TLS, from the address CLIENT."""
        client = await RawClient.connect(self.address, local=CLIENT, tls=self.tls)
        try:
            return await client.call(data)
        finally:
            client.abort()

    async def ask(self, method: str, target: str, **more: Any) -> Response:
        return await self.send(request(method, target, key=self.writer.key, **more))

    async def logged(self, path: str) -> dict[str, Any]:
        """Return the log line of the last request for this path."""
        log = await self.running.logged(f'"path":"{path}"')
        lines = [json.loads(line) for line in log.splitlines() if f'"path":"{path}"' in line]
        found: dict[str, Any] = lines[-1]
        return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Certificates(authority.issue("gateway", "localhost"), authority.trusting())


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=ALL, ids=lambda proxy: str(proxy.name))
async def started(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Scene]:
    proxy: Proxy = request.param
    shown, tls = certificates.shown, certificates.trusting
    settings = TRUSTED | {"health": Address("127.0.0.1", 0)}
    if proxy is HAPROXY:
        settings |= {"proxy_protocol": True, "tls": TlsConfig(certificate=shown.certificate, key=shown.key)}
    async with StandInCore(MASTER_KEY) as core:
        running = await start(core, **settings)
        health = running.gateway.health_address
        assert health is not None
        async with plain_ingress(proxy, running.gateway.address.port, shown, tls, health.port) as address:
            yield Scene(proxy, running, core, address, tls, await running.mint("*:*"))
        await running.close()
    assert running.leaks() == []


@pytest.fixture
def scene(started: Scene) -> Scene:
    """The ingress, and a Core that has recorded nothing yet."""
    started.core.take()
    return started


class TestTarget:
    async def test_reaches_core_with_its_bytes(self, scene: Scene) -> None:
        targets = ["/ledgers", "/ledgers?a=%2F..//&b=c%20d", "/ledgers/a%20b", "/ledgers/a'b(c)!*;x=1"]
        if scene.proxy is not TRAEFIK_PROXY:
            # Traefik decodes what needs no escape.
            targets.append("/ledgers/%6cdg%5f1")
        for target in targets:
            assert (await scene.ask("GET", target)).status == 200
        assert [each.target for each in scene.core.take()] == targets

    async def test_is_refused_if_it_is_ambiguous(self, scene: Scene) -> None:
        """An ingress repairs no target: with a key for everything, the repaired one would reach Core."""
        for target in AMBIGUOUS[: AMBIGUOUS.index("/decide/nginx")]:
            if target.startswith("http") or (target == "/ledgers/\xe9" and scene.proxy in ESCAPING):
                continue
            data = f"GET {target} HTTP/1.1\r\nHost: gateway.test\r\nX-Blnk-Key: {scene.writer.key}\r\n\r\n"
            response = await scene.send(data.encode("latin-1"))
            arrived = [each.target for each in scene.core.take()]
            assert (target, response.status >= 400, arrived) == (target, True, [])


class TestRequest:
    async def test_is_logged_with_the_address_of_the_client(self, scene: Scene) -> None:
        """`allow_from` counts with it; a client cannot choose it."""
        forged = [("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")]
        assert (await scene.ask("GET", "/ledgers/from-here", headers=forged)).status == 200
        assert (await scene.logged("/ledgers/from-here"))["client"] == CLIENT

    async def test_is_named_by_the_ingress_or_the_gateway(self, scene: Scene) -> None:
        """A client chooses neither the request id nor the trace; Core learns of TLS."""
        forged = [("X-Request-Id", "forged"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")]
        assert (await scene.ask("GET", "/ledgers/by-id", headers=forged)).status == 200
        (arrived,) = scene.core.take()
        logged = await scene.logged("/ledgers/by-id")
        assert arrived.values("x-request-id") == [logged["request_id"]] != ["forged"]
        assert logged["trace_id"] != "ab" * 16
        assert arrived.values("x-forwarded-proto") == ["https"]
        # Traefik unpacks what is packed for it alone.
        assert arrived.values("accept-encoding") == (["gzip"] if scene.proxy is TRAEFIK_PROXY else [])

    async def test_is_stamped(self, scene: Scene) -> None:
        assert (await scene.ask("POST", "/ledgers", body=b'{"name":"a"}')).status == 200
        (arrived,) = scene.core.take()
        assert json.loads(arrived.body)["meta_data"] == {"BLNK_GENERATED_BY": scene.writer.id}

    async def test_streams_a_large_body(self, scene: Scene) -> None:
        """The ingress has no limit below the gateway's."""
        body = b"x" * 3_000_000
        assert (await scene.ask("POST", "/ledgers/filter", body=body)).status == 200
        (arrived,) = scene.core.take()
        assert bytes(arrived.body) == body


@pytest.mark.parametrize("proxy", HTTP_PROXIES, ids=[proxy.name for proxy in HTTP_PROXIES])
async def test_a_change_is_sent_once(proxy: Proxy, certificates: Certificates) -> None:
    """Whether the gateway responds with 503, or a connection breaks: a new one, or one that was kept."""
    changes = [("POST", b"{}"), ("POST", b""), ("PUT", b"{}"), ("DELETE", None)]
    async with StandInCore(MASTER_KEY) as gateway:
        shown, tls = certificates.shown, certificates.trusting
        async with plain_ingress(proxy, gateway.port, shown, tls) as address:
            for fault in (responding("503 Service Unavailable"), abort):
                for method, body in changes:
                    gateway.take()
                    gateway.script(like_core, fault)
                    assert await statuses(address, tls, ("GET", None), (method, body)) in (
                        [200, 503],
                        [200, 502],
                    )
                    sent = [each.method for each in gateway.take()]
                    assert sent == ["GET", method]


async def statuses(address: Address, tls: ssl.SSLContext, *requests: tuple[str, bytes | None]) -> list[int]:
    """Send requests one after the other, and return their statuses; 502 for a connection that broke."""
    found: list[int] = []
    async with await RawClient.connect(address, tls=tls) as client:
        for method, body in requests:
            try:
                response = await client.ask(method, "/ledgers", key=MASTER_KEY, body=body, headers=RETRIES)
            except BrokenResponse:
                return [*found, 502]
            found.append(response.status)
    return found
