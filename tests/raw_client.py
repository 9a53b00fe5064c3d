"""A client on a raw socket, which sends any bytes and reads responses exactly as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.http_messages import HEAD_END, Headers, build_head, read_chunk_size, read_head, values_of
from tests.sockets import reset_on_close

PATIENCE = 10.0  # seconds that any one wait may take before the test fails
LARGEST = 1 << 22


class Endpoint(Protocol):
    """An address to connect to, such as the gateway's own `Address`."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class BrokenResponse(Exception):  # noqa: N818 - it names what came, not a fault of the client
    """The connection ended before the response was whole; `received` holds the bytes that came of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"the connection ended after {received[:200]!r}")
        self.received = received


@dataclass(frozen=True, slots=True)
class Response:
    """One final response, with the status codes of the interim ones before it."""

    status: int
    headers: Headers
    body: bytes
    version: str = "HTTP/1.1"
    interim: list[int] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return values_of(self.headers, name)

    def value(self, name: str) -> str | None:
        """Return the value of a header, or None. Raises AssertionError if there are several."""
        found = self.values(name)
        assert len(found) <= 1, f"{name} is there {len(found)} times"
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Return the code of an error body."""
        detail = self.json().get("error_detail")
        return None if detail is None else str(detail["code"])


def request(
    method: str,
    target: str,
    *,
    key: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    version: str = "HTTP/1.1",
    host: str = "gateway.test",
) -> bytes:
    """Return the bytes of one request, with Host, the key and Content-Length added and nothing else."""
    named = [("Host", host)]
    if key is not None:
        named.append(("X-Blnk-Key", key))
    named += headers
    if body is not None:
        named.append(("Content-Length", str(len(body))))
    return build_head(f"{method} {target} {version}", named) + (body or b"")


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Return a chunked body, with one chunk for each piece."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


class RawClient:
    """One connection. Every wait ends after `PATIENCE` seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._keep = keep
        self._unread = bytearray()
        self.received = bytearray()
        self.was_reset = False

    @classmethod
    async def connect(
        cls,
        address: Endpoint,
        *,
        keep: bool = True,
        send_buffer: int | None = None,
        local: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> RawClient:
        """Connect, from the address `local` if one is named, and over TLS to `localhost` with a context.

        At most about `send_buffer` bytes wait in the kernel to be sent.
        """
        sock = socket.socket()
        sock.setblocking(False)
        if local is not None:
            sock.bind((local, 0))
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
                name = None if tls is None else "localhost"
                reader, writer = await asyncio.open_connection(
                    sock=sock, limit=LARGEST, ssl=tls, server_hostname=name
                )
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer, keep=keep)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        """Send bytes. A connection that the gateway has ended is no error: its response can still be read."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self._writer.write(data)
            async with asyncio.timeout(PATIENCE):
                await self._writer.drain()

    async def half_close(self) -> None:
        """End this side of the connection; the other side can still be read."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def read_some(self) -> bytes:
        """Return the next bytes; none at the end of the connection, on its reset or an alert of TLS."""
        if self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            return data
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._reader.read(1 << 16)
        except (ConnectionError, ssl.SSLError):
            self.was_reset = True
            return b""
        if self._keep:
            self.received += data
        return data

    async def rest(self) -> bytes:
        """Return all bytes up to the end of the connection."""
        data = bytearray()
        while more := await self.read_some():
            data += more
        return bytes(data)

    async def response(self, *, head: bool = False) -> Response:
        """Return the next final response; `head` says that it is one to HEAD. Raises BrokenResponse."""
        interim: list[int] = []
        while True:
            version, status, headers = await self._head()
            if status >= 200:
                body = b"" if head or status in (204, 304) else await self._body(headers)
                return Response(status, headers, body, version, interim)
            interim.append(status)

    async def call(self, data: bytes, *, head: bool = False) -> Response:
        """Send a request and return its response. Raises BrokenResponse."""
        await self.send(data)
        return await self.response(head=head)

    async def ask(self, method: str, target: str, **more: Any) -> Response:
        """Send the `request` with these arguments and return its response. Raises BrokenResponse."""
        return await self.call(request(method, target, **more), head=method == "HEAD")

    async def ended(self) -> bool:
        """Return whether the gateway ends the connection without another byte."""
        return await self.rest() == b""

    async def read_head(self) -> tuple[int, Headers]:
        """Return the status and headers of the next response; its body is left to `read_some`."""
        _, status, headers = await self._head()
        return status, headers

    @property
    def tls_object(self) -> ssl.SSLObject:
        """The TLS of a connection that has it."""
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found

    def abort(self) -> None:
        """Reset the connection at once."""
        reset_on_close(self._writer.get_extra_info("socket"))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()

    async def _head(self) -> tuple[str, int, Headers]:
        first, headers = read_head(await self._until(HEAD_END))
        version, status, *_ = first.split(" ", 2)
        return version, int(status), headers

    async def _body(self, headers: Headers) -> bytes:
        named = {name.lower(): value for name, value in headers}
        if named.get("transfer-encoding") == "chunked":
            return await self._chunks()
        if "content-length" in named:
            return await self._exactly(int(named["content-length"]))
        return await self.rest()

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := read_chunk_size(await self._until(b"\r\n")):
            body += await self._exactly(size)
            await self._until(b"\r\n")
        while await self._until(b"\r\n") != b"\r\n":
            pass
        return bytes(body)

    async def _until(self, mark: bytes) -> bytes:
        data = bytearray()
        searched = 0
        while (found := data.find(mark, searched)) < 0:
            searched = max(0, len(data) - len(mark))
            more = await self.read_some()
            if not more:
                raise BrokenResponse(bytes(data))
            data += more
        end = found + len(mark)
        self._unread[:0] = data[end:]
        return bytes(data[:end])

    async def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            more = await self.read_some()
            if not more:
                raise BrokenResponse(bytes(data))
            data += more
        self._unread[:0] = data[length:]
        return bytes(data[:length])
