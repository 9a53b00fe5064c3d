"""Changes to keys in Redis: read, work out what to write, and write it if nothing has changed meanwhile.

Rules kept here:
- Records, their indexes and their entries in the stream are written by one script (`script`). It refuses if a
  value that the change was worked out from has changed since, and the change is worked out anew.
- Reading, the script and WAIT use one connection to one primary. The script and WAIT leave in one write: WAIT
  counts only what its own connection wrote.
- Where the primary has replicas, as many as are connected, and at least as many as are configured, have
  acknowledged a write before it counts as done. It stands all the same if they have not.
- A change whose response is lost may have been made: its failure has an `NoResponseError` as its cause.
  Nothing is ever sent again by itself.
- New keys do not hold up what revokes keys: they have fewer of the writers at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.record import KeyRecord
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import PrimaryConnection, RedisLink
from gateway.keys.redis.errors import (
    REPLACED,
    NoPrimaryError,
    NoResponseError,
    NotAcknowledgedError,
    NotSentError,
)
from gateway.keys.redis.owner_ends import index_ends
from gateway.keys.redis.reading import Stored, is_misled, read_records
from gateway.keys.redis.role import is_primary
from gateway.keys.redis.script import Command, Outcome, OwnerQuota, eval_command, read_outcome

WAIT_SECONDS: Final = 0.7
"""How long replicas have for acknowledging a write."""

_ATTEMPTS: Final = 8
_WRITERS: Final = 4
_ADDERS: Final = 2
"""How many of the writers at once may add a key."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The records that a change is worked out from, in the order in which they were asked for.

    Attributes:
        misled: the ids that lead to the record of another key, or to no digest; `by_id` has None for them.
        values: what each name held that was read.
        replicas: how many replicas must acknowledge the change.
    """

    by_digest: Stored
    by_id: Stored
    misled: frozenset[str]
    values: dict[bytes, bytes | None]
    replicas: int

    @property
    def known(self) -> dict[str, KeyRecord]:
        """The records that are stored, by id."""
        return {record.id: record for record in self.by_digest + self.by_id if record is not None}


WritePlan = Callable[[Snapshot], Sequence[Command]]
"""Returns the commands that make a change, none for no change; called again if another writer came first."""


class Transactions:
    """Makes changes over one link; `replicas` is the least number that must acknowledge each."""

    def __init__(self, link: RedisLink, replicas: int) -> None:
        self._link = link
        self._replicas = replicas
        # A write may wait for replicas, and must not do so on the last connection that its reads need.
        self._writing = asyncio.Semaphore(_WRITERS)
        self.audited: Counter[str] = Counter()
        """The number of audit entries that were written, by kind."""
        # Clients that may make keys can make them without end; what revokes keys must not wait for that.
        self._adding = asyncio.Semaphore(_ADDERS)

    def adding(self) -> AbstractAsyncContextManager[None]:
        """Return what a change that adds a key has to hold."""
        return self._adding

    async def run(
        self,
        plan: WritePlan,
        digests: Sequence[str],
        ids: Sequence[str] = (),
        counted: OwnerQuota | None = None,
    ) -> None:
        """Make the change that `plan` works out from the records under the digests and the ids.

        Raises:
            QuotaError: the owner in `counted` has as many keys as its quota allows.
            redis.exceptions.RedisError: the change was refused, is not acknowledged, or may have been made.
        """
        async with self._writing, self._link.connection() as connection:
            for _ in range(_ATTEMPTS):
                read = await self._read(connection, digests, ids)
                commands = plan(read)
                if not commands:
                    return
                request = eval_command(read.values, commands, counted)
                outcome, count = await _write(connection, request, read.replicas)
                if outcome is Outcome.WRITTEN:
                    self.audited.update(command.audits for command in commands if command.audits)
                    return
                if counted is not None:
                    await self._check(outcome, count, counted)
        raise StoreUnavailableError(reason="too many others write the same key")

    async def _read(
        self, connection: PrimaryConnection, digests: Sequence[str], ids: Sequence[str]
    ) -> Snapshot:
        """Read the records, and the role of the peer, in one round trip if no id leads to another digest."""
        key_names, id_names = list(map(names.key_name, digests)), list(map(names.id_name, ids))
        commands = [("MGET", *each) for each in (key_names, id_names) if each]
        *values, role = await connection.ask(*commands, ("ROLE",))
        if not is_primary(role):
            await self._link.drop()
            raise NoPrimaryError(REPLACED)
        texts: list[bytes | None] = values[0] if digests else []
        found: list[bytes | None] = values[-1] if ids else []
        found_digests = [None if value is None else names.read_text(value) for value in found]
        others = list({digest for digest in found_digests if digest is not None}.difference(digests))
        other_names = list(map(names.key_name, others))
        if others:
            (other_texts,) = await connection.ask(("MGET", *other_names))
            texts = texts + other_texts
        records = read_records([*digests, *others], texts)
        by_digest = dict(zip([*digests, *others], records, strict=True))
        led_to = [None if digest is None else by_digest[digest] for digest in found_digests]
        misled = frozenset(
            key_id
            for key_id, digest, record in zip(ids, found_digests, led_to, strict=True)
            if digest is not None and is_misled(key_id, digest, record)
        )
        return Snapshot(
            by_digest=records[: len(digests)],
            by_id=[None if key_id in misled else found for key_id, found in zip(ids, led_to, strict=True)],
            misled=misled,
            values=dict(zip(key_names + other_names + id_names, texts + found, strict=True)),
            replicas=max(self._replicas, self._link.observe_replicas(role)),
        )

    async def _check(self, outcome: Outcome, count: int, counted: OwnerQuota) -> None:
        """Raise QuotaError if the owner has too many keys; note when they end if that is what is missing."""
        if outcome is Outcome.TOO_MANY_RECORDS:
            counted.quota.check_records(count)
        elif outcome is Outcome.TOO_MANY_LIVE:
            counted.quota.check_live(count)
        elif outcome is Outcome.UNINDEXED:
            await index_ends(self._link.changes, counted.owner)


async def _write(connection: PrimaryConnection, request: list[Any], replicas: int) -> tuple[Outcome, int]:
    """Run the script, and have replicas acknowledge what it wrote.

    Raises:
        redis.exceptions.RedisError: the script was refused, or its write is not acknowledged; with an
            `NoResponseError` as its cause it may have been made.
    """
    waiting = [("WAIT", replicas, round(WAIT_SECONDS * 1000))] if replicas else []
    try:
        await connection.send_all(request, *waiting)
        done = await connection.read_reply()
    except (NotSentError, NoPrimaryError):
        # The script was refused by a peer that is no primary.
        raise
    except BaseException as error:
        raise error from NoResponseError()
    try:
        acknowledged = [await connection.read_reply() for _ in waiting]
    except BaseException as error:
        # The script may have written, also where its peer is no primary by now.
        raise error from NoResponseError()
    if isinstance(done, ResponseError):
        raise done
    outcome, count = read_outcome(done)
    if outcome is Outcome.WRITTEN and acknowledged:
        _check_acknowledged(acknowledged[0], replicas)
    return outcome, count


def _check_acknowledged(reply: Any, replicas: int) -> None:
    """Raise the failure for a response to WAIT that says too little."""
    if isinstance(reply, ResponseError):
        # As where the primary became a replica meanwhile, which may have lost the write.
        raise reply from NoResponseError()
    if reply < replicas:
        raise NotAcknowledgedError(f"{reply} of {replicas} replicas have acknowledged the write")
