"""The event loop, whose connections try every address of a host name.

Rules kept here:
- Happy Eyeballs (RFC 8305): the next address is tried as soon as one has failed, or has not responded for a
  moment; the first connection that is made is used. redis-py and asyncpg only ask the loop for a connection,
  and their deadlines are theirs: they leave room for some addresses that drop every packet.
- A name is resolved for every connection, so one that moves is followed. Connections that are made at the
  same time share a look-up: a name server that hangs is not asked again meanwhile.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohappyeyeballs import AddrInfoType, start_connection

NEXT_SECONDS: Final = 0.1
"""The time after which the next address is tried beside the first. It is the least that RFC 8305 section 5
recommends, since a Sentinel has 0.3 s in all."""

Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]
"""Returns the addresses of a host and a port as `getaddrinfo` does, the best first. Raises OSError."""

# Options that a connection over a socket takes as well. With any other the loop connects in its own way.
_CARRIED: Final = frozenset({"ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"})


def new_loop(*, fast: bool = True, resolve: Resolve | None = None) -> asyncio.AbstractEventLoop:
    """Return a new event loop.

    Args:
        fast: True for uvloop, if it is installed; its import takes a moment.
        resolve: gives the addresses of a host; `getaddrinfo` if there is none.
    """
    loop = _uvloop() if fast else None
    loop = loop or _AsyncioLoop()
    loop.resolve = resolve or loop.resolve
    return loop


# The overloads of asyncio and uvloop disagree; what is overridden here is called by libraries alone.
_Loop: Any = asyncio.AbstractEventLoop


class _EveryAddress(_Loop):  # type: ignore[misc]
    """A loop whose connections try every address of a name."""

    def __init__(self) -> None:
        super().__init__()
        self.resolve: Resolve = self._getaddrinfo
        self._lookups: dict[tuple[str, int], asyncio.Task[Sequence[AddrInfoType]]] = {}

    async def create_connection(
        self, protocol_factory: Any, host: str | None = None, port: int | None = None, **options: Any
    ) -> Any:
        """Connect as `loop.create_connection` does."""
        if not host or port is None or _is_address(host) or not options.keys() <= _CARRIED:
            return await super().create_connection(protocol_factory, host, port, **options)
        found = await self._addresses(host, port)
        connected = await start_connection(found, happy_eyeballs_delay=NEXT_SECONDS, loop=self)
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        try:
            return await super().create_connection(protocol_factory, sock=connected, **options)
        except BaseException:
            connected.close()
            raise

    async def _addresses(self, host: str, port: int) -> Sequence[AddrInfoType]:
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = self.create_task(self._resolved(host, port))
            # Everybody who waits for it may have given up before it fails.
            lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(lookup)

    async def _resolved(self, host: str, port: int) -> Sequence[AddrInfoType]:
        try:
            return await self.resolve(host, port)
        finally:
            del self._lookups[host, port]

    async def _getaddrinfo(self, host: str, port: int) -> Sequence[AddrInfoType]:
        found: list[AddrInfoType] = await self.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        return found


class _AsyncioLoop(_EveryAddress, asyncio.SelectorEventLoop):
    """asyncio's own loop."""


def _uvloop() -> _EveryAddress | None:
    try:
        import uvloop
    except ImportError:
        return None

    # Its stubs disagree with asyncio's.
    base: Any = uvloop.Loop

    class UvLoop(_EveryAddress, base):  # type: ignore[misc]
        """uvloop's loop: a quarter less CPU per request."""

    return UvLoop()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
