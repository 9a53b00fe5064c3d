"""The private listeners: health, metrics, and why a request gets the answer it gets.

Rules kept here:
- `/health/alive` depends on nothing; readiness is the report of `Health`.
- A page in an operator's browser cannot reach the admin listener under a name of its own (DNS rebinding):
  `Host` names a loopback address or the listener's own, or the answer is 421 (RFC 9110 section 15.5.20).
- `POST /explain` names a caller by scopes or by key id; a body with a key in it is refused, not repeated.
- Errors have Core's shape.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.errors import PageError
from gateway.config import Config
from gateway.errors import Code, GatewayError, error_body
from gateway.keys.authority import KnownKeys
from gateway.policy.explain import EACH_KIND, explain, members
from gateway.policy.verdicts import (
    HOLDABLE,
    HOLDABLE_FORM,
    Caller,
    Policy,
    Unreadable,
    holds_key,
    key_with,
    read_request,
)
from gateway.proxy.errors import code_of, message_of
from gateway.telemetry.metrics import Metrics

ALIVE = "/health/alive"
MAX_BODY = 16 * 1024
"""Bytes of a body that the private listeners read."""

_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?\Z")


class Revealable(Protocol):
    """A secret that shows its text only where it is asked to (`config.Secret`)."""

    def reveal(self) -> str:
        """The text."""


@dataclass(slots=True, kw_only=True)
class Health:
    """What the server knows about itself; the server changes it, the listeners read it.

    `core_seen` is True once Core was seen secure and accepted the master key; until then `core_reason`
    says why not. `degraded` maps a dependency ("upstream", "store") to what is wrong with it; it costs
    readiness only for dependencies named in `ready_requires`. `notices` are warnings that come and go by
    themselves; `last_reload` tells what came of the last file that was tried.
    """

    version: str
    ready_requires: tuple[str, ...] = ()
    policy_loaded: bool = False
    policy_sha256: str = ""
    core_seen: bool = False
    core_reason: str = "Core has not been asked yet"
    draining: bool = False
    degraded: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notices: Callable[[], list[str]] = list
    last_reload: dict[str, object] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """Why the gateway is not ready; empty if it is."""
        reasons = []
        if not self.policy_loaded:
            reasons.append("no policy loaded")
        if not self.core_seen:
            reasons.append(self.core_reason)
        if self.draining:
            reasons.append("draining")
        required = (name for name in self.ready_requires if name in self.degraded)
        return reasons + [f"{name}: {self.degraded[name]}" for name in required]

    @property
    def ready(self) -> bool:
        """Whether clients may be sent here."""
        return not self.reasons

    def report(self) -> tuple[int, dict[str, object]]:
        """The status, 200 or 503, and the members of `/health/ready`."""
        reasons = self.reasons
        status = "not ready" if reasons else "degraded" if self.degraded else "ready"
        return 503 if reasons else 200, {
            "status": status,
            "reasons": reasons,
            "degraded": dict(self.degraded),
            "warnings": [*self.warnings, *self.notices()],
            "policy_sha256": self.policy_sha256,
            "last_reload": dict(self.last_reload),
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Explaining:
    """What `POST /explain` answers from: the live configuration, the keys, the time in Unix seconds."""

    config: Callable[[], Config]
    keys: KnownKeys
    now: Callable[[], float]


def admin_application(
    health: Health,
    metrics: Metrics,
    *,
    token: Revealable | None,
    hosts: Collection[str],
    explaining: Explaining | None = None,
    pages: Mapping[str, Page] | None = None,
) -> web.Application:
    """Health and metrics behind the admin listener's checks, and `POST /explain` where it has a policy.

    `/` lists the paths.
    With a `token`, everything but `/health/alive` needs `Authorization: Bearer <token>` (RFC 6750).
    `hosts` are the addresses or names of the listener that `Host` may carry besides loopback ones; an
    unspecified address among them (`0.0.0.0`, `::`) admits every IP literal, which no rebinding can forge.
    `pages` are further ones by their paths.
    """
    checks = [_host_check(hosts)]
    if token is not None:
        checks.append(_bearer_check(token))
    application = _application(health, metrics, checks)
    if explaining is not None:
        application.router.add_post("/explain", _ExplainPage(explaining).answer)
    for path, page in (pages or {}).items():
        application.router.add_get(path, _answerer(page))
    routes = [(way.resource.canonical, way.method) for way in application.router.routes() if way.resource]
    paths = [f"{method} {path}" for path, method in sorted(routes) if method != "HEAD"]
    application.router.add_get("/", _answerer(_index(paths)))
    return application


Page = Callable[[Mapping[str, str]], Awaitable[object]]
"""From the parameters of a query to what becomes JSON; raises PageError or GatewayError."""


def _index(paths: list[str]) -> Page:
    async def index(_: Mapping[str, str]) -> object:
        return {"paths": paths}

    return index


def _answerer(page: Page) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return _json(200, msgspec.json.encode(await page(request.query)))
        except (PageError, GatewayError) as failure:
            return _failed(failure)

    return answer


def health_application(health: Health, metrics: Metrics) -> web.Application:
    """Health and metrics alone, for kubelet and Prometheus, which come by any name and carry no secret."""
    return _application(health, metrics, [])


class _Pages:
    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def alive(self, _: web.Request) -> web.Response:
        return _json(200, msgspec.json.encode({"status": "alive"}))

    async def ready(self, _: web.Request) -> web.Response:
        status, members = self._health.report()
        return _json(status, msgspec.json.encode(members))

    async def metrics(self, request: web.Request) -> web.Response:
        page, content_type = await self._metrics.shared_exposition(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})


class _ExplainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: str
    path: str
    scopes: tuple[str, ...] | None = None
    key_id: str | None = None


_question = msgspec.json.Decoder(_ExplainRequest).decode


class _ExplainPage:
    def __init__(self, explaining: Explaining) -> None:
        self._explaining = explaining

    async def answer(self, request: web.Request) -> web.Response:
        try:
            return _json(200, await self._explanation(await request.read()))
        except (PageError, GatewayError) as failure:
            return _failed(failure)

    async def _explanation(self, body: bytes) -> bytes:
        asked = _read_question(body)
        request = read_request(asked.method, asked.path)
        if isinstance(request, Unreadable):
            raise _malformed(request.text)
        callers = await self._callers(asked)
        config = self._explaining.config()
        policy = Policy(config.routes, config.keys.master == "accept", config.keys.report_only)
        explanation = explain(request, callers, policy, self._explaining.now())
        return msgspec.json.encode(members(explanation) | {"policy_sha256": config.sha256})

    async def _callers(self, asked: _ExplainRequest) -> tuple[Caller, ...]:
        if asked.key_id is not None:
            record = await self._explaining.keys.get(asked.key_id)
            if record is None:
                raise PageError(Code.KEY_NOT_FOUND)
            return (record.principal(),)
        if asked.scopes is None:
            return EACH_KIND
        if not set(asked.scopes) <= set(HOLDABLE):
            raise _malformed(HOLDABLE_FORM)
        return (key_with(asked.scopes),)


def _read_question(body: bytes) -> _ExplainRequest:
    """The question that a body asks; no error repeats any of it."""
    try:
        asked = _question(body)
    except msgspec.MsgspecError:
        asked = None
    if holds_key(body.decode("latin-1")) or (asked is not None and holds_key(asked.key_id or "")):
        raise _malformed("the body holds a key, or what looks like one: give scopes, or the key's id")
    if asked is None or (asked.scopes is not None and asked.key_id is not None):
        raise _malformed("write method and path, and at most one of scopes (a list) and key_id")
    return asked


def _malformed(message: str) -> PageError:
    return PageError(Code.MALFORMED_BODY, message)


def _application(health: Health, metrics: Metrics, checks: list[_Check]) -> web.Application:
    application = web.Application(middlewares=[_errors, *map(_middleware, checks)], client_max_size=MAX_BODY)
    application.on_response_prepare.append(_harden)
    pages = _Pages(health, metrics)
    application.router.add_get(ALIVE, pages.alive)
    application.router.add_get("/health/ready", pages.ready)
    application.router.add_get("/metrics", pages.metrics)
    return application


# A check answers a request that it refuses, and gives None for one that may pass.
_Check = Callable[[web.Request], web.Response | None]


def _host_check(hosts: Collection[str]) -> _Check:
    allowed = {"localhost", *(host.lower() for host in hosts)}
    any_address = any(address is not None and address.is_unspecified for address in map(_address, allowed))

    def check(request: web.Request) -> web.Response | None:
        named = request.headers.getall("Host", [])
        name = _host_name(named[0]) if len(named) == 1 else ""
        address = _address(name)
        if name in allowed or (address is not None and (any_address or address.is_loopback)):
            return None
        return _error(421, "GATEWAY_ADMIN_HOST", "Host is not an address of the admin listener")

    return check


def _bearer_check(token: Revealable) -> _Check:
    expected = token.reveal().encode()

    def check(request: web.Request) -> web.Response | None:
        if request.path == ALIVE:
            return None
        sent = request.headers.getall("Authorization", [])
        scheme, _, given = (sent[0] if len(sent) == 1 else "").partition(" ")
        # Both comparisons always run; compare_digest takes the same time for any wrong text.
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
        if right and scheme.lower() == "bearer":
            return None
        refusal = _error(401, "GATEWAY_ADMIN_UNAUTHORIZED", "Authorization: Bearer is missing or wrong")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    return check


def _middleware(check: _Check) -> Middleware:
    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        return check(request) or await handler(request)

    return checked


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        refusal = _error(405, "GEN_METHOD_NOT_ALLOWED", "Method not allowed")
        refusal.headers["Allow"] = error.headers["Allow"]
        return refusal
    except web.HTTPNotFound:
        return _error(404, "GEN_NOT_FOUND", "Route not found")
    except web.HTTPRequestEntityTooLarge:
        return _error(413, Code.BODY_TOO_LARGE.code, Code.BODY_TOO_LARGE.message)


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "blnk-gateway"


def _error(status: int, code: str, message: str) -> web.Response:
    return _json(status, error_body(code, message))


def _failed(failure: PageError | GatewayError) -> web.Response:
    if isinstance(failure, PageError):
        return _error(failure.code.status, failure.code.code, str(failure))
    code = code_of(failure)
    return _error(code.status, code.code, message_of(failure))


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json; charset=utf-8"})


def _host_name(host: str) -> str:
    """The name or address of a `Host` value, lower case, without port, brackets and a final dot."""
    bracketed = _BRACKETED.match(host)
    return bracketed[1] if bracketed else host.partition(":")[0].lower().removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
