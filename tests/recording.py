"""A stand-in for Blnk Core on raw asyncio that keeps the exact bytes of every connection.

Rules kept here:
- What arrives is recorded before it is judged: `Connection.received` is the wire, in order, less the probes.
- It reads as leniently as a careless server would, so that a smuggled request is seen as a request.
- Like Core with `server.secure`, it answers 401 to whatever lacks the master key.
- What it answers is scripted per test by a `Behaviour`: one coroutine that owns the exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

PATIENCE = 10.0  # seconds that a test waits for a request to arrive
PROBE_AGENT = "blnk-gateway-probe"
ANSWER = json.dumps(
    {"status": "UP"}
    | {f"{kind}_id": f"{kind}_stored" for kind in ("ledger", "balance", "transaction", "identity")}
).encode()
REFUSAL = b'{"error":"no","error_detail":{"code":"AUTH_MISSING_API_KEY","message":"no"}}'
LONGEST_HEAD = 1 << 20
PIECE = 1 << 18
BACKLOG = 1024  # connections that wait to be accepted: those of a whole pool may come at once

Headers = list[tuple[str, str]]


def values_of(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """Every value of the header, whose name is matched without regard to case."""
    return [value for key, value in headers if key.lower() == name.lower()]


def is_public(target: str) -> bool:
    """Whether Core answers the target without a key."""
    return unquote(target.split("?", maxsplit=1)[0]) in ("/", "/health")


@dataclass(slots=True, eq=False)
class Request:
    """One request as it arrived; `complete` once its last body byte has."""

    method: str
    target: str
    version: str
    headers: Headers
    raw: bytearray
    body: bytearray = field(default_factory=bytearray)
    body_length: int = 0
    trailers: Headers = field(default_factory=list)
    complete: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def values(self, name: str) -> list[str]:
        return values_of(self.headers, name)

    @property
    def head(self) -> bytes:
        return bytes(self.raw).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    @property
    def is_probe(self) -> bool:
        return self.values("user-agent") == [PROBE_AGENT]


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection: the requests read from it without the probes, and what followed them."""

    requests: list[Request] = field(default_factory=list)
    tail: bytes = b""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def received(self) -> bytes:
        """The bytes of the wire in order, less the probes."""
        return b"".join(bytes(request.raw) for request in self.requests) + self.tail


