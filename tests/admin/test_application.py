from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient, AiohttpServer

from gateway.admin.application import admin_application, health_application
from gateway.admin.checks import AdminAccess
from gateway.admin.health import Health
from gateway.telemetry import Build, Metrics
from tests.telemetry.sources import sources

HOST_REFUSED = ("GATEWAY_ADMIN_HOST", "Host is not an address of the admin listener")
UNAUTHORIZED = ("GATEWAY_ADMIN_UNAUTHORIZED", "Authorization: Bearer is missing or wrong")


class Text:
    """A secret as the listeners take it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text


def ready_health(**changes: Any) -> Health:
    state: dict[str, Any] = {
        "version": "1.2.3",
        "policy_sha256": "abc",
        "core_seen": True,
    }
    known: dict[str, Any] = state | changes
    return Health(**known)


def metrics_of(health: Health) -> Metrics:
    return Metrics(sources(ready=lambda: health.ready), Build(health.version, "interpreted"))


def admin(
    health: Health | None = None, *, token: Text | None = None, hosts: tuple[str, ...] = ()
) -> web.Application:
    health = health or ready_health()
    return admin_application(health, metrics_of(health), AdminAccess(hosts, token))


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": message, "error_detail": {"code": code, "message": message}}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "status": "ready",
        "reasons": [],
        "degraded": {},
        "warnings": [],
        "policy_sha256": "abc",
        "last_reload": {},
        "version": "1.2.3",
    } | changes


class TestHealth:
    def test_a_fresh_gateway_is_not_ready_and_says_why(self) -> None:
        assert Health(version="1.2.3").report() == (
            503,
            report(
                status="not ready",
                reasons=["Core has not been asked yet"],
                policy_sha256="",
            ),
        )

    def test_policy_and_core_make_it_ready(self) -> None:
        assert ready_health().report() == (200, report())

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"core_seen": False, "core_reason": "Core answers without a key"}, "Core answers without a key"),
            ({"listens": False}, "the port for clients is not open yet"),
            ({"draining": True}, "draining"),
        ],
    )
    def test_each_condition_alone_makes_it_not_ready(self, changes: dict[str, Any], reason: str) -> None:
        assert ready_health(**changes).report() == (503, report(status="not ready", reasons=[reason]))

    def test_a_lost_dependency_is_degraded_but_ready(self) -> None:
        degraded = {"upstream": "connection refused"}
        assert ready_health(degraded=degraded).report() == (200, report(status="degraded", degraded=degraded))

    def test_a_required_dependency_costs_readiness(self) -> None:
        degraded = {"upstream": "connection refused", "store": "timed out"}
        assert ready_health(degraded=degraded, ready_requires=("store",)).report() == (
            503,
            report(status="not ready", reasons=["store: timed out"], degraded=degraded),
        )

    def test_a_required_dependency_that_is_well_costs_nothing(self) -> None:
        assert ready_health(ready_requires=("store", "upstream")).report() == (200, report())

    def test_warnings_are_shown_and_cost_nothing(self) -> None:
        assert ready_health(warnings=["the key store is empty"]).report() == (
            200,
            report(warnings=["the key store is empty"]),
        )


class TestPages:
    async def test_alive_depends_on_nothing(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(admin(Health(version="1.2.3")))
        response = await client.get("/health/alive")
        assert (response.status, await response.read()) == (200, b'{"status":"alive"}')

    async def test_ready_follows_the_state(self, aiohttp_client: AiohttpClient) -> None:
        health = ready_health()
        client = await aiohttp_client(admin(health))
        before = await client.get("/health/ready")
        health.draining = True
        after = await client.get("/health/ready")
        assert [(before.status, await before.json()), (after.status, await after.json())] == [
            (200, report()),
            (503, report(status="not ready", reasons=["draining"])),
        ]

    async def test_metrics_are_served_in_the_format_asked_for(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(admin())
        plain = await client.get("/metrics")
        asked = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert (
            plain.status,
            plain.headers["Content-Type"],
            "blnk_gateway_ready 1.0" in await plain.text(),
        ) == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
            True,
        )
        assert (asked.content_type, (await asked.text())[-6:]) == ("application/openmetrics-text", "# EOF\n")

    async def test_responses_are_not_cached_and_do_not_name_the_software_below(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        client = await aiohttp_client(admin())
        response = await client.get("/health/ready")
        assert {
            name: value for name, value in response.headers.items() if name not in {"Date", "Content-Length"}
        } == {
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Server": "blnk-gateway",
        }

    @pytest.mark.parametrize(
        ("method", "path", "status", "code", "message"),
        [
            ("GET", "/nothing", 404, "GEN_NOT_FOUND", "Route not found"),
            ("GET", "/metrics/", 404, "GEN_NOT_FOUND", "Route not found"),
            ("POST", "/metrics", 405, "GEN_METHOD_NOT_ALLOWED", "Method not allowed"),
        ],
    )
    async def test_errors_have_cores_shape(
        self, aiohttp_client: AiohttpClient, method: str, path: str, status: int, code: str, message: str
    ) -> None:
        client = await aiohttp_client(admin())
        response = await client.request(method, path)
        assert (response.status, await response.json()) == (status, error(code, message))

    async def test_a_refused_method_names_the_allowed_ones(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(admin())
        response = await client.delete("/metrics")
        assert response.headers["Allow"] == "GET,HEAD"

    async def test_the_health_listener_has_the_same_pages_for_any_host(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        health = ready_health()
        client = await aiohttp_client(health_application(health, metrics_of(health)))
        statuses = {
            path: (await client.get(path, headers={"Host": "pod.example:5003"})).status
            for path in ("/health/alive", "/health/ready", "/metrics", "/")
        }
        assert statuses == {"/health/alive": 200, "/health/ready": 200, "/metrics": 200, "/": 404}


class TestBearer:
    @pytest.mark.parametrize(
        "given",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Bearer s3cre",
            "Basic s3cret",
            "s3cret",
            "Bearer \xff",
        ],
    )
    @pytest.mark.parametrize("path", ["/health/ready", "/metrics", "/nothing"])
    async def test_without_the_right_bearer_nothing_is_said(
        self, aiohttp_client: AiohttpClient, path: str, given: str | None
    ) -> None:
        client = await aiohttp_client(admin(token=Text("s3cret")))
        response = await client.get(path, headers={} if given is None else {"Authorization": given})
        assert (response.status, response.headers["WWW-Authenticate"], await response.json()) == (
            401,
            "Bearer",
            error(*UNAUTHORIZED),
        )

    @pytest.mark.parametrize("given", ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "])
    async def test_the_right_bearer_opens_every_page(self, aiohttp_client: AiohttpClient, given: str) -> None:
        client = await aiohttp_client(admin(token=Text("s3cret")))
        response = await client.get("/metrics", headers={"Authorization": given})
        assert response.status == 200

    async def test_alive_needs_no_bearer(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(admin(token=Text("s3cret")))
        assert (await client.get("/health/alive")).status == 200

    async def test_two_authorizations_are_refused(self, aiohttp_server: AiohttpServer) -> None:
        server = await aiohttp_server(admin(token=Text("s3cret")))
        head = "Host: localhost\r\nAuthorization: Bearer s3cret\r\nAuthorization: Bearer other"
        assert (await exchange(server.port, f"GET /metrics HTTP/1.1\r\n{head}"))[0] == 401


async def exchange(port: int | None, head: str) -> tuple[int, bytes]:
    """Send raw bytes; return the status and body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, body = response.partition(b"\r\n\r\n")
    return int(top.split()[1]), body


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST:5002",
            "localhost.",
            "127.0.0.1:5002",
            "127.9.9.9",
            "[::1]:5002",
            "10.1.2.3",
            "gw",
        ],
    )
    async def test_loopback_and_configured_hosts_are_served(
        self, aiohttp_client: AiohttpClient, host: str
    ) -> None:
        client = await aiohttp_client(admin(hosts=("10.1.2.3", "GW")))
        assert (await client.get("/health/ready", headers={"Host": host})).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            "[::2]:1",
            "[::1]x",
            "",
            ":1",
            "[::1",
        ],
    )
    @pytest.mark.parametrize("path", ["/health/alive", "/metrics", "/nothing"])
    async def test_any_other_host_is_misdirected(
        self, aiohttp_server: AiohttpServer, host: str, path: str
    ) -> None:
        server = await aiohttp_server(admin(hosts=("10.1.2.3",)))
        status, body = await exchange(server.port, f"GET {path} HTTP/1.1\r\nHost: {host}")
        assert (status, json.loads(body)) == (421, error(*HOST_REFUSED))

    async def test_a_request_without_host_is_misdirected(self, aiohttp_server: AiohttpServer) -> None:
        server = await aiohttp_server(admin())
        assert (await exchange(server.port, "GET /metrics HTTP/1.0"))[0] == 421

    async def test_the_host_of_an_absolute_target_counts_for_nothing(
        self, aiohttp_server: AiohttpServer
    ) -> None:
        server = await aiohttp_server(admin())
        status, _ = await exchange(server.port, "GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example")
        assert status == 421

    @pytest.mark.parametrize(
        ("host", "status"), [("10.1.2.3:5002", 200), ("[fd00::1]", 200), ("evil.example", 421)]
    )
    @pytest.mark.parametrize("listening", ["0.0.0.0", "::"])
    async def test_a_listener_on_every_address_answers_to_addresses_but_to_no_name(
        self, aiohttp_client: AiohttpClient, listening: str, host: str, status: int
    ) -> None:
        client = await aiohttp_client(admin(hosts=(listening,)))
        assert (await client.get("/health/ready", headers={"Host": host})).status == status

    async def test_the_host_is_judged_before_the_bearer(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(admin(token=Text("s3cret")))
        headers = {"Host": "evil.example", "Authorization": "Bearer s3cret"}
        assert (await client.get("/metrics", headers=headers)).status == 421
