"""The server of the stand-in for Core: HTTP/1.1 on raw asyncio, with the exact bytes of each connection.

Rules kept here:
- Like Core with `server.secure`, it sends 401 to a request without the master key, whatever a test sets.
- A request is recorded once its head has arrived, and before a behaviour sees it.
- A test sets one behaviour for each request, which owns the exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from urllib.parse import unquote

from tests.core_stand_in.behaviours import like_core, refuse
from tests.core_stand_in.exchange import Behaviour, Connection, Exchange, Request, reset

_ARRIVAL_PATIENCE = 10.0  # seconds that a test waits for a request to arrive
_LONGEST_HEAD = 1 << 20
_BACKLOG = 1024  # connections that wait to be accepted: those of a whole pool may come at once


def is_public(target: str) -> bool:
    """Return whether Core serves the target without a key."""
    return unquote(target.split("?", maxsplit=1)[0]) in ("/", "/health")


class StandInCore:
    """Listens on a free port of the loopback, with `tls` if given; `async with` starts and closes it.

    Without `records` it keeps no connections, requests and probes: for loads that last.
    """

    def __init__(self, master_key: str, tls: ssl.SSLContext | None = None, *, records: bool = True) -> None:
        self.master_key = master_key
        self._tls = tls
        self._records = records
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self.probes: list[Request] = []
        self.behaviour: Behaviour = like_core
        self.probe_behaviour: Behaviour = like_core
        self.keep_bodies = True
        self.port = 0
        self._script: deque[Behaviour] = deque()
        self._closing = asyncio.Event()
        self._arrival = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._resets = False

    async def __aenter__(self) -> StandInCore:
        self._closing.clear()
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=_LONGEST_HEAD, backlog=_BACKLOG, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._closing.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    @contextlib.asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Reset every connection, and do not listen, inside the block."""
        self._reset_all()
        await self.__aexit__()
        try:
            yield
        finally:
            await self.__aenter__()

    @contextlib.contextmanager
    def resetting(self) -> Iterator[None]:
        """Reset every connection, and inside the block each new one as soon as it is accepted."""
        self._resets = True
        self._reset_all()
        try:
            yield
        finally:
            self._resets = False

    def script(self, *behaviours: Behaviour) -> None:
        """Set one behaviour for each of the next requests; after them `self.behaviour` holds again."""
        self._script.extend(behaviours)

    def take(self) -> list[Request]:
        """Return the requests recorded since the last call."""
        taken, self.requests = self.requests, []
        return taken

    async def arrived(self, count: int = 1) -> list[Request]:
        """Wait until the heads of `count` requests have arrived. Raises TimeoutError if they do not."""
        async with asyncio.timeout(_ARRIVAL_PATIENCE):
            while len(self.requests) < count:
                self._arrival.clear()
                await self._arrival.wait()
        return self.requests

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def used(self) -> list[Connection]:
        """Return the connections that carried more than probes."""
        return [connection for connection in self.connections if connection.requests or connection.tail]

    def behaviour_for(self, request: Request) -> Behaviour:
        """Return the behaviour for this request, and take it from the script."""
        if not is_public(request.target) and request.values("x-blnk-key") != [self.master_key]:
            return refuse
        if request.is_probe:
            return self.probe_behaviour
        return self._script.popleft() if self._script else self.behaviour

    def _reset_all(self) -> None:
        for task, writer in self._tasks.items():
            reset(writer)
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._resets:
            reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        connection = Connection()
        if self._records:
            self.connections.append(connection)
        try:
            await self._serve(connection, reader, writer)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # what was read is recorded; an incomplete request is marked as such
        except asyncio.CancelledError:
            pass  # cancelled by this class; asyncio's own callback would report it as a fault
        finally:
            connection.gone.set()
            for request in connection.requests:
                request.ended.set()
            if not writer.is_closing():  # flush what a behaviour that closed has written
                writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            del self._tasks[task]

    async def _serve(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while (request := await connection.next_request(reader)) is not None:
            exchange = Exchange(request, reader, writer, keep_body=self.keep_bodies, closing=self._closing)
            if self._records:
                self._record(connection, request)
            await self.behaviour_for(request)(exchange)
            while not request.complete:
                await exchange.piece()
            if writer.is_closing():
                return

    def _record(self, connection: Connection, request: Request) -> None:
        if request.is_probe:
            self.probes.append(request)
            return
        connection.requests.append(request)
        self.requests.append(request)
        self._arrival.set()
