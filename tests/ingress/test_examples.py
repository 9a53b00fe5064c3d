"""Real ingresses with the files of `deploy/examples`: what they let through to Core, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Address
from gateway.errors import Code, error_body
from tests.core_stand_in import StandInCore, responding
from tests.ingress.proxies import (
    ENVOY,
    EXAMPLES,
    HAPROXY,
    HTTP_PROXIES,
    NGINX,
    PROXIES,
    TRAEFIK,
    Proxy,
    ingress,
)
from tests.raw_client import RawClient, Response, request
from tests.running import MASTER_KEY, Minted, Running, start
from tests.test_error_shape import UnreachableKeyStore

pytestmark = [pytest.mark.nginx, pytest.mark.asyncio(loop_scope="module")]

CLIENT = "127.0.0.9"
DECIDES: dict[str, Any] = {
    "decide": {"listen": Address("127.0.0.1", 0)},
    "trusted_proxies": (ip_network("127.0.0.1/32"),),
}
RETRIES = [
    ("Idempotency-Key", "1"),
    ("X-Idempotency-Key", "1"),
    ("X-Envoy-Retry-On", "5xx,reset,gateway-error"),
    ("X-Envoy-Max-Retries", "3"),
]
"""Headers with which a client could ask an ingress to repeat a request."""
each_proxy = pytest.mark.parametrize("proxy", PROXIES, ids=[proxy.name for proxy in PROXIES])


@dataclass(slots=True)
class Scene:
    """A gateway that decides, an ingress that asks it, the Core behind both, and a key that reads ledgers."""

    proxy: Proxy
    running: Running
    core: StandInCore
    address: Address
    reader: Minted

    async def send(self, data: bytes, *, head: bool = False) -> Response:
        """Send a request to the ingress from the address CLIENT."""
        async with await RawClient.connect(self.address, local=CLIENT) as client:
            return await client.call(data, head=head)

    async def ask(self, method: str, target: str, **more: Any) -> Response:
        """Send a request with the key of the reader, unless another one is given."""
        return await self.send(request(method, target, **({"key": self.reader.key} | more)))

    async def decided(self, last: str) -> list[dict[str, Any]]:
        """Return the decisions in the log, once the one on the path `last` is there."""
        log = await self.running.logged(f'"path":"{last}"')
        lines = map(json.loads, log.splitlines())
        return [line for line in lines if line["event"] == "request"]


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=PROXIES, ids=lambda proxy: str(proxy.name)
)
async def started(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    proxy: Proxy = request.param
    async with StandInCore(MASTER_KEY) as core:
        running = await start(core, **DECIDES)
        decides = running.gateway.decide_address
        assert decides is not None
        async with ingress(proxy, decides.port, core.port) as address:
            yield Scene(proxy, running, core, address, await running.mint("ledgers:read"))
        await running.close()
    assert running.leaks() == []


@pytest.fixture
def scene(started: Scene) -> Scene:
    """The ingress, and a Core that has recorded nothing yet."""
    started.core.take()
    return started


def refused(response: Response) -> tuple[int, bytes]:
    return response.status, response.body


def catalogued(code: Code, message: str = "") -> tuple[int, bytes]:
    return code.status, error_body(code.code, message or code.message)


async def test_every_example_is_tested() -> None:
    files = {"nginx.conf", "traefik-routes.yaml", "Caddyfile", "envoy.yaml"}
    plain = {"nginx-proxy.conf", "traefik-proxy.yaml", "Caddyfile.proxy", "envoy-proxy.yaml", "haproxy.cfg"}
    assert files == {proxy.example for proxy in PROXIES}
    assert plain == {proxy.example for proxy in (*HTTP_PROXIES, HAPROXY)}
    assert {path.name for path in EXAMPLES.iterdir()} == files | plain


class TestAllowed:
    async def test_reaches_core_with_the_bytes_of_the_target(self, scene: Scene) -> None:
        """With the master key in place of the client's, and the names of the key in place of forged ones."""
        targets = ["/ledgers", "/ledgers?a=%2F..//&b=c%20d", "/ledgers/a%20b", "/ledgers/a'b(c)!*;x=1"]
        if scene.proxy is not TRAEFIK:
            # Traefik decodes what needs no escape, before it asks.
            targets.append("/ledgers/%6cdg%5f1")
        forged = [("X-Blnk-Key-Id", "forged"), ("X-Blnk-Owner", "forged")]
        for target in targets:
            assert (await scene.ask("GET", target, headers=forged)).status == 200
        reader = scene.reader
        assert [
            (each.method, each.target, each.values("x-blnk-key"), each.values("x-blnk-key-id"))
            for each in scene.core.take()
        ] == [("GET", target, [MASTER_KEY], [reader.id]) for target in targets]

    async def test_names_no_key_on_a_public_route(self, scene: Scene) -> None:
        assert (
            await scene.ask("GET", "/health", key=None, headers=[("X-Blnk-Key-Id", "forged")])
        ).status == 200
        (arrived,) = scene.core.take()
        assert [value for value in arrived.values("x-blnk-key-id") if value] == []

    async def test_takes_its_body_past_the_gateway(self, scene: Scene) -> None:
        writer = await scene.running.mint("ledgers:write")
        body = b"x" * 300_000
        assert (await scene.ask("POST", "/ledgers/filter", key=writer.key, body=body)).status == 200
        (arrived,) = scene.core.take()
        assert (arrived.method, arrived.target, bytes(arrived.body)) == ("POST", "/ledgers/filter", body)
        decided = (await scene.decided("/ledgers/filter"))[-1]
        assert (decided["decision"], decided["bytes_in"]) == ("allow", 0)

    async def test_reaches_core_once(self, scene: Scene) -> None:
        """Whatever Core responds, and whatever a client of this machine asks the ingress for."""
        writer = await scene.running.mint("ledgers:write")
        scene.core.script(responding("503 Service Unavailable"))
        async with await RawClient.connect(scene.address) as client:
            response = await client.ask(
                "POST", "/ledgers/filter", key=writer.key, body=b"{}", headers=RETRIES
            )
        assert response.status == 503
        assert [each.target for each in scene.core.take()] == ["/ledgers/filter"]


