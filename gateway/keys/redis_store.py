"""Keys in Redis or Valkey, and the stream of their changes.

Rules kept here:
- Plain commands only, every name under one prefix: `key:DIGEST` holds a record as JSON and is
  authoritative; `id:KEY_ID` (a digest) and `owner:OWNER` (digests by creation) are indexes;
  `changes` is the stream.
- A look-up by digest is one round trip.
- A record, its indexes and its entry in the stream are written in one MULTI/EXEC, under WATCH, so
  that of two writers the second sees what the first wrote.
- No retries: 1 s to connect, 1 s for an answer, 2 s in all, and any outage of whatever kind is
  `KEY_STORE_UNAVAILABLE`. So is a record that cannot be read.
- No text raised here holds the URL, whose password is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import WatchError

from gateway.errors import Code, GatewayError
from gateway.keys.store import Change, Changes, DuplicateKeyError, KeyRecord

PREFIX: Final = "blnk-gateway:"
CONNECT_SECONDS: Final = 1.0
COMMAND_SECONDS: Final = 1.0

_CHANGES: Final = f"{PREFIX}changes"
_START: Final = "0-0"
_WRITE_ATTEMPTS: Final = 8
_LIST_BATCH: Final = 1000

Revision = Callable[[KeyRecord | None], KeyRecord | None]


class RedisKeyStore:
    """Keys in one Redis, shared by every replica of the gateway.

    Args:
        url: `redis://` or `rediss://`, with user, password and database as redis-py reads them.
        connections: the most that are open at once, besides the one that follows the changes.
        changes_kept: about how many changes the stream keeps.

    Raises:
        ValueError: the URL is not one of Redis; the message does not repeat it.
    """

    def __init__(self, url: str, *, connections: int = 16, changes_kept: int = 10_000) -> None:
        self._client = _connect(url, connections, COMMAND_SECONDS)
        # XREAD holds its connection while it blocks: it must not be one that look-ups wait for.
        self._follower = _connect(url, 1, None)
        self._changes_kept = changes_kept
        self._record = msgspec.json.Decoder(KeyRecord)

    async def find(self, digest: str) -> KeyRecord | None:
        """The record of a key by its digest."""
        async with _answering():
            return self._read(digest, await self._client.get(_key_name(digest)))

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        async with _answering():
            digest = await self._digest(key_id)
            return None if digest is None else self._read(digest, await self._client.get(_key_name(digest)))

    async def add(self, record: KeyRecord) -> None:
        """Store a new record; raises `DuplicateKeyError` if its digest is known."""

        def new(stored: KeyRecord | None) -> KeyRecord:
            if stored is not None:
                raise DuplicateKeyError(record.id)
            return record

        async with _answering():
            await self._revise(record.digest, new)

    async def revoke(self, key_id: str, at: str, by: str) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id. Done when this returns."""
        async with _answering():
            digest = await self._digest(key_id)
            if digest is None:
                return None
            return await self._revise(digest, lambda stored: stored and stored.revoke(at, by))

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""
        async with _answering():
            digests = [
                name.decode() for name in await self._client.zrange(_owner_name(owner), 0, -1, desc=True)
            ]
        records: list[KeyRecord] = []
        for start in range(0, len(digests), _LIST_BATCH):
            batch = digests[start : start + _LIST_BATCH]
            async with _answering():
                texts = await self._client.mget([_key_name(digest) for digest in batch])
                read = (self._read(digest, text) for digest, text in zip(batch, texts, strict=True))
                records += [record for record in read if record is not None and record.owner == owner]
        return records

    async def empty(self) -> bool:
        """Whether no key was ever stored: every one leaves a change in the stream."""
        async with _answering():
            return not await self._client.exists(_CHANGES)

    async def ping(self) -> None:
        """Return if the store answers."""
        async with _answering():
            await self._client.ping()

    async def last_position(self) -> str:
        """The id of the last entry in the stream."""
        async with _answering():
            return _entry_id(await self._client.xrevrange(_CHANGES, count=1)) or _START

    async def changes(self, after: str, wait: float) -> Changes:
        """The entries of the stream after a position; waits up to `wait` seconds for the first one.

        They are continuous if the entry at `after` still lies between the stream's first and last:
        a stream that was cut ends up after it, one that was lost or restored from a copy before it.
        """
        async with _answering(wait):
            # One round trip; the bounds are read after the entries, so a cut in between is seen.
            async with self._follower.pipeline(transaction=False) as pipe:
                pipe.xread({_CHANGES: after}, block=max(1, round(wait * 1000)))
                pipe.xrange(_CHANGES, count=1)
                pipe.xrevrange(_CHANGES, count=1)
                read, first, last = await pipe.execute()
            entries = read[0][1] if read else []
            changes = [_read_change(fields) for _, fields in entries]
            continuous = None not in changes and _lies_between(after, _entry_id(first), _entry_id(last))
            position = _entry_id(entries[-1:]) or (after if continuous else _entry_id(last) or _START)
        return Changes(position, tuple(change for change in changes if change), continuous)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._follower.aclose()

    async def _digest(self, key_id: str) -> str | None:
        digest = await self._client.get(_id_name(key_id))
        return None if digest is None else digest.decode()

    def _read(self, digest: str, text: bytes | None) -> KeyRecord | None:
        if text is None:
            return None
        record = self._record.decode(text)
        if record.digest != digest:
            raise ValueError("a record is stored under the digest of another key")
        return record

    async def _revise(self, digest: str, revision: Revision) -> KeyRecord | None:
        """Replace a record by its revision and publish the change, unless nothing changes."""
        async with self._client.pipeline(transaction=True) as pipe:
            for _ in range(_WRITE_ATTEMPTS):
                await pipe.watch(_key_name(digest))
                stored = self._read(digest, await pipe.get(_key_name(digest)))
                revised = revision(stored)
                if revised is None or revised == stored:
                    return revised
                pipe.multi()
                self._write(pipe, revised)
                with contextlib.suppress(WatchError):
                    await pipe.execute()
                    return revised
        raise GatewayError(Code.KEY_STORE_UNAVAILABLE)

    def _write(self, pipe: Any, record: KeyRecord) -> None:
        pipe.set(_key_name(record.digest), msgspec.json.encode(record))
        pipe.set(_id_name(record.id), record.digest)
        pipe.zadd(_owner_name(record.owner), {record.digest: round(record.created.unix * 1e6)})
        fields = {"digest": record.digest, "id": record.id, "revoked": int(record.revoked_at is not None)}
        pipe.xadd(_CHANGES, fields, maxlen=self._changes_kept, approximate=True)