class Exchange:
    """One request whose head has arrived; a `Behaviour` reads its body and writes its answer."""

    def __init__(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        keep_body: bool,
        closing: asyncio.Event,
    ) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer
        self._keep_body = keep_body
        self._closing = closing
        self._chunked = "chunked" in ",".join(request.values("transfer-encoding")).lower()
        self._remaining = 0 if self._chunked else int((request.values("content-length") or ["0"])[0] or 0)
        if not self._chunked and not self._remaining:
            self._finish()

    async def piece(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises `EOFError` when the gateway ends the connection before the body is whole.
        """
        if self.request.complete:
            return b""
        if self._chunked and not self._remaining:
            self._remaining = int((await self._line()).split(b";")[0], 16)
            if not self._remaining:
                await self._trailers()
                self._finish()
                return b""
        data = await self._reader.read(min(self._remaining, PIECE))
        if not data:
            raise EOFError
        self._remaining -= len(data)
        self.request.body_length += len(data)
        if self._keep_body:
            self.request.body += data
            self.request.raw += data
        if self._chunked and not self._remaining:
            await self._line()
        elif not self._remaining:
            self._finish()
        return data

    async def body(self) -> bytes:
        """The whole body, read to its end."""
        while await self.piece():
            pass
        return bytes(self.request.body)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(
        self, status: str = "200 OK", body: bytes = ANSWER, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Writes one whole answer with a Content-Length; HEAD gets no body."""
        sent = b"" if self.request.method == "HEAD" else body
        await self.write(
            head(
                status,
                [
                    ("Content-Type", "application/json; charset=utf-8"),
                    ("Content-Length", str(len(body))),
                    *headers,
                ],
            )
            + sent
        )

    async def never(self) -> None:
        """Does nothing until the upstream itself is closed."""
        await self._closing.wait()

    def abort(self) -> None:
        """Resets the connection."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Ends the connection after what was written."""
        self._writer.close()

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\n")
        if self._keep_body:
            self.request.raw += line
        return line

    async def _trailers(self) -> None:
        while line := (await self._line()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            self.request.trailers.append((name, value.strip()))

    def _finish(self) -> None:
        self.request.complete = True
        self.request.ended.set()


Behaviour = Callable[[Exchange], Awaitable[None]]


def head(status: str, headers: Iterable[tuple[str, str]], version: str = "HTTP/1.1") -> bytes:
    """An answer's head, ending in its empty line."""
    lines = [f"{version} {status}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def like_core(exchange: Exchange) -> None:
    """Reads the body, then answers 200 and a record of every kind."""
    await exchange.body()
    await exchange.answer()


async def echo(exchange: Exchange) -> None:
    """Reads the body, then answers with what was asked: its method, target and body length."""
    await exchange.body()
    request = exchange.request
    await exchange.answer(
        body=json.dumps([request.method, request.target, request.body_length], separators=(",", ":")).encode()
    )


async def never(exchange: Exchange) -> None:
    """Reads the body and never answers."""
    await exchange.body()
    await exchange.never()


async def abort(exchange: Exchange) -> None:
    """Reads the body and resets the connection without a byte."""
    await exchange.body()
    exchange.abort()


def answering(
    status: str = "200 OK", body: bytes = ANSWER, headers: Iterable[tuple[str, str]] = ()
) -> Behaviour:
    """Reads the body, then answers so."""

    async def behave(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.answer(status, body, headers)

    return behave


def early(status: str = "413 Payload Too Large", body: bytes = ANSWER) -> Behaviour:
    """Answers before the body has been read, and reads none of it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.answer(status, body, [("Connection", "close")])
        await exchange.never()

    return behave


def raw(*pieces: bytes, pause: float = 0.0, close: bool = True, reset: bool = False) -> Behaviour:
    """Reads the body, then writes these bytes, `pause` seconds apart, and ends the connection."""

    async def behave(exchange: Exchange) -> None:
        await exchange.body()
        for number, data in enumerate(pieces):
            if number:
                await asyncio.sleep(pause)
            await exchange.write(data)
        if reset:
            exchange.abort()
        elif close:
            exchange.close()

    return behave


def held(release: asyncio.Event, then: Behaviour = like_core) -> Behaviour:
    """Waits for `release` before it behaves."""

    async def behave(exchange: Exchange) -> None:
        await release.wait()
        await then(exchange)

    return behave


class RecordingUpstream:
    """Listens on a free port of the loopback, with `tls` if given; `async with` starts and closes it."""

    def __init__(self, master_key: str, tls: ssl.SSLContext | None = None) -> None:
        self.master_key = master_key
        self._tls = tls
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> RecordingUpstream:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=LONGEST_HEAD, backlog=BACKLOG, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def script(self, *behaviours: Behaviour) -> None:
        """One behaviour for each of the next requests; after them `self.behaviour` holds again."""
        self._script.extend(behaviours)

    def take(self) -> list[Request]:
        """The requests recorded since the last call, whose list starts anew."""
        taken, self.requests = self.requests, []
        return taken

    async def arrived(self, count: int = 1) -> list[Request]:
        """Waits until the heads of `count` requests have arrived; raises `TimeoutError` if they do not."""
        async with asyncio.timeout(PATIENCE):
            while len(self.requests) < count:
                self._arrival.clear()
                await self._arrival.wait()
        return self.requests

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def used(self) -> list[Connection]:
        """The connections that carried more than probes."""
        return [connection for connection in self.connections if connection.requests or connection.tail]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection()
        self.connections.append(connection)
        try:
            await self._serve(connection, reader, writer)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # recorded so far; an incomplete request says so itself
        except asyncio.CancelledError:
            pass  # by __aexit__; asyncio's own callback would report a cancelled handler as a fault
        finally:
            connection.gone.set()
            for request in connection.requests:
                request.ended.set()
            if not writer.is_closing():  # what a script closed goes out to its last byte
                writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _serve(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while (request := await self._read_head(connection, reader)) is not None:
            exchange = Exchange(request, reader, writer, keep_body=self.keep_bodies, closing=self._closing)
            behaviour = self._behaviour_for(request)
            if not request.is_probe:
                connection.requests.append(request)
                self.requests.append(request)
                self._arrival.set()
            await behaviour(exchange)
            while await exchange.piece():
                pass
            if writer.is_closing():
                return

    def _behaviour_for(self, request: Request) -> Behaviour:
        if request.is_probe:
            self.probes.append(request)
        if not is_public(request.target) and request.values("x-blnk-key") != [self.master_key]:
            return answering("401 Unauthorized", REFUSAL)
        if request.is_probe:
            return self.probe_behaviour
        return self._script.popleft() if self._script else self.behaviour

    async def _read_head(self, connection: Connection, reader: asyncio.StreamReader) -> Request | None:
        try:
            data = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as ended:
            connection.tail = ended.partial
            return None
        first, *lines = data[:-4].decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target, _, version = rest.rpartition(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Request(method, target, version, headers, bytearray(data))