class TestRefused:
    async def test_says_what_the_gateway_says(self, scene: Scene) -> None:
        """Status and body are the gateway's own, as if the client had asked it."""
        found = [
            await scene.ask("GET", "/ledgers", key=None),
            await scene.ask("GET", "/ledgers", key="A" * 43 + "="),
            await scene.ask("GET", "/balances"),
            await scene.ask("GET", "/nothing", key=MASTER_KEY),
        ]
        assert list(map(refused, found)) == [
            catalogued(Code.MISSING_KEY),
            catalogued(Code.INVALID_KEY),
            catalogued(Code.INSUFFICIENT, "Insufficient permissions for balances:read"),
            catalogued(Code.NOT_FOUND),
        ]
        assert scene.core.take() == []

    async def test_is_what_only_the_gateway_can_do(self, scene: Scene) -> None:
        """Routes that stamp, `/api-keys`, and `master` routes with the master key."""
        key = (await scene.running.mint("*:*")).key
        found = [
            await scene.ask("POST", "/transactions", key=key, body=b"{}"),
            await scene.ask("GET", "/api-keys", key=key),
            await scene.ask("GET", "/%61pi-keys", key=key),
            await scene.ask("GET", "/hooks", key=MASTER_KEY),
        ]
        assert list(map(refused, found)) == [catalogued(Code.NOT_DECIDED)] * 4
        assert scene.core.take() == []

    async def test_is_a_request_with_two_keys(self, scene: Scene) -> None:
        for first, second in ((scene.reader.key, "x"), ("x", scene.reader.key), (scene.reader.key,) * 2):
            response = await scene.ask("GET", "/ledgers", key=first, headers=[("X-Blnk-Key", second)])
            assert refused(response) == catalogued(Code.INVALID_KEY)
        assert scene.core.take() == []


AMBIGUOUS = (
    "//ledgers", "/ledgers//x", "/ledgers/./x", "/ledgers/../balances", "/balances/../ledgers",
    "/ledgers/%2e%2e/x", "/balances/%2e%2e/ledgers", "/balances%2F..%2Fledgers", "/ledgers%2Fx",
    "/ledgers%2fx", "/ledgers%5Cx", "/ledgers\\x", "/balances/..;/ledgers", "/ledgers;/../balances",
    "/ledgers/x#/y", "/ledgers/%00", "/ledgers/%zz", "/ledgers/%", "/ledgers/\xe9", "/ledgers/\t",
    "/ledgers/a b", "ledgers", "*", "//core/ledgers", "/./ledgers", "/api-keys/../ledgers",
    "/ledgers/..%2fapi-keys", "http://core/balances", "/%2fledgers", "/ledgers/.%2e/hooks",
    "/decide/nginx", "/decide/forwarded", "/decide/envoy/ledgers",
)  # fmt: skip
NEVER_NORMALISED = (NGINX, ENVOY)


