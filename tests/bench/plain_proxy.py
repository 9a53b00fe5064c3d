"""A proxy as one writes it in ten minutes: `python -m tests.bench.plain_proxy PORT UPSTREAM KEY`.

It checks nothing, stamps nothing and logs nothing, and buffers both bodies.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, web

_SESSION = web.AppKey("session", ClientSession)
_OWN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "x-blnk-key", "date", "server"}
)


def application(upstream: str, master_key: str) -> web.Application:
    """Forward everything to `upstream` (such as http://127.0.0.1:5100) with the master key."""

    async def forward(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        headers["X-Blnk-Key"] = master_key
        body = await request.read()
        async with request.app[_SESSION].request(
            request.method, upstream + request.raw_path, headers=headers, data=body or None
        ) as response:
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _OWN}
            return web.Response(status=response.status, headers=kept, body=await response.read())

    made = web.Application()
    made.router.add_route("*", "/{path:.*}", forward)
    made.cleanup_ctx.append(_session)
    return made


async def _session(application: web.Application) -> AsyncIterator[None]:
    async with ClientSession() as application[_SESSION]:
        yield


if __name__ == "__main__":
    port, upstream_url, key = sys.argv[1:]
    web.run_app(
        application(upstream_url, key),
        host="127.0.0.1",
        port=int(port),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )
