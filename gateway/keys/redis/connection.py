"""Connections to the primary of a Redis, and to nothing but its primary.

Rules kept here:
- Every connection asks where the primary is, and its peer for its role, before it is used. One that hears of
  another primary, or whose peer says that it is none, is closed.
- A command goes out on a connection that is open, or fails: redis-py would connect anew without notice, and
  what was read before may be of another primary.
- No retries here: an outage is a failure at once, and the next command connects anew.
- Certificates are verified, always. No text raised here holds the URL, whose password is a secret.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004  # what redis-py and its callers know as a lost connection
    MasterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as ConnectTimeoutError

from gateway.keys.command_times import CommandKind, StoreTimes
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.record import RefusedRecordError
from gateway.keys.redis.discovery import CONNECT_SECONDS, client, finder
from gateway.keys.redis.errors import (
    CLOSED,
    CLUSTER_NODE,
    MAYBE_TLS,
    NO_CONNECTION,
    NO_HANDSHAKE,
    NO_PRIMARY,
    REPLACED,
    NoPrimaryError,
    NotSentError,
    UnreachedError,
    reason,
    redis_errors,
)
from gateway.keys.redis.role import RecentReplicas, connected_replicas, describe_other, is_primary
from gateway.keys.redis.url import TLS_OPTIONS, Place, Topology, read_url

REACH_SECONDS: Final = 0.8
"""The part of `CONNECT_SECONDS` for TCP and TLS: the rest is for logging in, and for saying what failed."""

_CHANGES: Final = 8
_LISTS: Final = 4
# Each kind of look-up is one read at a time (`dataloader`).
_LOOK_UPS: Final = 4

_MOVED: Final = "the primary of Redis has changed"
_NOT_PRIMARY: Final = (ReadOnlyError, MovedError, AskError, ClusterDownError, MasterDownError)


@dataclass(slots=True)
class Command:
    """A command under way; `waits` is how many seconds Redis was asked to wait, None if it did for less."""

    waits: float | None = 0.0


class RedisLink:
    """Clients of one primary, each with connections of its own, so that none waits for another's.

    `changes` is for what changes keys and what is read for that, `lists` for what reads many keys, `look_ups`
    for the keys that clients send, `follower` for reading the stream of changes, and `limits` for leases.
    They are `Any`: redis-py types every command as perhaps awaitable, for its synchronous clients too.

    Args:
        url: as `read_url` takes it.

    Raises:
        ValueError: it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        parts = read_url(url)
        self._finder = finder(parts)
        self._place: Place | None = None
        self._kind = parts.kind
        self._replicas = RecentReplicas()
        # When a connection last failed, in seconds of the loop's clock.
        self.failed_at = float("-inf")
        self._connections: WeakSet[Connection] = WeakSet()
        self.times = StoreTimes()
        tls = {name: value for name, value in parts.options.items() if name in TLS_OPTIONS}
        options: dict[str, Any] = {
            "link": self,
            "connection_class": _TlsPrimaryConnection if parts.tls else PrimaryConnection,
            "redis_connect_func": self._accept,
            "socket_connect_timeout": REACH_SECONDS,
            "username": parts.user,
            "password": parts.password,
            "db": parts.database,
            **tls,
        }
        self.changes: Any = client(options | {"max_connections": _CHANGES})
        self.lists: Any = client(options | {"max_connections": _LISTS})
        self.look_ups: Any = client(options | {"max_connections": _LOOK_UPS})
        # XREAD holds its connection while it blocks.
        self.follower: Any = client(options | {"max_connections": 1})
        self.limits: Any = client(options | {"max_connections": 1})

    async def find(self) -> Place:
        """Return where the primary is now; if that has changed, close the connections to the former one.

        Raises:
            NoPrimaryError: nobody knows.
        """
        return await self._found(await self._finder.primary())

    async def confirm(self) -> None:
        """Return if the primary is still where it was found last.

        Raises:
            NoPrimaryError: it is not, or nobody who has to confirm it answers.
        """
        before = self._place
        now = await self._finder.confirm()
        if now is not None and before not in (None, await self._found(now)):
            raise NoPrimaryError(_MOVED)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PrimaryConnection]:
        """Hold one connection for one change: what it reads and what it writes are of the same primary."""
        pool = self.changes.connection_pool
        connection = await pool.get_connection()
        try:
            yield connection
        finally:
            # One that is cancelled meanwhile would be missing from the pool for ever.
            await asyncio.shield(pool.release(connection))

    @asynccontextmanager
    async def command(self, kind: CommandKind, wait: float = 0.0) -> AsyncIterator[Command]:
        """Bound and translate what happens inside as `redis_errors` does, and count it in `times`."""
        command, began = Command(), time.monotonic()
        try:
            async with redis_errors(wait):
                yield command
        except StoreUnavailableError:
            self.times.failed(kind)
            raise
        except RefusedRecordError:
            # As by a quota: Redis has responded.
            self.times.responded(kind, time.monotonic() - began)
            raise
        if command.waits is not None:
            self.times.responded(kind, time.monotonic() - began - command.waits)

    @property
    def fails_over(self) -> bool:
        """Return True if Sentinels or a Cluster make a replica the primary by themselves."""
        return self._kind is not Topology.SINGLE

    def observe_replicas(self, role: Any) -> int:
        """Return how many replicas must acknowledge a write, by the primary's response to ROLE.

        As many as are connected, or were until a moment ago: the replica that a failover promotes has left
        its primary before the Sentinels name it, and what only others have acknowledged is lost then.
        """
        return self._replicas.observe(connected_replicas(role), asyncio.get_running_loop().time())

    def note_failure(self, at: float) -> None:
        """Take note that a connection failed at that time (seconds of the loop's clock)."""
        self.failed_at = at

    async def drop(self) -> None:
        """Close every connection to the primary, also those in use."""
        for connection in list(self._connections):
            # Unsent bytes are not waited for: the peer may be what is stuck.
            await connection.disconnect(nowait=True)

    def joined(self, connection: Connection) -> None:
        """Note a new connection, to close it with the others."""
        self._connections.add(connection)

    async def close(self) -> None:
        """Close everything."""
        for each in (self.changes, self.lists, self.look_ups, self.follower, self.limits):
            await each.aclose()
        await self._finder.close()

    def no_primary(self, error: ResponseError) -> NoPrimaryError:
        """Return the failure for a peer that refused a command because it is not the primary."""
        in_a_cluster = isinstance(error, (MovedError, AskError, ClusterDownError))
        return NoPrimaryError(CLUSTER_NODE if in_a_cluster and self._kind is Topology.SINGLE else NO_PRIMARY)

    async def _found(self, place: Place) -> Place:
        if self._place not in (None, place):
            self._place = place
            self._replicas = RecentReplicas()
            await self.drop()
        self._place = place
        return place

    async def _accept(self, connection: Any) -> None:
        """Log in on a new connection, and refuse a peer that is not the primary."""
        try:
            await connection.on_connect()
            (role,) = await connection.ask(("ROLE",))
        except ConnectionError as error:
            if reason(error) != CLOSED or isinstance(connection, SSLConnection):
                raise
            raise UnreachedError(MAYBE_TLS) from None
        if not is_primary(role) or (connection.host, connection.port) != self._place:
            # Nor are those primaries whose connections were made while they were.
            await self.drop()
            raise NoPrimaryError(describe_other(role) if self._kind is Topology.SINGLE else REPLACED)


