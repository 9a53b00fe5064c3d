"""The listeners of this process: for clients, and the private ones.

Rules kept here:
- Only the ports of the listeners for clients and for decisions are shared with other processes, and only if
  this is asked for.
- A listener for clients or for decisions drains before it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from aiohttp import web

from gateway.admin.server import PrivateLimits, PrivateServer
from gateway.config import Address, ListenAddress
from gateway.server.listener import Connect, Listener
from gateway.server.sockets import CannotListenError, PortUse, bound, bound_at
from gateway.wire.proxied_connection import ProxyHeaders
from gateway.wire.securable_connection import SecurableConnection
from gateway.wire.tls_connection import TlsAcceptor

ACCEPTED: Final = 16
"""Connections of clients that one turn accepts, and descriptors that listen for them."""
ACCEPTED_DECISIONS: Final = 4
"""The same of the listener for decisions."""
ACCEPTED_PRIVATE: Final = 2
"""The same of a private listener."""

ConnectSecured = Callable[[], SecurableConnection]
"""Returns the protocol of a new connection, which may be over TLS."""


class Listeners:
    """All listeners.

    Args:
        limits: those of each private listener.
        loop: the event loop that serves connections.
        acceptors: those of the listeners that speak TLS, by their settings.
        headers: read the PROXY headers of listeners whose connections begin with one, by their settings.
        reuse_port: True if other processes share the port for clients.
    """

    def __init__(
        self,
        limits: PrivateLimits,
        loop: asyncio.AbstractEventLoop,
        acceptors: Mapping[str, TlsAcceptor] = MappingProxyType({}),
        headers: Mapping[str, ProxyHeaders] = MappingProxyType({}),
        *,
        reuse_port: bool = False,
    ) -> None:
        self.reuse_port = reuse_port
        self._limits = limits
        self._loop = loop
        self._acceptors = acceptors
        self._headers = headers
        self._open: dict[str, list[Listener]] = {}
        self._private: list[PrivateServer] = []

    def adopt(self, limits: PrivateLimits) -> None:
        """Keep the private listeners within other limits from now on."""
        self._limits = limits
        for server in self._private:
            server.adopt(limits)

    async def bind(
        self,
        setting: str,
        addresses: Sequence[ListenAddress],
        connect: ConnectSecured,
        accepted: int = ACCEPTED,
        mode: int = 0o660,
    ) -> None:
        """Take every address that `setting` names, for clients. Raises CannotListenError.

        One turn accepts at most `accepted` connections at all of them together. Files of Unix sockets have
        `mode`.
        """
        made = self._over_tls(setting, connect)
        if (headers := self._headers.get(setting)) is not None:
            # The header comes before TLS.
            made = headers.before(made)
        use = PortUse.SHARED if self.reuse_port else PortUse.EXCLUSIVE
        opened: list[socket.socket] = []
        for address in addresses:
            opened += await asyncio.to_thread(bound_at, setting, address, use, mode)
        # For all sockets together: `descriptors` has room for so many.
        each = max(1, accepted // len(opened))
        self._add(setting, [Listener(one, made, each, self._loop) for one in opened])

    async def start(self, setting: str) -> None:
        """Begin to accept connections where `setting` says, if it says so. Raises CannotListenError."""
        for listener in self._open.get(setting, []):
            try:
                await listener.start()
            except OSError as problem:
                # Until a socket listens, Linux lets another one listen at its port.
                reason = "another program has begun to listen there: stop it, and start this one again"
                raise CannotListenError(setting, listener.address, reason) from problem

    async def open_private(self, setting: str, address: Address, application: web.Application) -> None:
        """Serve `application` at the address that `setting` names. Raises CannotListenError."""
        server = PrivateServer(application, self._limits, self._loop)
        await server.set_up()
        self._private.append(server)
        use = PortUse.OWN if self.reuse_port else PortUse.EXCLUSIVE
        opened = await asyncio.to_thread(bound, setting, address, use)
        each = max(1, ACCEPTED_PRIVATE // len(opened))
        made = self._over_tls(setting, server.connect)
        self._add(setting, [Listener(one, made, each, self._loop) for one in opened])
        await self.start(setting)

    def _over_tls(self, setting: str, connect: ConnectSecured) -> Connect:
        """Return what makes the connections of a listener: over TLS if it speaks TLS."""
        acceptor = self._acceptors.get(setting)
        return connect if acceptor is None else acceptor.over(connect)

    def _add(self, setting: str, listeners: Sequence[Listener]) -> None:
        self._open.setdefault(setting, []).extend(listeners)

    def addresses(self, setting: str) -> tuple[ListenAddress, ...]:
        """Return the addresses of the listeners that `setting` names, with the ports that were chosen."""
        return tuple(listener.address for listener in self._open.get(setting, []))

    async def drain(self, setting: str, timeout: float) -> None:
        """Accept the connections that wait at the addresses that `setting` names, and then no new ones.

        Connections that still wait after `timeout` seconds are closed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(listener.drain() for listener in self._open.get(setting, [])))
        self.close(setting)

    async def headers_read(self, setting: str, seconds: float) -> int:
        """Wait up to `seconds` for the PROXY headers that are on their way; return how many were cut."""
        headers = self._headers.get(setting)
        return 0 if headers is None else await headers.emptied(seconds)

    def close(self, setting: str) -> None:
        """Accept no new connection at the addresses that `setting` names, and close those that wait."""
        for listener in self._open.get(setting, []):
            listener.close()

    async def close_all(self) -> None:
        """Accept no new connection at all, and end those of the private listeners."""
        for setting in self._open:
            self.close(setting)
        for headers in self._headers.values():
            headers.close()
        for server in self._private:
            await server.close()
