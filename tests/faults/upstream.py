"""A stand-in for Core that records every request, and fails as it is told.

Rules kept here:
- A request counts once its head has arrived; a create is recorded before it is acknowledged.
- Like Core with `server.secure`, it answers 401 to whatever lacks the master key.
- A fault holds from the moment it is switched on: what waits for its answer then is hit too.
- While it is silent, it responds to nobody; afterwards it responds to every request that still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_RESET = struct.pack("ii", 1, 0)
_SLOW_SECONDS = 0.15
# So that what came before a reset is read before the reset discards it.
_ARRIVAL_SECONDS = 0.005


class Fault(enum.Enum):
    """How the upstream fails."""

    REFUSED = "refused"
    RESET_AT_ONCE = "reset once connected"
    RESET_UNANSWERED = "reset without a byte"
    RESET_MID_HEAD = "reset mid-head"
    RESET_MID_BODY = "reset mid-body"
    GARBAGE = "garbage"
    SILENT = "silent"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]

    @property
    def reference(self) -> str:
        parts = urlsplit(self.target)
        return parse_qs(parts.query).get("ref", [parts.path.rpartition("/")[2]])[0]

    @property
    def hold(self) -> float:
        """Seconds between the two halves of the answer's body."""
        return float(parse_qs(urlsplit(self.target).query).get("hold", ["0"])[0])


class FaultyCore:
    """Listens on a free port of the loopback; `async with` starts and closes it."""

    def __init__(self, master_key: str) -> None:
        self.port = 0
        self.arrivals: Counter[tuple[str, str]] = Counter()
        self.record: dict[str, str | None] = {}
        self._master_key = master_key
        self._fault: Fault | None = None
        self._over = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FaultyCore:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._vanish()

    @contextlib.asynccontextmanager
    async def failing(self, fault: Fault) -> AsyncIterator[None]:
        """Fails so inside the block."""
        self._fault = fault
        self._over.clear()
        if fault is Fault.REFUSED:
            await self._vanish()
        elif fault is Fault.RESET_AT_ONCE:
            self._drop_all()
        try:
            yield
        finally:
            self._fault = None
            self._over.set()
            if fault is Fault.REFUSED:
                await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _vanish(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        self._drop_all()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop_all(self) -> None:
        for task, writer in self._tasks.items():
            _reset(writer)
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is Fault.RESET_AT_ONCE:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        # Whoever is cancelled was dropped; asyncio's own callback would report it.
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while await self._serve(reader, writer):
                pass
        writer.transport.abort()
        del self._tasks[task]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; whether the connection goes on."""
        request = _parse(await reader.readuntil(b"\r\n\r\n"))
        if request.headers.get("x-blnk-key") != self._master_key:
            writer.write(_answer(401, b'{"error":"no","error_detail":{"code":"AUTH_MISSING_API_KEY"}}'))
            return True
        self.arrivals[request.method, request.reference] += 1
        body = await _body(request, reader)
        if request.method == "POST":
            self.record[request.reference] = _stamp_of(body)
        answer = _answer(
            201 if request.method == "POST" else 200, json.dumps({"reference": request.reference}).encode()
        )
        if self._fault is not None:
            return await self._fail(self._fault, answer, writer)
        await _write_in_halves(writer, answer, request.hold)
        return True

    async def _fail(self, fault: Fault, answer: bytes, writer: asyncio.StreamWriter) -> bool:
        if fault is Fault.SLOW:
            await asyncio.sleep(_SLOW_SECONDS)
            await _write_in_halves(writer, answer, _SLOW_SECONDS)
            return True
        if fault is Fault.SILENT:
            await self._over.wait()
            writer.write(answer)
            return True
        begun = {
            Fault.RESET_MID_HEAD: answer[: len("HTTP/1.1 201 Crea")],
            Fault.RESET_MID_BODY: answer[:-8],
            Fault.GARBAGE: b"\x16\x03\x01\x00\xa5\x01\x00 \xff\xfe 201 Created\r\n\r\n{}",
        }
        writer.write(begun.get(fault, b""))
        await asyncio.sleep(_ARRIVAL_SECONDS)
        _reset(writer)
        return False


async def _write_in_halves(writer: asyncio.StreamWriter, answer: bytes, pause: float) -> None:
    middle = len(answer) - 8 if pause else len(answer)
    writer.write(answer[:middle])
    await asyncio.sleep(pause)
    writer.write(answer[middle:])


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _answer(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _parse(head: bytes) -> _Request:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return _Request(method, target, {name.lower(): value.strip() for name, _, value in pairs})


async def _body(request: _Request, reader: asyncio.StreamReader) -> bytes:
    if request.headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(request.headers.get("content-length", "0")))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def _stamp_of(body: bytes) -> str | None:
    stamp = json.loads(body).get("meta_data", {}).get("BLNK_GENERATED_BY")
    return None if stamp is None else str(stamp)
