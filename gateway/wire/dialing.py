"""New connections to Core: every address of its name is tried, and certificates are verified.

Rules kept here:
- Happy Eyeballs (RFC 8305): the next address is tried as soon as one failed, or has not responded for a
  moment; the first connection that is made wins. All have had their turn before the deadline.
- The name is resolved for every connection, so one that moves is followed. Connections that are made at the
  same time share a look-up: a resolver that hangs is not asked again meanwhile.
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
"""How long an address has before the next one is tried beside it (RFC 8305 section 8)."""
_KEEPALIVE_SECONDS: Final = 60
"""How long a connection is silent before the kernel asks whether its peer is still there."""

Place = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and an address of it as sockets take it."""
Resolve = Callable[[str, int], Awaitable[Sequence[Place]]]
"""The addresses of a host and a port, the best first. Raises OSError or UnicodeError."""
P = TypeVar("P", bound=asyncio.BaseProtocol)


async def resolve(host: str, port: int) -> list[Place]:
    """The addresses that the system knows for a name, in its order (RFC 6724)."""
    try:
        # Of an address itself, without a thread.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


class Dialer:
    """Makes connections to one Core.

    Args:
        host: a name or an address.
        port: the TCP port.
        tls: what verifies Core's certificate; None for plain HTTP.
        resolve: gives the addresses of `host`.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, resolve: Resolve = resolve
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._resolve = resolve
        self._lookup: asyncio.Task[Sequence[Place]] | None = None

    async def connect(self, factory: Callable[[], P], seconds: float) -> P:
        """The protocol of a new connection, its TLS handshake done, within `seconds` in total.

        Raises:
            GatewayError: UPSTREAM_UNREACHABLE or UPSTREAM_TIMEOUT, with the reason.
        """
        failures: dict[str, OSError | None] = {}
        late = partial(name_too_slow, self._host, seconds)
        try:
            async with asyncio.timeout(seconds):
                places = await self._places()
                late = partial(connecting_failed, failures, seconds)
                connected = await _first_of(places, failures, _spacing(seconds, len(places)))
                if connected is None:
                    raise unreachable(connecting_failed(failures, seconds))
                late = partial(handshake_too_slow, self._host, seconds)
                return await self._speak(factory, connected)
        except TimeoutError:
            raise too_slow(late()) from None

    async def _places(self) -> Sequence[Place]:
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.ensure_future(self._resolve(self._host, self._port))
            # Everybody who waits for it may have given up before it fails.
            self._lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return _interleaved(await asyncio.shield(self._lookup))
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot spell is a UnicodeError
            raise unreachable(name_failed(self._host, error)) from None

    async def _speak(self, factory: Callable[[], P], connected: socket.socket) -> P:
        name = None if self._tls is None else self._host
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(
                factory, sock=connected, ssl=self._tls, server_hostname=name
            )
        except OSError as error:
            raise unreachable(handshake_failed(self._host, error)) from None
        return protocol


def _spacing(seconds: float, count: int) -> float:
    """How many seconds after one address the next is tried, so that none is left out."""
    return min(NEXT_SECONDS, seconds / (count + 1))


def _interleaved(places: Iterable[Place]) -> list[Place]:
    """The same places, their families in turn (RFC 8305 section 4)."""
    families: dict[socket.AddressFamily, list[Place]] = {}
    for place in places:
        families.setdefault(place[0], []).append(place)
    return [place for place in chain(*zip_longest(*families.values())) if place is not None]


async def _first_of(
    places: Iterable[Place], failures: dict[str, OSError | None], spacing: float
) -> socket.socket | None:
    """A socket that is connected to the first place that allows it; None if all have failed.

    `failures` gets every place that was tried and why it failed, None for one that has not responded yet.
    """
    left, trying = iter(places), set[asyncio.Task[socket.socket | None]]()
    try:
        while True:
            place = next(left, None)
            if place is not None:
                trying.add(asyncio.ensure_future(_attempt(place, failures)))
            elif not trying:
                return None
            done, _ = await asyncio.wait(
                trying, timeout=None if place is None else spacing, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                trying.remove(task)
                if (connected := task.result()) is not None:
                    return connected
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)


async def _attempt(place: Place, failures: dict[str, OSError | None]) -> socket.socket | None:
    """A socket that is connected to one place; None, with the failure noted, if that cannot be."""
    family, address = place
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
    """Close what an attempt has connected that is not needed any more."""
    if not task.cancelled() and (connected := task.result()) is not None:
        connected.close()


def _tune(made: socket.socket) -> None:
    """Send small requests at once, and notice a peer that has gone without a word."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)


def _shown(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