def _connect(url: str, connections: int, answer_seconds: float | None) -> Any:
    """A client that fails at once instead of hiding an outage.

    `Any`: redis-py types every command as perhaps awaitable, for its synchronous clients too.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # redis-py's own text may quote a part of the password.
        raise ValueError("not a URL of Redis") from None
    options |= {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "protocol": 2,
        "decode_responses": False,
        "driver_info": None,
        "max_connections": connections,
        "timeout": CONNECT_SECONDS,
    }
    return Redis.from_pool(BlockingConnectionPool(**options))


@contextlib.asynccontextmanager
async def _answering(wait: float = 0.0) -> AsyncIterator[None]:
    """Bound what happens inside to 2 s and `wait`, and turn its every failure into one."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS + COMMAND_SECONDS + wait):
            yield
    except (GatewayError, DuplicateKeyError):
        raise
    except Exception as error:
        # redis-py lets through OSError, ValueError, IndexError and more, by what the peer sends.
        raise GatewayError(Code.KEY_STORE_UNAVAILABLE) from error


def _key_name(digest: str) -> str:
    return f"{PREFIX}key:{digest}"


def _id_name(key_id: str) -> bytes:
    return f"{PREFIX}id:{key_id}".encode("utf-8", "surrogateescape")


def _owner_name(owner: str) -> bytes:
    # An owner from a query may hold bytes that are no UTF-8; nobody owns keys under such a name.
    return f"{PREFIX}owner:{owner}".encode("utf-8", "surrogateescape")


def _entry_id(entries: list[tuple[bytes, Any]]) -> str | None:
    return entries[0][0].decode() if entries else None


def _read_change(fields: dict[bytes, bytes]) -> Change | None:
    """The change in an entry; None if it is not one of ours."""
    try:
        return Change(fields[b"digest"].decode(), fields[b"id"].decode(), fields[b"revoked"] != b"0")
    except (KeyError, UnicodeDecodeError):
        return None


def _lies_between(position: str, first: str | None, last: str | None) -> bool:
    if first is None or last is None:
        return position == _START
    return _order(first) <= _order(position) <= _order(last)


def _order(position: str) -> tuple[int, int]:
    """Stream ids sort as two numbers, `MILLISECONDS-SEQUENCE`."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)
