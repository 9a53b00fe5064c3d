"""Where the primary of a Redis is: at its address, or where its Sentinels or the nodes of its Cluster say.

Rules kept here:
- Of what Sentinels answer the highest configuration epoch counts: one that was cut off names the past.
- Of a Cluster the slot of our hash tag is all we use.
- No retries: who does not answer within 0.3 s says nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

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
"""How long Sentinels and nodes of a Cluster have for saying where the primary is."""


def client(options: dict[str, Any]) -> Any:
    """A client that fails at once instead of hiding an outage."""
    settled: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        # Callers bound their calls. Here it would be asyncio.wait_for, which before Python 3.12 lets a
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


class Single:
    """A Redis that is known by its address."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def primary(self) -> Place:
        """Where it is now. Raises NoPrimaryError where nobody says."""
        return self._place

    async def close(self) -> None:
        """Nobody was asked."""


class _Asked:
    """Those who are asked, all at once, and not for long."""

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
        self.know(url.places)

    @property
    def failures(self) -> str:
        """Why those who did not answer did not, in brackets behind a blank; empty if nothing is known."""
        told = dict.fromkeys(self._failures[place] for place in self._clients if place in self._failures)
        return f" ({'; '.join(told)})" if told else ""

    def know(self, places: tuple[Place, ...]) -> None:
        """Ask these too from now on."""
        for host, port in places:
            if (host, port) not in self._clients:
                self._clients[host, port] = client(self._options | {"host": host, "port": port})

    async def all(self, ask: Callable[[Any, Place], Awaitable[Any]]) -> list[Any]:
        """What those answered who did, in order."""

        async def one(client: Any, place: Place) -> Any:
            self._failures.pop(place, None)
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await ask(client, place)
            except (RedisError, OSError, ValueError, LookupError, TypeError) as failure:
                # TimeoutError is an OSError; the last three stand for answers in no known form.
                if told := known_reason(failure):
                    self._failures[place] = told
                return None

        answers = await asyncio.gather(*(one(client, place) for place, client in self._clients.items()))
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


class Sentinels:
    """The primary of a service that Sentinels watch."""

    def __init__(self, url: RedisUrl) -> None:
        self._service = url.service
        self._asked = _Asked(url, url.options.get("sentinel_username"), url.options.get("sentinel_password"))

    async def primary(self) -> Place:
        """Where it is now. Raises NoPrimaryError where nobody says."""
        answers: list[tuple[int, Place]] = await self._asked.all(self._ask)
        if not answers:
            unknown = f"no Sentinel answers, or none knows a primary called {self._service}"
            raise NoPrimaryError(f"{unknown}{self._asked.failures}")
        return max(answers, key=lambda answer: answer[0])[1]

    async def close(self) -> None:
        """Ask no longer."""
        await self._asked.close()

    async def _ask(self, client: Any, _: Place) -> tuple[int, Place]:
        # The address comes from the first command: it is the promoted one from the moment of promotion.
        async with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            pipe.execute_command("SENTINEL", "MASTER", self._service)
            (host, port), described = await pipe.execute()
        state = dict(zip(described[::2], described[1::2], strict=True))
        return int(state[b"config-epoch"]), (host.decode(), int(port))


class Cluster:
    """The primary of the slot in which all our names are."""

    def __init__(self, url: RedisUrl) -> None:
        self._slot = key_slot(PREFIX.encode())
        self._asked = _Asked(url, url.user, url.password)

    async def primary(self) -> Place:
        """Where it is now. Raises NoPrimaryError where nobody says."""
        answers: list[list[Place]] = await self._asked.all(self._ask)
        if not answers:
            unknown = "no node of a Redis Cluster answers, or none knows the primary"
            raise NoPrimaryError(f"{unknown}{self._asked.failures}")
        # A node that was configured may be gone later, and the others still there.
        self._asked.know(tuple(place for places in answers for place in places))
        return Counter(places[0] for places in answers).most_common(1)[0][0]

    async def close(self) -> None:
        """Ask no longer."""
        await self._asked.close()

    async def _ask(self, client: Any, asked: Place) -> list[Place]:
        """The primary and the replicas of our slot, as one node knows them."""
        for first, last, *nodes in await client.execute_command("CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # An empty host is the one that was asked (CLUSTER SLOTS, cluster-preferred-endpoint-type).
                return [(node[0].decode() if node[0] else asked[0], int(node[1])) for node in nodes]
        raise LookupError("the slot is served by nobody")


def finder(url: RedisUrl) -> Single | Sentinels | Cluster:
    """Who knows where the primary of this Redis is."""
    if url.kind is Topology.SENTINEL:
        return Sentinels(url)
    return Cluster(url) if url.kind is Topology.CLUSTER else Single(url.places[0])
