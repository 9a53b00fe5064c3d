"""What this process listens on: clients, and the private listeners.

Rules kept here:
- One turn of the event loop accepts a few connections only, so that those beyond a bound are closed before
  others take the last descriptor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from gateway.config import Address
from gateway.private_server import PrivateLimits, PrivateServer
from gateway.sockets import QUEUE, bound

_ACCEPTED: Final = 4
"""Connections that asyncio accepts in one turn; uvloop accepts one."""


class Listeners:
    """Everything that listens.

    Args:
        limits: of each private listener.
        loop: where connections are served.
    """

    def __init__(self, limits: PrivateLimits, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._loop = loop
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._private: list[PrivateServer] = []

    def adopt(self, limits: PrivateLimits) -> None:
        """Hold the private listeners to other limits from now on."""
        self._limits = limits
        for server in self._private:
            server.limits = limits

    async def open(
        self, setting: str, addresses: Sequence[Address], connect: Callable[[], asyncio.Protocol]
    ) -> None:
        """Listen at every address that `setting` names. Raises CannotListenError."""
        servers = self._servers.setdefault(setting, [])
        for address in addresses:
            for opened in await asyncio.to_thread(bound, setting, address):
                servers.append(await self._loop.create_server(connect, sock=opened, backlog=_ACCEPTED))
                # For asyncio the backlog is also how many it accepts in one turn.
                opened.listen(QUEUE)

    async def open_private(self, setting: str, address: Address, application: web.Application) -> None:
        """Serve `application` at the address that `setting` names. Raises CannotListenError."""
        server = PrivateServer(application, self._limits, self._loop)
        await server.set_up()
        self._private.append(server)
        await self.open(setting, [address], server.connect)

    def addresses(self, setting: str) -> tuple[Address, ...]:
        """Where the listeners that `setting` names are, with the ports that the system gave them."""
        sockets = (opened for server in self._servers.get(setting, []) for opened in server.sockets)
        return tuple(Address(*opened.getsockname()[:2]) for opened in sockets)

    def close(self, setting: str) -> None:
        """Take no new connection at the addresses that `setting` names."""
        for server in self._servers.get(setting, []):
            server.close()

    async def close_all(self) -> None:
        """Take no new connection at all, and end those of the private listeners."""
        for setting in self._servers:
            self.close(setting)
        for server in self._private:
            await server.close()
