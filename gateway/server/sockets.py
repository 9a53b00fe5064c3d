"""Listening sockets, and why an address cannot be listened on.

Rules kept here:
- A problem names the setting and the address, and says what to do.
- A socket on `::` takes IPv4 too, whatever the system's default is.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.config import Address

QUEUE: Final = 4096
"""Connections that the system keeps until they are accepted, if it keeps so many (`net.core.somaxconn`). A
further one is dropped silently, and its client tries again after one, three and seven seconds."""

_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EADDRINUSE: "another program listens there: stop it, or write another port",
        errno.EACCES: "this user may not listen there: write a port above 1023",
        errno.EADDRNOTAVAIL: "this machine has no such address: write one that it has, or 0.0.0.0 for all",
        errno.EAFNOSUPPORT: "this machine has no IPv6: write an IPv4 address, or 0.0.0.0 for all",
    }
)
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListenError(Exception):
    """An address cannot be listened on; the text names its setting, and says what to do."""


def bound(setting: str, address: Address) -> list[socket.socket]:
    """Return sockets that listen at `address`, which `setting` names: one for each address of its host name.

    Addresses that this machine does not have, such as `::1` of `localhost`, are left out if others remain.

    Raises:
        CannotListenError: none is left, or one cannot be listened on.
    """
    try:
        return _listening_at(address)
    except (socket.gaierror, UnicodeError):
        reason = "the name is not known here: write an IP address"
    except OSError as problem:
        reason = _REASONS.get(problem.errno or 0) or problem.strerror or str(problem)
    raise CannotListenError(f"{setting}: cannot listen on {address}: {reason}")


def _listening_at(address: Address) -> list[socket.socket]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    absent: OSError | None = None
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            try:
                listening = stack.enter_context(socket.socket(family, kind, protocol))
                _listen(listening, place)
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


def _listen(opened: socket.socket, place: tuple[object, ...]) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if opened.family == socket.AF_INET6:
        # For any address but `::` this means nothing.
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind(place)
    opened.listen(QUEUE)
