"""Find the primary of a Redis: at its address, or where its Sentinels or the nodes of its Cluster say.

Rules kept here:
- Of the Sentinels' responses the one with the highest configuration epoch counts: a Sentinel that was cut off
  still names the former primary.
- Of a Cluster only the slot of our hash tag is used.
- No retries: a Sentinel or node that does not respond within 0.3 s is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.keys.redis.errors import NoPrimaryError, known_reason
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.url import TLS_OPTIONS, Place, RedisUrl, Topology

CONNECT_SECONDS: Final = 1.0
ASK_SECONDS: Final = 0.3
"""How long Sentinels and nodes of a Cluster have to say where the primary is."""


def client(options: dict[str, Any]) -> Any:
    """Return a client that fails at once instead of hiding an outage."""
    settled: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        # Callers set deadlines. Here it would be asyncio.wait_for, which before Python 3.12 lets a
        # cancellation get lost.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "protocol": 2,
        "decode_responses": False,
        "driver_info": None,
        "timeout": CONNECT_SECONDS,
    }
    return Redis.from_pool(BlockingConnectionPool(**settled | options))


class PrimaryFinder(Protocol):
    """Finds the primary."""

    async def primary(self) -> Place:
        """Return where the primary is now. Raises NoPrimaryError if nobody knows."""

    async def confirm(self) -> Place | None:
        """Return where the primary is now if it can be replaced without knowing it; else None.

        Only a primary that Sentinels replace goes on answering every client that still reaches it. A node of
        a Cluster stops by itself (`cluster-node-timeout`), and a single Redis is the primary.

        Raises:
            NoPrimaryError: nobody knows.
        """

    async def close(self) -> None:
        """Close every connection."""


class Single:
    """A Redis that is known by its address."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def primary(self) -> Place:
        """Return the address."""
        return self._place

    async def confirm(self) -> None:
        """Return None: it is the primary."""

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class _Peers:
    """The Sentinels or nodes that know where the primary is, asked all at once."""

    def __init__(self, url: RedisUrl, user: str | None, password: str | None) -> None:
        tls = {name: value for name, value in url.options.items() if name in TLS_OPTIONS}
        self._options: dict[str, Any] = {
            "connection_class": SSLConnection if url.tls else Connection,
            "username": user,
            "password": password,
            "socket_connect_timeout": ASK_SECONDS,
            "max_connections": 4,
            **tls,
        }
        self._clients: dict[Place, Any] = {}
        self._failures: dict[Place, str] = {}
        self.add(url.places)

    @property
    def failures(self) -> str:
        """Return why some did not respond, in brackets after a space; empty if no reason is known."""
        known = dict.fromkeys(self._failures[place] for place in self._clients if place in self._failures)
        return f" ({'; '.join(known)})" if known else ""

    def add(self, places: tuple[Place, ...]) -> None:
        """Ask these, too, from now on."""
        for host, port in places:
            if (host, port) not in self._clients:
                self._clients[host, port] = client(self._options | {"host": host, "port": port})

    async def all(self, ask: Callable[[Any, Place], Awaitable[Any]]) -> list[Any]:
        """Ask each of them, and return the responses of those that gave one, in order."""

        async def one(client: Any, place: Place) -> Any:
            self._failures.pop(place, None)
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await ask(client, place)
            except (RedisError, OSError, ValueError, LookupError, TypeError) as failure:
                # TimeoutError is an OSError; the last three are raised by responses of no known form.
                if words := known_reason(failure):
                    self._failures[place] = words
                return None

        responses = await asyncio.gather(*(one(client, place) for place, client in self._clients.items()))
        return [response for response in responses if response is not None]

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()


class Sentinels:
    """Finds the primary of a service that Sentinels watch."""

    def __init__(self, url: RedisUrl) -> None:
        self._service = url.service
        self._peers = _Peers(url, url.options.get("sentinel_username"), url.options.get("sentinel_password"))

    async def primary(self) -> Place:
        """Return where it is now. Raises NoPrimaryError if no Sentinel knows."""
        responses: list[tuple[int, Place]] = await self._peers.all(self._ask)
        if not responses:
            unknown = f"no Sentinel answers, or none knows a primary called {self._service}"
            raise NoPrimaryError(f"{unknown}{self._peers.failures}")
        return max(responses, key=lambda response: response[0])[1]

    async def confirm(self) -> Place:
        """Return where it is now. Raises NoPrimaryError if no Sentinel knows."""
        return await self.primary()

    async def close(self) -> None:
        """Close every connection."""
        await self._peers.close()

    async def _ask(self, client: Any, _: Place) -> tuple[int, Place]:
        # The address comes from the first command: it is the promoted one from the moment of promotion.
        async with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            pipe.execute_command("SENTINEL", "MASTER", self._service)
            (host, port), described = await pipe.execute()
        state = dict(zip(described[::2], described[1::2], strict=True))
        return int(state[b"config-epoch"]), (host.decode(), int(port))


class Cluster:
    """Finds the primary of the slot in which all our names are."""

    def __init__(self, url: RedisUrl) -> None:
        self._slot = key_slot(PREFIX.encode())
        self._peers = _Peers(url, url.user, url.password)

    async def primary(self) -> Place:
        """Return where it is now. Raises NoPrimaryError if no node knows."""
        responses: list[list[Place]] = await self._peers.all(self._ask)
        if not responses:
            unknown = "no node of a Redis Cluster answers, or none knows the primary"
            raise NoPrimaryError(f"{unknown}{self._peers.failures}")
        # A node that was configured may be gone later, and the others still there.
        self._peers.add(tuple(place for places in responses for place in places))
        return Counter(places[0] for places in responses).most_common(1)[0][0]

    async def confirm(self) -> None:
        """Return None: a node stops by itself if it is replaced."""

    async def close(self) -> None:
        """Close every connection."""
        await self._peers.close()

    async def _ask(self, client: Any, asked: Place) -> list[Place]:
        """Return the primary and the replicas of our slot, as one node knows them."""
        for first, last, *nodes in await client.execute_command("CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # CLUSTER SLOTS: an empty host is that of the node asked (cluster-preferred-endpoint-type).
                return [(node[0].decode() if node[0] else asked[0], int(node[1])) for node in nodes]
        raise LookupError("the slot is served by nobody")


def finder(url: RedisUrl) -> PrimaryFinder:
    """Return what finds the primary of this Redis."""
    if url.kind is Topology.SENTINEL:
        return Sentinels(url)
    return Cluster(url) if url.kind is Topology.CLUSTER else Single(url.places[0])
