"""From the URL of a Redis to connections that reach its primary, and nothing but its primary.

Rules kept here:
- Every connection asks where the primary is, and its peer for its role, before it is used; one that
  learns of another primary, or is told that its peer is none, is closed.
- No retries here: an outage is seen at once, and the next command connects anew.
- Certificates are verified, always. No text raised here holds the URL, whose password is a secret.
"""

from __future__ import annotations

import asyncio
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

from gateway.keys.redis.discovery import CONNECT_SECONDS, Sentinels, client, finder
from gateway.keys.redis.errors import (
    CLOSED,
    CLUSTER_NODE,
    MAYBE_TLS,
    NO_CONNECTION,
    NO_HANDSHAKE,
    NO_PRIMARY,
    NoPrimaryError,
    NotAcknowledgedError,
    UnansweredError,
    UnreachedError,
    reason,
)
from gateway.keys.redis.url import TLS_OPTIONS, Place, Topology, read_url

REACH_SECONDS: Final = 0.8
"""How long TCP and TLS may take of what a connection may: the rest is for logging in, and for saying why."""
WAIT_SECONDS: Final = 0.7
"""How long replicas have for acknowledging a write."""
LATELY_SECONDS: Final = 10.0
"""How long a replica that has left is waited for: one that is promoted leaves before anybody is told."""

_CHANGES: Final = 8
_LISTS: Final = 4
# Each kind of look-up is one read at a time (`batches`).
_LOOK_UPS: Final = 4

_REPLICA: Final = "the Redis that answers is a replica: name its primary, or its Sentinels"
_SENTINEL: Final = "what answers is a Sentinel: write redis+sentinel://host:port/NAME/0"
_REPLACED: Final = "the Redis that answers is no primary any more"
_NOT_PRIMARY: Final = (ReadOnlyError, MovedError, AskError, ClusterDownError, MasterDownError)


class RedisLink:
    """Clients of one primary, each with connections of its own, so that none waits for another's.

    `changes` is for what changes keys and what is read for that, `lists` for what reads many keys, `look_ups`
    for who sends a key, and `follower` for reading the stream of changes.
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
        # The most replicas that this primary had lately, and when it was seen to have so many.
        self._most, self._most_at = 0, float("-inf")
        # When a connection last failed, in seconds of the loop's clock.
        self.failed_at = float("-inf")
        self._connections: WeakSet[Connection] = WeakSet()
        tls = {name: value for name, value in parts.options.items() if name in TLS_OPTIONS}
        options: dict[str, Any] = {
            "link": self,
            "connection_class": _TlsPrimaryConnection if parts.tls else _PrimaryConnection,
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

    async def find(self) -> Place:
        """Where the primary is now; if that changed, what is connected elsewhere is closed.

        Raises:
            NoPrimaryError: nobody knows.
        """
        place = await self._finder.primary()
        if self._place not in (None, place):
            self._place = place
            self._most = 0
            await self.drop()
        self._place = place
        return place

    @property
    def fails_over(self) -> bool:
        """Whether somebody makes a replica the primary by himself."""
        return self._kind is not Topology.SINGLE

    def replicas(self, role: Any) -> int:
        """How many replicas have to acknowledge a write, by the answer of its primary to ROLE.

        As many as are connected, or were until a moment ago: the replica that a failover promotes is gone
        from its primary before the Sentinels name it, and what only others have acknowledged is lost then.
        """
        connected, now = replicas_of(role), asyncio.get_running_loop().time()
        if connected >= self._most or now > self._most_at + LATELY_SECONDS:
            self._most, self._most_at = connected, now
        return self._most

    async def confirm(self) -> None:
        """Return if the primary is still where it was found last.

        Only Sentinels are asked: a primary that they replaced goes on answering whoever still reaches it.
        A node of a Cluster stops by itself (`cluster-node-timeout`), and a single Redis is the primary.

        Raises:
            NoPrimaryError: it is not, or no Sentinel answers.
        """
        if isinstance(self._finder, Sentinels):
            before = self._place
            if await self.find() != before:
                raise NoPrimaryError("the primary of Redis has changed")

    async def drop(self) -> None:
        """Close every connection to the primary, also those in use."""
        for connection in list(self._connections):
            # Unsent bytes are not waited for: the peer may be what is stuck.
            await connection.disconnect(nowait=True)

    def joined(self, connection: Connection) -> None:
        """A connection was made, and is to be closed with the others."""
        self._connections.add(connection)

    async def close(self) -> None:
        """Close everything."""
        for each in (self.changes, self.lists, self.look_ups, self.follower):
            await each.aclose()
        await self._finder.close()

    async def _accept(self, connection: Any) -> None:
        """Log in on a new connection, and refuse a peer that is not the primary."""
        try:
            await connection.on_connect()
            await connection.send_command("ROLE")
            role = await connection.read_response()
        except ConnectionError as error:
            if reason(error) != CLOSED or isinstance(connection, SSLConnection):
                raise
            raise UnreachedError(MAYBE_TLS) from None
        if not is_primary(role) or (connection.host, connection.port) != self._place:
            # Nor are those that were connected to it while it was.
            await self.drop()
            raise NoPrimaryError(_instead(role) if self._kind is Topology.SINGLE else _REPLACED)

    def no_primary(self, error: ResponseError) -> NoPrimaryError:
        """What is so where a peer answered that it does not take what it was asked."""
        in_a_cluster = isinstance(error, (MovedError, AskError, ClusterDownError))
        return NoPrimaryError(CLUSTER_NODE if in_a_cluster and self._kind is Topology.SINGLE else NO_PRIMARY)


def _instead(role: Any) -> str:
    """What a peer is that is no primary, by its answer to ROLE."""
    return _SENTINEL if isinstance(role, list) and role[:1] == [b"sentinel"] else _REPLICA


def is_primary(role: Any) -> bool:
    """Whether an answer to ROLE is a primary's."""
    return isinstance(role, list) and len(role) > 2 and role[0] == b"master"


