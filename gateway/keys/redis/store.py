"""The key store in one Redis or Valkey.

Rules kept here:
- An entry in the stream of changes, and one in the audit stream, is written with the record (`transactions`),
  so what the streams do not show has not happened.
- No retries: an outage is a failure within 1.5 s, and any outage is a `StoreUnavailableError`. So is a
  record that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.audit.author import THE_GATEWAY, Author
from gateway.keys.command_times import StoreTimes
from gateway.keys.leases import TokenLeases
from gateway.keys.redis.audit_stream import RedisAuditStream
from gateway.keys.redis.change_feed import RedisChangeFeed
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.durability import (
    change_warnings,
    durability_warnings,
    memory_ratio,
    too_few_acknowledge,
)
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.leases import RedisLeases
from gateway.keys.redis.record_commands import RecordCommands
from gateway.keys.redis.record_reader import RedisRecordReader
from gateway.keys.redis.record_writer import RecordWriter
from gateway.keys.redis.role import connected_replicas
from gateway.keys.redis.usage import KeyUsage
from gateway.keys.store import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntries:
    """About how many entries the streams keep: that of changes, and the audit stream.

    `audit` returns None where `audit.kept` is not known: then nothing is trimmed there.
    """

    changes: int = 10_000
    audit: Callable[[], int | None] = lambda: None


class RedisKeyStore(RedisRecordReader, RecordWriter, RedisChangeFeed, RedisAuditStream, KeyUsage):
    """Keys in one Redis, shared by every replica of the gateway.

    Args:
        url: as `url.read_url` takes it.
        replicas: the least number of Redis replicas that must acknowledge a write.
        kept: about how many entries the streams keep.
        author: makes the changes, unless `acting_as` names another.
        left_out: takes note of a key that a list leaves out, because its record cannot be read; None if such
            a record fails the list.

    Raises:
        ValueError: the URL is not one of Redis; the message does not repeat it.
    """

    shared: Final = True

    def __init__(
        self,
        url: str,
        *,
        replicas: int = 0,
        kept: KeptEntries = KeptEntries(),
        author: Author = THE_GATEWAY,
        left_out: LeftOut | None = None,
    ) -> None:
        link = RedisLink(url)
        RedisRecordReader.__init__(self, link, left_out)
        RecordWriter.__init__(self, link, RecordCommands(kept.changes, kept.audit, author), replicas)
        RedisChangeFeed.__init__(self, link)
        RedisAuditStream.__init__(self, link, kept.audit)
        KeyUsage.__init__(self, link)
        self._least_replicas = replicas
        self.token_leases: TokenLeases | None = RedisLeases(link)

    async def ping(self) -> None:
        """Return if the store responds."""
        async with redis_errors():
            await self.link.changes.ping()

    async def warnings(self) -> tuple[str, ...]:
        """Return what speaks against keeping keys in this Redis; empty if nothing does."""
        async with redis_errors():
            found = await durability_warnings(self.link.changes)
            found += await change_warnings(self.link.changes)
            connected = connected_replicas(await self.link.changes.execute_command("ROLE"))
        if self.link.fails_over and connected > self._least_replicas:
            found += (too_few_acknowledge(connected, self._least_replicas),)
        return found

    async def memory_ratio(self) -> float | None:
        """Return how much of its `maxmemory` Redis uses; None if it has none, or does not say."""
        async with redis_errors():
            return await memory_ratio(self.link.changes)

    @property
    def times(self) -> StoreTimes:
        """The times and failures of its commands."""
        return self.link.times

    async def close(self) -> None:
        """Close every connection; look-ups that still wait fail."""
        await self.close_look_ups()
        await self.link.close()