class PrimaryConnection(Connection):
    """A connection that looks for the primary whenever it connects, and closes if its peer is none."""

    def __init__(self, *, link: RedisLink, **options: Any) -> None:
        super().__init__(**options)
        self._link = link
        self._heard = 0.0
        link.joined(self)

    async def connect(self) -> None:
        """Connect if it is not connected, or if another connection failed since this one last heard anything.

        Raises:
            UnreachedError: no connection came about in time.
        """
        if self._heard <= self._link.failed_at:
            # Its peer may be gone, and nothing has told it.
            await self.disconnect(nowait=True)
        if self.is_connected:
            return
        # The time includes logging in: a peer that accepts and stays silent must hold nobody.
        async with asyncio.timeout(CONNECT_SECONDS):
            self.host, self.port = await self._link.find()
            try:
                await super().connect()  # type: ignore[no-untyped-call]
            except ConnectTimeoutError:
                words = NO_HANDSHAKE if isinstance(self, SSLConnection) else NO_CONNECTION
                raise UnreachedError(words) from None

    async def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one write, read every response, and return them or raise the first error.

        Raises:
            NotSentError: nothing was sent.
            redis.exceptions.RedisError: a command was refused, or the connection was lost.
        """
        replies = await self.ask_all(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def ask_all(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one write and return every response, or the error in place of one."""
        await self.send_all(*commands)
        return [await self.read_reply() for _ in commands]

    async def send_all(self, *commands: Sequence[Any]) -> None:
        """Send commands in one write. Raises NotSentError."""
        await self.send_packed_command(self.pack_commands(commands))

    async def read_reply(self) -> Any:
        """Read the response to one command; return the error in place of one that was refused."""
        try:
            return await self.read_response()
        except ResponseError as error:
            return error

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send bytes over the open connection. Raises NotSentError if it is closed."""
        if not self.is_connected:
            raise NotSentError
        await super().send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one response; close the connection if the peer says that it is not the primary."""
        clock = asyncio.get_running_loop().time
        try:
            response = await super().read_response(*args, **options)
        except _NOT_PRIMARY as error:
            await self.disconnect(nowait=True)
            raise self._link.no_primary(error) from None
        except (asyncio.CancelledError, ConnectionError):
            # Only its deadline, or the end of the gateway, cancels a call.
            self._link.note_failure(clock())
            raise
        self._heard = clock()
        return response


class _TlsPrimaryConnection(PrimaryConnection, SSLConnection):
    """The same over TLS."""
