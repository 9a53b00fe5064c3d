"""All connections of clients: admitted up to a bound, counted by party.

Rules kept here:
- A party is the network of a client's address. At the limit, a connection of the party that has most of them
  gives way to one of a party that has fewer: one that is idle, or whose client has kept the gateway waiting.
- A trusted proxy speaks for many clients: each of its connections counts as a party of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import islice
from typing import Final

from gateway.errors import GatewayError
from gateway.fairness.shares import Shares, network_of
from gateway.wire.client_connection import ClientConnection
from gateway.wire.client_deadlines import ClientLimits, ClientPhase
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.exchange import Exchange
from gateway.wire.held_bytes import HeldBytes
from gateway.wire.parse_budget import ParseBudget
from gateway.wire.request_turns import RequestTurns
from gateway.wire.timed_phase import seconds_of
from gateway.wire.write_coalescer import WriteCoalescer

LAST_SECONDS: Final = 1.0
"""The time for which a connection waits for a PROXY header or a request at the end of a drain."""
_LOOKED_AT: Final = 64
"""Number of connections of a party that are looked at for one that gives way."""


class Clients:
    """All connections of the listeners for clients.

    Args:
        handle: responds to one request; raises nothing.
        refusal: returns the whole response to what could not be read, from the client at an address.
        limits: replaced whole by a reload.
        loop: the event loop.
        trusts: returns True for the address of a trusted proxy.
    """

    def __init__(
        self,
        handle: Callable[[Exchange], Awaitable[None]],
        refusal: Callable[[GatewayError, str], bytes],
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
        *,
        trusts: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.handle = handle
        self.refusal = refusal
        self.loop = loop
        self.draining = False
        self.coalescer = WriteCoalescer(loop)
        self.deadlines = Deadlines(loop)
        self.parse_budget = ParseBudget(loop)
        self.request_turns = RequestTurns(loop)
        self.held_bytes = HeldBytes(limits.held_bytes)
        self._trusts = trusts
        # In the order in which they came, so that the oldest of those that may go goes first.
        self._connections: defaultdict[str, dict[ClientConnection, None]] = defaultdict(dict)
        self._open = Shares(limits.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgotten = asyncio.Event()
        self._most_idle = NEVER
        self.adopt(limits)

    def __len__(self) -> int:
        return self._open.total

    def adopt(self, limits: ClientLimits) -> None:
        """Keep these bounds from now on."""
        limits = replace(limits, idle=min(limits.idle, self._most_idle))
        self.limits = limits
        self.seconds = seconds_of(ClientPhase, limits)
        self._open.limit = limits.connections

    def connect(self) -> ClientConnection:
        """Return the protocol of a new connection, for `loop.create_server`."""
        return ClientConnection(self)

    def admit(self, connection: ClientConnection) -> str | None:
        """Take in a connection and return its party; None if there are too many, and none gives way."""
        trusted = self._trusts(connection.peer)
        party = f"{connection.peer} {id(connection)}" if trusted else network_of(connection.peer)
        if not self._open.fits(1) and not self._displace(party):
            return None
        self._open.take(party)
        self._connections[party][connection] = None
        self.deadlines.watch(connection)
        return party

    def run(self, work: Awaitable[None]) -> None:
        """Run a connection's task."""
        task: asyncio.Task[None] = self.loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: ClientConnection) -> None:
        """Take note that a connection has ended."""
        self.held_bytes.forget(connection)
        others = self._connections.get(connection.party, {})
        if connection not in others:
            return
        del others[connection]
        if not others:
            del self._connections[connection.party]
        self._open.give(connection.party)
        self.deadlines.forget(connection)
        self.parse_budget.forget(connection.input)
        self.request_turns.forget(connection)
        self._forgotten.set()

    def drain(self) -> None:
        """Let every connection end with the response that is under way."""
        self.draining = True

    def shut(self) -> None:
        """Let idle connections end soon: a first request that is on its way still gets its response."""
        self._most_idle = LAST_SECONDS
        self.adopt(self.limits)
        for connection in self._all():
            connection.wait_anew()

    async def emptied(self, timeout: float) -> int:
        """Wait up to `timeout` seconds until no connection is left; return how many had to be cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._connections:
                    self._forgotten.clear()
                    await self._forgotten.wait()
        cut = 0
        for connection in self._all():
            cut += connection.requests.busy or connection.flow.buffered() > 0
            connection.abort()
        return cut

    def _all(self) -> list[ClientConnection]:
        return [connection for party in self._connections.values() for connection in party]

    def _displace(self, party: str) -> bool:
        """Close a connection of the party that has most, for `party`; return False if none gives way."""
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
