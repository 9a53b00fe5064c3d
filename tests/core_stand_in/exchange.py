"""One request that has reached the stand-in for Core, and the means by which a behaviour responds to it.

Rules kept here:
- Bytes are recorded before they are parsed: `Connection.received` holds the bytes of the wire in order,
  without the probes.
- Reading is as lenient as in a careless server, so that a smuggled request is seen as a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote

from tests.http_messages import (
    HEAD_END,
    Headers,
    build_head,
    read_chunk_size,
    read_head,
    read_header,
)
from tests.sockets import reset_on_close

PROBE_AGENT = "blnk-gateway-probe"
RECORDS = json.dumps(
    {"status": "UP"}
    | {f"{kind}_id": f"{kind}_stored" for kind in ("ledger", "balance", "transaction", "identity")}
).encode()
"""The body of a response like Core's: a record of every kind in one."""

_JSON = (("Content-Type", "application/json; charset=utf-8"),)
_PIECE = 1 << 18


@dataclass(eq=False)
class Request:
    """One request as it arrived; `complete` is set once the last byte of its body has arrived."""

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
        """Return every value of the header; its name is compared without case."""
        return self._named.get(name.lower(), [])

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        named: dict[str, list[str]] = {}
        for name, value in self.headers:
            named.setdefault(name.lower(), []).append(value)
        return named

    @property
    def head(self) -> bytes:
        return bytes(self.raw).partition(HEAD_END)[0] + HEAD_END

    @property
    def is_probe(self) -> bool:
        """Return whether the gateway sent the request itself, to check Core."""
        return self.values("user-agent") == [PROBE_AGENT]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, str]:
        """Return the first value of each parameter."""
        pairs = [pair.partition("=") for pair in self.target.partition("?")[2].split("&")]
        return {unquote(name): unquote(value) for name, _, value in reversed(pairs)}


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection: the requests read from it without the probes, and the bytes after them."""

    requests: list[Request] = field(default_factory=list)
    tail: bytes = b""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def received(self) -> bytes:
        """Return the bytes of the wire in order, without the probes."""
        return b"".join(bytes(request.raw) for request in self.requests) + self.tail

    async def next_request(self, reader: asyncio.StreamReader) -> Request | None:
        """Return the next request, whose body is still to be read; None at the end of the connection.

        Raises OSError, asyncio.LimitOverrunError.
        """
        try:
            data = await reader.readuntil(HEAD_END)
        except asyncio.IncompleteReadError as ended:
            self.tail = ended.partial
            return None
        first, headers = read_head(data)
        method, _, rest = first.partition(" ")
        target, _, version = rest.rpartition(" ")
        return Request(method, target, version, headers, bytearray(data))


class Exchange:
    """One request whose head has arrived; a behaviour reads its body and writes its response.

    `outlet`, if set, gets what is written: it may cut, hold back or replace the bytes before it passes them
    to `send`.
    """

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
        self.outlet: Callable[[bytes], Awaitable[None]] | None = None
        self._reader = reader
        self._writer = writer
        self._keep_body = keep_body
        self._closing = closing
        self._chunked = any("chunked" in coding.lower() for coding in request.values("transfer-encoding"))
        self._remaining = 0 if self._chunked else int((request.values("content-length") or ["0"])[0] or 0)
        request.complete = not self._chunked and not self._remaining
        if request.complete:
            request.ended.set()

    async def piece(self) -> bytes:
        """Return the next piece of the body; empty at its end.

        Raises EOFError when the gateway ends the connection before the body is whole.
        """
        if self.request.complete:
            return b""
        if self._chunked and not self._remaining:
            self._remaining = read_chunk_size(await self._line())
            if not self._remaining:
                await self._trailers()
                self._finish()
                return b""
        data = await self._reader.read(min(self._remaining, _PIECE))
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
        """Return the whole body, read to its end; empty where bodies are not kept."""
        while not self.request.complete:
            await self.piece()
        return bytes(self.request.body)

    async def write(self, data: bytes) -> None:
        """Write through the outlet, if there is one."""
        if self.outlet is not None:
            await self.outlet(data)
            return
        self._writer.write(data)
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Write without the outlet."""
        self._writer.write(data)
        await self._writer.drain()

    async def respond(
        self, status: str = "200 OK", body: bytes = RECORDS, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Write one whole response with a Content-Length; HEAD gets no body."""
        sent = b"" if self.request.method == "HEAD" else body
        framing = [*_JSON, ("Content-Length", str(len(body))), *headers]
        await self.write(build_head(f"HTTP/1.1 {status}", framing) + sent)

    async def never(self) -> None:
        """Do nothing until the stand-in itself is closed."""
        await self._closing.wait()

    def abort(self) -> None:
        """Reset the connection; bytes that the gateway has not read are lost."""
        reset(self._writer)

    def close(self) -> None:
        """End the connection after what was written."""
        self._writer.close()

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\n")
        if self._keep_body:
            self.request.raw += line
        return line

    async def _trailers(self) -> None:
        while line := (await self._line()).strip():
            self.request.trailers.append(read_header(line.decode("latin-1")))

    def _finish(self) -> None:
        self.request.complete = True
        self.request.ended.set()


Behaviour = Callable[[Exchange], Awaitable[None]]
"""The reaction of the stand-in to one request."""


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection at once."""
    reset_on_close(writer.get_extra_info("socket"))
    writer.transport.abort()