class TestTarget:
    async def test_core_gets_what_was_decided(self, scene: Scene) -> None:
        """Whatever an ingress makes of a target: Core gets the path that the gateway has allowed, or nothing.

        nginx and Envoy repair nothing, so of these nothing reaches Core.
        """
        for target in AMBIGUOUS:
            data = f"GET {target} HTTP/1.1\r\nHost: gateway.test\r\nX-Blnk-Key: {scene.reader.key}\r\n\r\n"
            await scene.send(data.encode("latin-1"))
        assert (await scene.ask("GET", "/ledgers/the-last")).status == 200
        arrived = [(each.method, each.path) for each in scene.core.take()]
        decided = await scene.decided("/ledgers/the-last")
        allowed = [(each["method"], each["path"]) for each in decided if each["status"] == 200]
        assert arrived == allowed[-len(arrived) :]
        assert {path.split("/")[1] for _, path in arrived} == {"ledgers"}
        if scene.proxy in NEVER_NORMALISED:
            assert arrived == [("GET", "/ledgers/the-last")]

    async def test_cannot_be_named_by_the_client(self, scene: Scene) -> None:
        """Headers of every convention change no decision, in no spelling, and do not disturb one."""
        assert refused(await scene.ask("GET", "/balances", headers=naming("/ledgers"))) == catalogued(
            Code.INSUFFICIENT, "Insufficient permissions for balances:read"
        )
        assert (await scene.ask("GET", "/ledgers", headers=naming("/balances"))).status == 200
        assert [each.target for each in scene.core.take()] == ["/ledgers"]

    async def test_cannot_be_hidden_by_the_client(self, scene: Scene) -> None:
        """A client that lists headers in `Connection`, so that a proxy drops them, gets no further."""
        hidden = ", ".join(name for name, _ in naming("/ledgers"))
        response = await scene.ask(
            "GET", "/balances", headers=[("Connection", f"{hidden}, X-Blnk-Key, X-Forwarded-For")]
        )
        assert response.status >= 400
        assert scene.core.take() == []

    async def test_is_logged_with_the_address_of_the_client(self, scene: Scene) -> None:
        """`allow_from` counts with it; a client cannot choose it."""
        forged = [("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")]
        assert (await scene.ask("GET", "/ledgers/from-here", headers=forged)).status == 200
        assert (await scene.decided("/ledgers/from-here"))[-1]["client"] == CLIENT

    async def test_is_logged_with_the_request_id_that_core_gets(self, scene: Scene) -> None:
        """It is the ingress's own, but Traefik makes none, and passes on what its client sent."""
        forged = [("X-Request-Id", "forged")]
        assert (await scene.ask("GET", "/ledgers/by-id", headers=forged)).status == 200
        (arrived,) = scene.core.take()
        logged = (await scene.decided("/ledgers/by-id"))[-1]["request_id"]
        assert arrived.values("x-request-id") == [logged]
        assert (logged == "forged") == (scene.proxy is TRAEFIK)


def naming(target: str) -> list[tuple[str, str]]:
    """Return headers that name a GET of this target in every convention."""
    return [
        (spelling, value)
        for name, value in (
            ("X-Original-Method", "GET"),
            ("X-Original-URI", target),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Uri", target),
        )
        for spelling in (name, name.lower(), name.replace("-", "_"))
    ]


class TestFailure:
    @each_proxy
    async def test_of_the_gateway_allows_nothing(self, proxy: Proxy) -> None:
        """Neither a key store that does not respond, nor a gateway that has ended, opens an ingress."""
        async with StandInCore(MASTER_KEY) as core:
            running = await start(core, store=UnreachableKeyStore(), **DECIDES)
            decides = running.gateway.decide_address
            assert decides is not None
            async with ingress(proxy, decides.port, core.port) as address:
                core.take()
                statuses = [await status_of(address)]
                await running.close()
                statuses.append(await status_of(address))
                assert core.take() == []
        assert statuses == {NGINX: [503, 500], TRAEFIK: [503, 500], ENVOY: [403, 403]}.get(proxy, [503, 502])


async def status_of(address: Address) -> int:
    async with await RawClient.connect(address) as client:
        return (await client.ask("GET", "/ledgers", key="A" * 43 + "=")).status
