"""The applications of the private listeners: health, metrics, and further pages.

Rules kept here:
- `/health/alive` depends on nothing; readiness is the report of `Health`.
- Errors have Core's shape.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.checks import ALIVE, AdminAccess, Check
from gateway.admin.console.files import FILES, PAGE, file_handler
from gateway.admin.console.stream import EventStreams
from gateway.admin.errors import PageError
from gateway.admin.explain import Explaining, ExplainPage
from gateway.admin.health import Health
from gateway.admin.responses import error_response, failure_response, json_response
from gateway.errors import Code, GatewayError
from gateway.telemetry.metrics import Metrics

MAX_BODY = 16 * 1024
"""Bytes of a body that the private listeners read."""

Page = Callable[[Mapping[str, str]], Awaitable[object]]
"""From the parameters of a query to what becomes JSON; raises PageError or GatewayError."""


def admin_application(
    health: Health,
    metrics: Metrics,
    access: AdminAccess,
    *,
    explaining: Explaining | None = None,
    pages: Mapping[str, Page] | None = None,
    events: EventStreams | None = None,
) -> web.Application:
    """Return health and metrics behind the checks of `access`, and `POST /explain` where it has a policy.

    `pages` are further ones by their paths; `/` lists the paths. With `events` there is the console.
    """
    application = _application(health, metrics, access.checks())
    if explaining is not None:
        application.router.add_post("/explain", ExplainPage(explaining).respond)
    for path, page in (pages or {}).items():
        application.router.add_get(path, _responder(page))
    if events is not None:
        _add_console(application, events)
    routes = [(way.resource.canonical, way.method) for way in application.router.routes() if way.resource]
    paths = [f"{method} {path}" for path, method in sorted(routes) if method != "HEAD"]
    application.router.add_get("/", _responder(_index(paths)))
    return application


def _add_console(application: web.Application, events: EventStreams) -> None:
    for path in FILES:
        application.router.add_get(path, file_handler(path))
    application.router.add_get(f"{PAGE}/events", events.respond, allow_head=False)
    application.on_shutdown.append(events.close)


def _index(paths: list[str]) -> Page:
    async def index(_: Mapping[str, str]) -> object:
        return {"paths": paths}

    return index


def _responder(page: Page) -> Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        try:
            return json_response(200, msgspec.json.encode(await page(request.query)))
        except (PageError, GatewayError) as failure:
            return failure_response(failure)

    return respond


def health_application(health: Health, metrics: Metrics) -> web.Application:
    """Return health and metrics alone, for kubelet and Prometheus: they use any name and carry no secret."""
    return _application(health, metrics, [])


class _Pages:
    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def alive(self, _: web.Request) -> web.Response:
        return json_response(200, msgspec.json.encode({"status": "alive"}))

    async def ready(self, _: web.Request) -> web.Response:
        status, members = self._health.report()
        return json_response(status, msgspec.json.encode(members))

    async def metrics(self, request: web.Request) -> web.Response:
        page, content_type = await self._metrics.shared_exposition(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})


def _application(health: Health, metrics: Metrics, checks: list[Check]) -> web.Application:
    application = web.Application(middlewares=[_errors, *map(_middleware, checks)], client_max_size=MAX_BODY)
    application.on_response_prepare.append(_harden)
    pages = _Pages(health, metrics)
    application.router.add_get(ALIVE, pages.alive)
    application.router.add_get("/health/ready", pages.ready)
    application.router.add_get("/metrics", pages.metrics)
    return application


def _middleware(check: Check) -> Middleware:
    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        return check(request) or await handler(request)

    return checked


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        refusal = error_response(405, "GEN_METHOD_NOT_ALLOWED", "Method not allowed")
        refusal.headers["Allow"] = error.headers["Allow"]
        return refusal
    except web.HTTPNotFound:
        return error_response(404, "GEN_NOT_FOUND", "Route not found")
    except web.HTTPRequestEntityTooLarge:
        return error_response(413, Code.BODY_TOO_LARGE.code, Code.BODY_TOO_LARGE.message)


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "blnk-gateway"
