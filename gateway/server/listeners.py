"""The listeners of this process: for clients, and the private ones.

Rules kept here:
- One turn of the event loop accepts a few connections only, so that those beyond a bound are closed before
  others take the last descriptor.
- It accepts several nevertheless: a turn is long where many clients send, and a new connection waits behind
  all that have come before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from gateway.admin.server import PrivateLimits, PrivateServer
from gateway.config import Address
from gateway.server.sockets import QUEUE, bound

ACCEPTED: Final = 16
"""Connections of clients that one turn accepts, and descriptors that listen for them."""
ACCEPTED_PRIVATE: Final = 2
"""The same of a private listener."""


class Listeners:
    """All listeners.

    Args:
        limits: those of each private listener.
        loop: the event loop that serves connections.
    """

    def __init__(self, limits: PrivateLimits, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._loop = loop
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._private: list[PrivateServer] = []

    def adopt(self, limits: PrivateLimits) -> None:
        """Keep the private listeners within other limits from now on."""
        self._limits = limits
        for server in self._private:
            server.adopt(limits)

    async def open(
        self,
        setting: str,
        addresses: Sequence[Address],
        connect: Callable[[], asyncio.Protocol],
        accepted: int = ACCEPTED,
    ) -> None:
        """Listen at every address that `setting` names, and accept so many connections in a turn.

        Raises CannotListenError.
        """
        servers = self._servers.setdefault(setting, [])
        opened = [one for address in addresses for one in await asyncio.to_thread(bound, setting, address)]
        # For all sockets together: `descriptors` has room for so many.
        each = max(1, accepted // len(opened))
        for one in opened:
            if isinstance(self._loop, asyncio.BaseEventLoop):
                # asyncio accepts as many in a turn as its backlog says.
                servers.append(await self._loop.create_server(connect, sock=one, backlog=each))
                one.listen(QUEUE)
                continue
            with one:
                # uvloop accepts one in a turn for each of its servers.
                for _ in range(each):
                    servers.append(await self._loop.create_server(connect, sock=one.dup(), backlog=QUEUE))

    async def open_private(self, setting: str, address: Address, application: web.Application) -> None:
        """Serve `application` at the address that `setting` names. Raises CannotListenError."""
        server = PrivateServer(application, self._limits, self._loop)
        await server.set_up()
        self._private.append(server)
        await self.open(setting, [address], server.connect, ACCEPTED_PRIVATE)

    def addresses(self, setting: str) -> tuple[Address, ...]:
        """Return the addresses of the listeners that `setting` names, with the ports that were chosen."""
        sockets = (opened for server in self._servers.get(setting, []) for opened in server.sockets)
        return tuple(dict.fromkeys(Address(*opened.getsockname()[:2]) for opened in sockets))

    def close(self, setting: str) -> None:
        """Accept no new connection at the addresses that `setting` names."""
        for server in self._servers.get(setting, []):
            server.close()

    async def close_all(self) -> None:
        """Accept no new connection at all, and end those of the private listeners."""
        for setting in self._servers:
            self.close(setting)
        for server in self._private:
            await server.close()
