"""A TCP balancer over replicas, which notices late that a replica is not ready.

Rules kept here:
- New connections go to the replicas in rotation; a client is never sent to a second one.
- A replica leaves the rotation `ignores` seconds after it was first not ready, and at once when it refuses a
  connection; only the client of this connection gets an error.
- A connection stays with its replica until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from tests.faults.pipes import Ends, join

_WATCH_SECONDS = 0.05


class Replica(Protocol):
    """A gateway that the balancer knows."""

    @property
    def port(self) -> int: ...
    async def ready(self) -> bool: ...


class Balancer:
    """Listens on a free port of the loopback; `async with` starts and closes it."""

    def __init__(self, replicas: Sequence[Replica], ignores: float) -> None:
        self.port = 0
        self._rotation = list(replicas)
        self._ignores = ignores
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks |= {asyncio.ensure_future(self._watch(replica)) for replica in self._rotation}
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, replica: Replica) -> None:
        while await replica.ready():
            await asyncio.sleep(_WATCH_SECONDS)
        await asyncio.sleep(self._ignores)
        self._drop(replica)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # __aexit__ cancels the handler, which asyncio's own callback would report.
            with contextlib.suppress(asyncio.CancelledError):
                if (server := await self._connect()) is not None:
                    await join(Ends(reader, writer), server)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connect(self) -> Ends | None:
        self._turn += 1
        replica = self._rotation[self._turn % len(self._rotation)]
        try:
            return Ends(*await asyncio.open_connection("127.0.0.1", replica.port))
        except OSError:
            self._drop(replica)
            return None

    def _drop(self, replica: Replica) -> None:
        if replica in self._rotation:
            self._rotation.remove(replica)
