"""The link between a gateway and Redis; its stream and its look-ups can fail separately."""

from __future__ import annotations

import asyncio
import contextlib
import enum

from tests.faults.pipes import Ends, join


class Fault(enum.Enum):
    """A fault of the link for a connection."""

    NONE = "none"
    CUT = "cut"  # ends the connection, and each new one
    STALL = "stall"  # passes nothing on, as if every packet were dropped
    HOLD = "hold"  # passes commands on, and keeps replies until the fault is over


class Link:
    """Listens on a free port of the loopback interface; a connection that has sent XREAD is the stream's."""

    def __init__(self, redis_port: int) -> None:
        self.port = 0
        self.stream = Fault.NONE
        self.look_ups = Fault.NONE
        self._redis_port = redis_port
        self._server: asyncio.Server | None = None
        self._dialogues: dict[asyncio.Task[None], _Dialogue] = {}

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._dialogues)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def flowing(self) -> bool:
        """Return whether the stream's connection passes replies on."""
        return any(dialogue.flowing for dialogue in self._dialogues.values())

    def fail(self, *, stream: Fault = Fault.NONE, look_ups: Fault = Fault.NONE) -> None:
        """Begin these faults; they last until `heal`."""
        self.stream, self.look_ups = stream, look_ups
        for task, dialogue in list(self._dialogues.items()):
            if dialogue.fault is Fault.CUT:
                task.cancel()
            elif dialogue.fault is Fault.STALL:
                dialogue.dead = True

    def heal(self) -> None:
        """Pass on what was held; stalled connections stay dead, because their peers may have given up."""
        self.stream = self.look_ups = Fault.NONE
        for dialogue in self._dialogues.values():
            dialogue.release()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        dialogue = self._dialogues[task] = _Dialogue(self, writer)
        writers = [writer]
        try:
            # A cut cancels the handler, which asyncio's own callback would report.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                redis = Ends(*await asyncio.open_connection("127.0.0.1", self._redis_port))
                writers.append(redis.writer)
                await join(Ends(reader, writer), redis, dialogue.up, dialogue.down)
        finally:
            # `join` closes the writers too, but not if it is cancelled while it ends.
            for each in writers:
                each.transport.abort()
            del self._dialogues[task]


class _Dialogue:
    """One connection over the link."""

    def __init__(self, link: Link, writer: asyncio.StreamWriter) -> None:
        self.dead = False
        self._link = link
        self._writer = writer
        self._is_stream = False
        self._has_replied = False
        self._held = b""

    @property
    def fault(self) -> Fault:
        return self._link.stream if self._is_stream else self._link.look_ups

    @property
    def flowing(self) -> bool:
        return self._is_stream and self._has_replied and not self.dead

    def up(self, data: bytes) -> bytes:
        self._is_stream = self._is_stream or b"XREAD\r\n" in data
        if self.fault is Fault.CUT:
            raise ConnectionAbortedError
        self.dead = self.dead or self.fault is Fault.STALL
        return b"" if self.dead else data

    def down(self, data: bytes) -> bytes:
        if self.dead:
            return b""
        if self.fault is Fault.HOLD:
            self._held += data
            return b""
        self._has_replied = self._has_replied or self._is_stream
        return data

    def release(self) -> None:
        held, self._held = self._held, b""
        if held and not self.dead:
            self._writer.write(held)
