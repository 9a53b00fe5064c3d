"""The responses of the private listeners, in Core's shape where they are errors."""

from __future__ import annotations

from aiohttp import web

from gateway.admin.errors import PageError
from gateway.errors import GatewayError, error_body
from gateway.proxy.errors import code_of, message_of


def json_response(status: int, body: bytes) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json; charset=utf-8"})


def error_response(status: int, code: str, message: str) -> web.Response:
    """Return an error in Core's shape."""
    return json_response(status, error_body(code, message))


def failure_response(failure: PageError | GatewayError) -> web.Response:
    """Return the response to what a page raised."""
    if isinstance(failure, PageError):
        return error_response(failure.code.status, failure.code.code, str(failure))
    code = code_of(failure)
    return error_response(code.status, code.code, message_of(failure))
