"""A paced load of requests, each with a reference of its own, and the outcome of each.

Rules kept here:
- A request is sent at its time, whatever the outcome of earlier ones; no request is sent again.
- Kept-alive connections are used in turn, so that none is idle for long, and each for a few requests only, so
  that there are always new ones.
- A byte that belongs to no response, and the response to another request, are outcomes of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.keys.minting import mint_key
from tests.faults.requests import Key, Kind, Request
from tests.http_messages import HEAD_END, read_status_and_length

_PATIENCE = 12.0
_HALFWAY_SECONDS = 0.02
_CONNECTIONS = 12
_USES = 10
_GOOD = ("200", "201")
# The kinds of 20 requests in a row; a mint writes to the key store.
_MIX = "rcrcursrcrcrcuscrcrm"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request, between two moments of the loop's clock; `said` is a status and a code."""

    request: Request
    began: float
    ended: float
    said: str

    @property
    def good(self) -> bool:
        return self.said in (("401 AUTH_INVALID_API_KEY",) if self.request.kind is Kind.STRANGER else _GOOD)


class _LostError(Exception):
    """The connection ended; the text says when."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.surplus = b""
        self.ends = False
        self.uses = 0
        self._received = b""
        self._response: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def ask(self, data: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self.uses += 1
        self._received = b""
        self._response = asyncio.get_running_loop().create_future()
        self.send(data)
        return self._response

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)
        elif self._response is not None and not self._response.done():
            self._response.set_exception(_LostError("lost"))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.done():
            self.surplus += data
            return
        self._received += data
        head, ended, rest = self._received.partition(HEAD_END)
        if not ended:
            return
        status, length = read_status_and_length(head)
        if len(rest) < length:
            return
        self.ends = b"\r\nconnection: close" in head.lower()
        self.surplus = rest[length:]
        self._response.set_result((int(status), rest[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._response is not None and not self._response.done():
            self._response.set_exception(_LostError("cut" if self._received else "lost"))


class Load:
    """`rate` requests a second to a port of the loopback interface, once started."""

    def __init__(self, port: int, keys: Sequence[Key], master_key: str, *, rate: float, mints: bool) -> None:
        self.outcomes: list[Outcome] = []
        self.dropped = 0  # connections that were closed between two requests, without notice
        self._port = port
        self._keys = itertools.cycle(keys)
        self._kinds = itertools.cycle([Kind(letter) for letter in _MIX if mints or letter != "m"])
        self._numbers = itertools.count(1)
        self._master_key = master_key
        self._gap = 1 / rate
        self._idle: deque[_Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pacer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._pacer = asyncio.ensure_future(self._pace())

    async def stop(self) -> None:
        """Send no more requests, wait for those in progress, and close every connection."""
        if self._pacer is not None:
            self._pacer.cancel()
            await asyncio.gather(self._pacer, return_exceptions=True)
        await asyncio.gather(*self._tasks)
        while self._idle:
            self._take().close()

    def also(self, kind: Kind, hold: float, port: int) -> None:
        """Send one more request to `port`, whose response pauses halfway for `hold` seconds."""
        self._send(self._next(kind, hold), port)

    def burst(self, count: int) -> None:
        """Send `count` requests at once, each with an unknown key and on a connection of its own."""
        for _ in range(count):
            key = Key(mint_key(os.urandom), "")
            self._send(replace(self._next(Kind.STRANGER), key=key), self._port)

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._send(self._next(next(self._kinds)))
            due += self._gap
            await asyncio.sleep(due - loop.time())

    def _next(self, kind: Kind, hold: float = 0.0) -> Request:
        return Request(f"r{next(self._numbers)}", kind, next(self._keys), hold)

    def _send(self, request: Request, port: int | None = None) -> None:
        task = asyncio.ensure_future(self._exchange(request, port))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, request: Request, port: int | None) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(_PATIENCE + request.hold):
                said = await self._ask(request, port)
        except TimeoutError:
            said = "no response"
        except _LostError as lost:
            said = str(lost)
        except OSError:
            said = "refused"
        self.outcomes.append(Outcome(request, began, loop.time(), said))

    async def _ask(self, request: Request, port: int | None) -> str:
        connection = await (self._free() if port is None else _connect(port))
        first, rest = request.pieces(self._master_key)
        response = connection.ask(first)
        if rest:
            await asyncio.wait({response}, timeout=_HALFWAY_SECONDS)
            if not response.done():
                connection.send(rest)
        status, body = await response
        if connection.surplus:
            connection.close()
            return "surplus"
        if connection.ends or port is not None or connection.uses == _USES:
            connection.close()
        else:
            self._idle.append(connection)
        return _said(status, body, request)

    async def _free(self) -> _Connection:
        while len(self._idle) >= _CONNECTIONS:
            connection = self._take()
            if connection.surplus:
                raise _LostError("surplus")
            if connection.open:
                return connection
        return await _connect(self._port)

    def _take(self) -> _Connection:
        connection = self._idle.popleft()
        self.dropped += not connection.open
        return connection


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


def _said(status: int, body: bytes, request: Request) -> str:
    """Return the status, with the code of an error; or say that it is the response to another request."""
    try:
        content = json.loads(body)
        if status < 300:
            name = content["name" if request.kind is Kind.MINT else "reference"]
            return str(status) if name == request.reference else "the response to another request"
        return f"{status} {content['error_detail']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{status} with a body that is not the gateway's or Core's"
