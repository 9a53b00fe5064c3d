"""All connections of clients: admitted up to a bound, counted by party, cut where they hold too much.

Rules kept here:
- A party is the network of a client's address. Where all places are taken, a connection of the party that
  has most of them gives way to one of a party that has fewer: one that is idle, or that has kept us waiting.
- What connections hold of unfinished requests and unread responses is bounded in total; where it is too much,
  the party that holds most lets go of its largest piece.
- A trusted proxy speaks for many clients: each of its connections counts as a party of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Shares, network_of
from gateway.wire.client_connection import ClientConnection, ClientLimits, Phase
from gateway.wire.deadlines import Deadlines, times
from gateway.wire.exchange import Exchange
from gateway.wire.parse_budget import ParseBudget
from gateway.wire.write_coalescer import WriteCoalescer

__all__ = ["HELD_BYTES", "ClientConnection", "ClientLimits", "Clients"]

_LOOKED_AT: Final = 64
HELD_BYTES: Final = 64 * 1024**2
"""The bytes that all connections together hold of unfinished heads, of bodies that nobody has asked for yet,
and of responses that their clients are slow to take."""


class Clients:
    """All connections of the listeners for clients.

    Args:
        handle: answers one request; raises nothing.
        refusal: the whole response to what could not be read, from the client at an address.
        limits: replaced whole by a reload.
        loop: the event loop.
        trusts: whether an address is a trusted proxy's.
        held_bytes: the most that connections hold together.
    """

    def __init__(
        self,
        handle: Callable[[Exchange], Awaitable[None]],
        refusal: Callable[[GatewayError, str], bytes],
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
        *,
        trusts: Callable[[str], bool] = lambda _: False,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self.handle = handle
        self.refusal = refusal
        self.loop = loop
        self.draining = False
        self.outbox = WriteCoalescer(loop)
        self.deadlines = Deadlines(loop)
        self.turns = ParseBudget(loop)
        self._trusts = trusts
        # In the order in which they came, so that the oldest of those that may go goes first.
        self._connections: defaultdict[str, dict[ClientConnection, None]] = defaultdict(dict)
        self._open = Shares(limits.connections)
        self._held = Shares(held_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgotten = asyncio.Event()
        self.adopt(limits)

    def __len__(self) -> int:
        return self._open.total

    def adopt(self, limits: ClientLimits) -> None:
        """Keep these bounds from now on."""
        self.limits = limits
        self.times = times(Phase, limits)
        self._open.limit = limits.connections

    def connect(self) -> ClientConnection:
        """A protocol for a new connection, for `loop.create_server`."""
        return ClientConnection(self)

    def admit(self, connection: ClientConnection) -> bool:
        """Take in a connection; refuse and close it where there are too many, and none gives way."""
        trusted = self._trusts(connection.peer)
        party = f"{connection.peer} {id(connection)}" if trusted else network_of(connection.peer)
        if not self._open.fits(1) and not self._displace(party):
            self._turn_away(connection)
            return False
        connection.party = party
        self._open.take(party)
        self._connections[party][connection] = None
        self.deadlines.watch(connection)
        return True

    def run(self, work: Awaitable[None]) -> None:
        """Run a connection's task."""
        task: asyncio.Task[None] = self.loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def count(self, connection: ClientConnection, held: int) -> None:
        """Count the bytes that a connection holds; one of them may have to let go of its own."""
        more = held - connection.counted
        if more > 0 and not self._make_room(connection.party, more):
            connection.let_go()
            self._uncount(connection)
            return
        if more > 0:
            self._held.take(connection.party, more)
        else:
            self._held.give(connection.party, -more)
        connection.counted = held

    def forget(self, connection: ClientConnection) -> None:
        """A connection has ended."""
        others = self._connections.get(connection.party, {})
        if connection not in others:
            return
        del others[connection]
        if not others:
            del self._connections[connection.party]
        self._open.give(connection.party)
        self._uncount(connection)
        self.deadlines.forget(connection)
        self.turns.forget(connection)
        self._forgotten.set()

    def drain(self) -> None:
        """Let every connection end with the response that is under way."""
        self.draining = True

    def shut(self) -> None:
        """Close idle connections now and the others after the responses they wait for."""
        for connection in self._all():
            connection.shut()

    async def emptied(self, timeout: float) -> int:
        """Wait up to `timeout` seconds until no connection is left; return how many had to be cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._connections:
                    self._forgotten.clear()
                    await self._forgotten.wait()
        cut = 0
        for connection in self._all():
            cut += connection.in_flight
            connection.abort()
        return cut

    def _all(self) -> list[ClientConnection]:
        return [connection for party in self._connections.values() for connection in party]

    def _displace(self, party: str) -> bool:
        """Close a connection of the party that has most for one of `party`; False if none gives way."""
        greediest = self._open.yielding(party)
        if greediest is None:
            return False
        displaced = self._oldest_waiting(self._connections[greediest])
        if displaced is None:
            return False
        self.forget(displaced)
        displaced.abort()
        return True

    @staticmethod
    def _oldest_waiting(connections: dict[ClientConnection, None]) -> ClientConnection | None:
        for connection in list(islice(connections, _LOOKED_AT)):
            if connection.waits_for_client():
                return connection
            # To the end: others are looked at next time, and no flood makes this a pass over all of them.
            connections[connection] = connections.pop(connection)
        return None

    def _make_room(self, party: str, size: int) -> bool:
        """Let the party that holds most give up its largest pieces; False where `party` holds as much."""
        while not self._held.fits(size):
            greediest = self._held.yielding(party, size)
            if greediest is None:
                return False
            largest = max(self._connections[greediest], key=lambda one: one.counted)
            largest.let_go()
            self._uncount(largest)
        return True

    def _turn_away(self, connection: ClientConnection) -> None:
        connection.write(self.refusal(OverloadedError(), connection.peer))
        connection.flush()
        if connection.transport is not None:
            connection.transport.close()

    def _uncount(self, connection: ClientConnection) -> None:
        if connection.counted:
            self._held.give(connection.party, connection.counted)
            connection.counted = 0