def replicas_of(role: Any) -> int:
    """How many replicas are connected to the primary that answered ROLE so."""
    return len(role[2]) if is_primary(role) else 0


async def commit(watching: Any, queued: Any, replicas: int, session: int) -> bool:
    """Commit queued commands on the connection that watches; False if a name that it watches has changed.

    MULTI, the commands, EXEC and WAIT leave as one: WAIT counts only what its own connection wrote.

    Args:
        watching: a pipeline of redis-py that holds its connection since its WATCH.
        queued: a pipeline whose commands are taken, never executed itself.
        replicas: how many must acknowledge; if they do not, what was committed stays.
        session: that of the connection when it sent WATCH; on another one nothing is watched.

    Raises:
        redis.exceptions.RedisError: it was refused, or is not acknowledged; with an `UnansweredError` as its
            cause, it may have been done, or was done in part.
    """
    connection = watching.connection
    commands = [("MULTI",), *(words for words, _ in queued.command_stack), ("EXEC",)]
    waiting = [("WAIT", replicas, round(WAIT_SECONDS * 1000))] if replicas else []
    done, acknowledged = None, 0
    if not connection.is_connected or connection.session != session:
        # redis-py connects anew without a word, here or for a read before.
        raise ConnectionError("the connection that watches was lost")
    try:
        await connection.send_packed_command(connection.pack_commands(commands + waiting))
        done = [await connection.read_response() for _ in commands][-1]
        # EXEC has unwatched; redis-py does not know, and would wait for the answer to an UNWATCH.
        watching.watching = False
        if waiting:
            acknowledged = await connection.read_response()
    except BaseException as error:
        # What is not read yet would be taken for the answers to what comes next.
        await connection.disconnect(nowait=True)
        if done is None and isinstance(error, (ResponseError, NoPrimaryError)):
            raise
        raise error from UnansweredError()
    for answer in done or ():
        if isinstance(answer, Exception):
            raise answer from UnansweredError()
    if done is not None and acknowledged < replicas:
        raise NotAcknowledgedError(f"{acknowledged} of {replicas} replicas have acknowledged the write")
    return done is not None


async def abandon(watching: Any) -> None:
    """Close the connection of a pipeline of redis-py that failed, so that nothing more is sent on it.

    Left alone the pipeline would send UNWATCH, for which it connects anew, with no deadline over it.
    """
    watching.watching = False
    if watching.connection is not None:
        await watching.connection.disconnect(nowait=True)


class _PrimaryConnection(Connection):
    """A connection that looks for the primary whenever it connects, and lets go of what is none."""

    def __init__(self, *, link: RedisLink, **options: Any) -> None:
        super().__init__(**options)
        self._link = link
        self._heard = 0.0
        # How often it has connected: what was watched before is watched no more.
        self.session = 0
        link.joined(self)

    async def connect(self) -> None:
        """Connect anew, if anything else failed since this one was last heard of: it may be dead unseen."""
        if self._heard <= self._link.failed_at:
            await self.disconnect(nowait=True)
        # Logging in included: a peer that accepts and stays silent must hold nobody.
        async with asyncio.timeout(CONNECT_SECONDS):
            await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        self.session += 1
        self.host, self.port = await self._link.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise UnreachedError(NO_HANDSHAKE if isinstance(self, SSLConnection) else NO_CONNECTION) from None

    async def read_response(self, *args: Any, **options: Any) -> Any:
        clock = asyncio.get_running_loop().time
        try:
            answer = await super().read_response(*args, **options)
        except _NOT_PRIMARY as error:
            await self.disconnect(nowait=True)
            raise self._link.no_primary(error) from None
        except (asyncio.CancelledError, ConnectionError):
            # Nobody cancels a call but its deadline, or the end of the gateway.
            self._link.failed_at = clock()
            raise
        self._heard = clock()
        return answer


class _TlsPrimaryConnection(_PrimaryConnection, SSLConnection):
    """The same over TLS."""
