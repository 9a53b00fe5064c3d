"""Host names with several addresses, on loopback and without a name server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from aiohappyeyeballs import AddrInfoType

from gateway.config import Address, ListenAddress
from gateway.server.loop import Resolve, new_loop

DEAD = "127.0.0.8"
"""The first address of the host names in the tests; nothing responds there."""
Done = TypeVar("Done")


def host_and_port(address: ListenAddress) -> Address:
    """Return the address of a listener that is no Unix socket."""
    assert isinstance(address, Address)
    return address


@contextlib.contextmanager
def dropping_packets(port: int, host: str = DEAD) -> Iterator[None]:
    """Let this address accept no connection within the block: its listener's backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        while True:
            filling = stack.enter_context(socket.socket())
            filling.settimeout(0.2)
            try:
                filling.connect((host, port))
            except TimeoutError:
                break
        yield


def names(**addresses: Sequence[str]) -> Resolve:
    """Return a resolver of these host names, each with its addresses in order."""

    async def resolve(host: str, port: int) -> list[AddrInfoType]:
        if host not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses[host]
        ]

    return resolve


def run(work: Callable[[], Coroutine[Any, Any, Done]], resolve: Resolve, *, fast: bool = True) -> Done:
    """Run a coroutine in an event loop that resolves names with `resolve`; return its result."""
    with asyncio.Runner(loop_factory=lambda: new_loop(fast=fast, resolve=resolve)) as runner:
        return runner.run(work())


def free_ports(count: int) -> list[int]:
    """Return different free ports of the loopback interface."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
