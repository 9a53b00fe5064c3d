"""New connections to Core: every address of its name is tried, and certificates are verified.

Rules kept here:
- Happy Eyeballs (RFC 8305): the next address is tried as soon as one has failed, or has not responded for a
  moment. The first connection that is made is used. All addresses are tried before the deadline.
- The name is resolved for every connection, so that a name that moves is followed. Connections that are made
  at the same time share a look-up: a resolver that hangs is not asked again meanwhile.
- A failure says why, in words for operators. No socket is left open by a failure or a cancellation.
- With TLS nothing is sent before the certificate was verified.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final, TypeVar

from gateway.wire.connect_errors import (
    connecting_failed,
    handshake_failed,
    handshake_too_slow,
    name_failed,
    name_too_slow,
    too_slow,
    unreachable,
)

NEXT_SECONDS: Final = 0.25
"""The time after which the next address is tried beside one that has not responded (RFC 8305 section 8)."""
_KEEPALIVE_SECONDS: Final = 60
"""The time for which a connection is silent before the kernel probes its other end."""

SocketAddress = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and an address of it as sockets take it."""
Resolve = Callable[[str, int], Awaitable[Sequence[SocketAddress]]]
"""The addresses of a host and a port, the best first. Raises OSError or UnicodeError."""
P = TypeVar("P", bound=asyncio.BaseProtocol)


async def resolve(host: str, port: int) -> list[SocketAddress]:
    """Return the addresses that the system knows for a name, in its order (RFC 6724)."""
    try:
        # An address needs no look-up, and no thread for it.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


class Dialer:
    """Makes connections to one Core.

    Args:
        host: a name or an address.
        port: the TCP port.
        tls: verifies Core's certificate; None for plain HTTP. It may be replaced, for new connections.
        resolve: returns the addresses of `host`.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, resolve: Resolve = resolve
    ) -> None:
        self._host = host
        self._port = port
        self.tls = tls
        self._resolve = resolve
        self._lookup: asyncio.Task[Sequence[SocketAddress]] | None = None

    async def connect(self, factory: Callable[[], P], seconds: float) -> P:
        """Return the protocol of a new connection, its TLS handshake done, within `seconds` in total.

        Raises:
            UpstreamUnreachableError, UpstreamTimeoutError: with the reason.
        """
        failures: dict[str, OSError | None] = {}
        late = partial(name_too_slow, self._host, seconds)
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._addresses()
                late = partial(connecting_failed, failures, seconds)
                connected = await _first_of(addresses, failures, _spacing(seconds, len(addresses)))
                if connected is None:
                    raise unreachable(connecting_failed(failures, seconds))
                late = partial(handshake_too_slow, self._host, seconds)
                return await self._speak(factory, connected)
        except TimeoutError:
            raise too_slow(late()) from None

    async def _addresses(self) -> Sequence[SocketAddress]:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.ensure_future(self._resolve(self._host, self._port))
            # All that wait for it may have given up before it fails.
            self._lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return _interleaved(await asyncio.shield(self._lookup))
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot spell is a UnicodeError
            raise unreachable(name_failed(self._host, error)) from None

    async def _speak(self, factory: Callable[[], P], connected: socket.socket) -> P:
        name = None if self.tls is None else self._host
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(
                factory, sock=connected, ssl=self.tls, server_hostname=name
            )
        except OSError as error:
            raise unreachable(handshake_failed(self._host, error)) from None
        return protocol


def _spacing(seconds: float, count: int) -> float:
    """Return how many seconds after one address the next is tried, so that none is left out."""
    return min(NEXT_SECONDS, seconds / (count + 1))


def _interleaved(addresses: Iterable[SocketAddress]) -> list[SocketAddress]:
    """Return the addresses with their families in turn (RFC 8305 section 4)."""
    families: dict[socket.AddressFamily, list[SocketAddress]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


async def _first_of(
    addresses: Iterable[SocketAddress], failures: dict[str, OSError | None], spacing: float
) -> socket.socket | None:
    """Return a socket that is connected to the first address that accepts; None if all have failed.

    `failures` gets every address that was tried and its failure, None for one that has not responded yet.
    """
    left, trying = iter(addresses), set[asyncio.Task[socket.socket | None]]()
    try:
        while True:
            target = next(left, None)
            if target is not None:
                trying.add(asyncio.ensure_future(_attempt(target, failures)))
            elif not trying:
                return None
            done, _ = await asyncio.wait(
                trying, timeout=None if target is None else spacing, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                trying.remove(task)
                if (connected := task.result()) is not None:
                    return connected
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)


async def _attempt(target: SocketAddress, failures: dict[str, OSError | None]) -> socket.socket | None:
    """Return a socket that is connected to one address; None, with the failure noted, if that fails."""
    family, address = target
    failures[_shown(address)] = None
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        failures[_shown(address)] = error
        return None
    try:
        made.setblocking(False)
        _tune(made)
        await asyncio.get_running_loop().sock_connect(made, address)
    except OSError as error:
        made.close()
        failures[_shown(address)] = error
        return None
    except BaseException:
        made.close()
        raise
    return made


def _close(task: asyncio.Task[socket.socket | None]) -> None:
    """Close the socket that an attempt has connected, which is not needed any more."""
    if not task.cancelled() and (connected := task.result()) is not None:
        connected.close()


def _tune(made: socket.socket) -> None:
    """Send small requests at once, and notice when the other end is gone without having closed."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)


def _shown(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
