"""`POST /explain` of the admin listener: why a request gets the response it gets.

Rules kept here:
- A caller is named by scopes or by key id. A body with a key in it is refused, and not repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from gateway.admin.errors import PageError
from gateway.admin.responses import failure_response, json_response
from gateway.config import Config
from gateway.errors import Code, GatewayError
from gateway.keys.store import KeysById
from gateway.policy.explanation import EACH_KIND, explain, members
from gateway.policy.verdicts import (
    HOLDABLE,
    HOLDABLE_FORM,
    PolicyCaller,
    Unreadable,
    holds_key,
    key_with,
    read_request,
)


@dataclass(frozen=True, slots=True)
class Explaining:
    """The sources of an explanation: the live configuration, the keys, the time in Unix seconds."""

    config: Callable[[], Config]
    keys: KeysById
    now: Callable[[], float]


class _ExplainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: str
    path: str
    scopes: tuple[str, ...] | None = None
    key_id: str | None = None


_decode = msgspec.json.Decoder(_ExplainRequest).decode


class ExplainPage:
    """Explains requests."""

    def __init__(self, explaining: Explaining) -> None:
        self._explaining = explaining

    async def respond(self, request: web.Request) -> web.Response:
        """Return the explanation that a request asks for."""
        try:
            return json_response(200, await self._explanation(await request.read()))
        except (PageError, GatewayError) as failure:
            return failure_response(failure)

    async def _explanation(self, body: bytes) -> bytes:
        asked = _read_request(body)
        request = read_request(asked.method, asked.path)
        if isinstance(request, Unreadable):
            raise _malformed(request.text)
        callers = await self._callers(asked)
        config = self._explaining.config()
        policy = config.policy
        explanation = explain(request, callers, policy, self._explaining.now())
        return msgspec.json.encode(members(explanation) | {"policy_sha256": config.sha256})

    async def _callers(self, asked: _ExplainRequest) -> tuple[PolicyCaller, ...]:
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


def _read_request(body: bytes) -> _ExplainRequest:
    """Return the request that a body describes; no error repeats any of it."""
    try:
        asked = _decode(body)
    except (ValueError, RecursionError):
        asked = None
    if holds_key(body.decode("latin-1")) or (asked is not None and holds_key(asked.key_id or "")):
        raise _malformed("the body holds a key, or what looks like one: give scopes, or the key's id")
    if asked is None or (asked.scopes is not None and asked.key_id is not None):
        raise _malformed("write method and path, and at most one of scopes (a list) and key_id")
    return asked


def _malformed(message: str) -> PageError:
    return PageError(Code.MALFORMED_BODY, message)
