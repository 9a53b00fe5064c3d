"""Listening sockets, and why an address cannot be listened on.

Rules kept here:
- A problem names the setting and the address, and says what to do.
- A Unix socket listens from the start (`unix_sockets`); its path is never shared.
- A socket on `::` takes IPv4 too, whatever the system's default is.
- A port is shared only among sockets that all say so (SO_REUSEPORT), and on Linux only those of one user.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.config import Address, ListenAddress
from gateway.server import unix_sockets
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit

QUEUE: Final = 4096
"""Connections that the system keeps until they are accepted, if it keeps so many (`net.core.somaxconn`). A
further one is dropped silently, and its client tries again after one, three and seven seconds."""

_Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]

_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EACCES: "this user may not listen there: write a port above 1023",
        errno.EADDRNOTAVAIL: "this machine has no such address: write one that it has, or 0.0.0.0 for all",
        errno.EAFNOSUPPORT: "this machine has no IPv6: write an IPv4 address, or 0.0.0.0 for all",
    }
)
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class PortUse(enum.Enum):
    """The use of a port by this process, and what to do if another one has the port."""

    EXCLUSIVE = "another program listens there: stop it, or write another port"
    """No other process may have it."""
    SHARED = (
        "another program listens there, without --reuse-port or as another user: stop it, start it with "
        "--reuse-port and as the same user, or write another port"
    )
    """Other processes with `--reuse-port` may have it too."""
    OWN = (
        "another program listens there: with --reuse-port processes share only the ports of listen and "
        "decide.listen; write an address that only this process has, or port 0 for a free port"
    )
    """No other process may have it, though another port of this process is shared."""


_SHARED_BY_OTHERS: Final = (
    "processes with --reuse-port listen there: start this one with --reuse-port too, or write another port"
)


class CannotListenError(StartError):
    """An address cannot be listened on; the text names its setting, and says what to do."""

    def __init__(self, setting: str, address: ListenAddress, reason: str) -> None:
        super().__init__(f"{setting}: cannot listen on {address}: {reason}", Exit.FAILED)


def bound_at(setting: str, address: ListenAddress, use: PortUse, mode: int) -> list[socket.socket]:
    """Return what `bound` does, or the socket at a path whose file has `mode`; raises as `bound`."""
    if isinstance(address, Address):
        return bound(setting, address, use)
    try:
        return [unix_sockets.opened(address, mode, QUEUE)]
    except unix_sockets.UnusablePathError as problem:
        raise CannotListenError(setting, address, str(problem)) from problem


def bound(setting: str, address: Address, use: PortUse = PortUse.EXCLUSIVE) -> list[socket.socket]:
    """Return sockets at `address`, which `setting` names: one for each address of its host name.

    They listen already, except at a shared port: Linux sends connections there as soon as they listen.

    Addresses that this machine does not have, such as `::1` of `localhost`, are left out if others remain.

    Raises:
        CannotListenError: none is left, or one cannot be listened on.
    """
    try:
        return _opened_at(address, use)
    except (socket.gaierror, UnicodeError):
        reason = "the name is not known here: write an IP address"
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            reason = _taken(address, use)
        else:
            reason = _REASONS.get(problem.errno or 0) or problem.strerror or str(problem)
    raise CannotListenError(setting, address, reason)


def _taken(address: Address, use: PortUse) -> str:
    """Return why a port is taken, and what to do."""
    if use is PortUse.EXCLUSIVE and _is_shared(address):
        return _SHARED_BY_OTHERS
    return use.value


def _is_shared(address: Address) -> bool:
    """Return True if this process could share the port of `address` with those that have it."""
    for family, kind, protocol, _, place in _places(address):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            _bind(probe, place, PortUse.SHARED)
            return True
    return False


def _places(address: Address) -> Iterable[_Place]:
    """Return the arguments for a socket at each address of a host name, and what to bind it to."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys(found)


def _opened_at(address: Address, use: PortUse) -> list[socket.socket]:
    opened: list[socket.socket] = []
    absent: OSError | None = None
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, place in _places(address):
            try:
                listening = stack.enter_context(socket.socket(family, kind, protocol))
                _bind(listening, place, use)
                if use is not PortUse.SHARED:
                    listening.listen(QUEUE)
            except OSError as problem:
                if problem.errno not in _ABSENT:
                    raise
                absent = problem
            else:
                opened.append(listening)
        if absent is not None and not opened:
            raise absent
        stack.pop_all()
    return opened


def _bind(opened: socket.socket, place: tuple[object, ...], use: PortUse) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if use is PortUse.SHARED:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if opened.family == socket.AF_INET6:
        # For any address but `::` this means nothing.
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind(place)
