"""Who makes, rotates and revokes keys for the commands: the key store, or Core where it is the authority.

Rules kept here:
- Core is asked with the master key, with the owner, name and scopes of its row, never those remembered.
- A revocation counts here before Core is asked, and what Core does not do at once the gateways go on asking.
- A key that the store does not know comes into it as a pending record first, so that who rotated, disabled
  or revoked it is kept there.
- That a rotated key ends is stored with its successor in one step. A new key that could not be stored is
  withdrawn from Core: nobody has seen it. One of which nobody can tell whether it is stored is handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from gateway.cli.arguments import after
from gateway.cli.console import say
from gateway.cli.key_display import printable
from gateway.cli.key_store import DependencyError, core_database, heirs_of, login, telling, told, written
from gateway.cli.new_keys import NewKey
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.api.bodies import Creation
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.records import CoreRow, today, with_row
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.descendants import revoke_with_descendants
from gateway.keys.errors import UnacknowledgedError, UncertainError
from gateway.keys.minting import digest, is_key_id, mint_id, mint_key
from gateway.keys.quota import Quota
from gateway.keys.record import KeyRecord, RefusedRecordError
from gateway.keys.store import KeyStore, Revision

_SHOWN_CHARACTERS = 200
_LATER = "the gateways refuse the key from now on, and go on asking Core to revoke it"


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a key is to be replaced: when the old one ends, when the new one does (RFC 3339), and why.

    Without `expires_at` the new one lives as long as the old one was made to.
    """

    overlap: timedelta
    expires_at: str | None
    reason: str


class KeyWriter(Protocol):
    """What changes keys; done once it returns. Every command raises GatewayError or DependencyError."""

    async def create(self, creation: Creation) -> NewKey:
        """Make a key. Raises QuotaError."""

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Make a key in place of one; None for an unknown id. Raises RefusedRecordError."""

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key; what is revoked now, the key's record first, or none for an unknown id."""

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change a record; None for an unknown id."""


class StoreKeyWriter:
    """The store as the authority; `at` is the time that records say."""

    def __init__(self, store: KeyStore, at: datetime, quota: Quota) -> None:
        self._store = store
        self._at = at
        self._quota = quota

    async def create(self, creation: Creation) -> NewKey:
        """Make a key."""
        made = self._mint(creation)
        return await _standing(made, self._store.add(made.record, self._quota))

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Make a key in place of one."""
        old = await self._store.get(key_id)
        if old is None:
            return None
        retire = retirement(rotation, self._at)
        await _refuse_rotated(self._store, old)
        made = self._mint(successor(old, rotation, self._at), replaces=old.id)
        return await _rotated(self._store, key_id, retire, made)

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key."""
        revocation = (written(self._at), login(), reason)
        if not descendants:
            revoked = await self._store.revoke(key_id, *revocation)
            return [] if revoked is None else await _as_stored(self._store, [revoked])
        some: list[KeyRecord] = []
        with _repeatable(some):
            await revoke_with_descendants(self._store, key_id, revocation, some.append)
        return await _as_stored(self._store, some)

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change a record."""
        if await self._store.revise(key_id, revision) is None:
            return None
        with telling():
            return await self._store.get(key_id)

    def _mint(self, creation: Creation, *, replaces: str = "") -> NewKey:
        key = mint_key(os.urandom)
        record = KeyRecord(
            id=mint_id(os.urandom),
            digest=digest(key),
            name=creation.name,
            owner=creation.owner,
            scopes=creation.scopes,
            expires_at=str(creation.expires_at),
            created_at=written(self._at),
            created_by=login(),
            replaces=replaces,
        )
        return NewKey(record, key)


class CoreKeyWriter:
    """Core as the authority.

    Args:
        store: where digests and histories are.
        writes: asks Core; tells `revoked` of every record that is revoked.
        revoked: empty.
        at: the time that records say.
        quota: counts before Core is asked for a key.
    """

    def __init__(
        self,
        store: KeyStore,
        writes: CoreKeyWrites,
        revoked: list[KeyRecord],
        at: datetime,
        quota: CoreQuota,
    ) -> None:
        self._store = store
        self._writes = writes
        self._revoked = revoked
        self._at = at
        self._quota = quota

    async def create(self, creation: Creation) -> NewKey:
        """Let Core make a key."""
        # A key that could not be stored should rather not be made.
        await self._store.ping()
        async with self._quota.turn(creation.owner):
            made = await self._mint(creation)
            async with self._withdrawn_unless_stored(made.record):
                return await _standing(made, self._writes.keep(made.record))

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Let Core make a key in place of one, which a gateway revokes in Core when the overlap ends."""
        row = await self._row(key_id)
        if row is None:
            return None
        retire = retirement(rotation, self._at, retiring=True)
        old = with_row(await self._writes.remember(row), row)
        # What may not be replaced is found before Core makes anything.
        await _refuse_rotated(self._store, old)
        retire(old)
        made = await self._mint(successor(old, rotation, self._at), replaces=old.id)
        async with self._withdrawn_unless_stored(made.record):
            return await _rotated(self._store, key_id, lambda old: retire(with_row(old, row)), made)

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key here, and let Core revoke it too; if Core does not, a gateway goes on asking it."""
        revocation = (written(self._at), login(), reason)
        row = await self._row(key_id)
        with _repeatable(self._revoked):
            revoked = await self._writes.revoke_here(key_id, row, revocation, descendants=descendants)
        try:
            refused = await self._writes.retire(revoked)
        except GatewayError as failure:
            raise DependencyError(f"{failure.reason}; {_LATER}") from failure
        if refused is not None:
            raise DependencyError(f"{_told(refused)}; {_LATER}")
        return await _as_stored(self._store, revoked)

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change what the store remembers of a key, and tell what is so of it then."""
        revised = await self._store.revise(key_id, revision)
        try:
            row = await self._row(key_id)
        except DependencyError:
            if revised is None:
                raise
            # Done all the same: the store's word counts where it is stricter.
            with telling():
                return await self._store.get(key_id)
        if revised is None and row is not None:
            await self._writes.remember(row)
            await self._store.revise(key_id, revision)
        with telling():
            return today(await self._store.get(key_id), row, Instant.of(self._at))

    async def _row(self, key_id: str) -> CoreRow | None:
        if not is_key_id(key_id):
            return None
        return await told(self._writes.row(key_id))

    async def _mint(self, creation: Creation, *, replaces: str = "") -> NewKey:
        answer = await self._writes.mint(creation)
        made = await self._writes.made(answer, login(), replaces=replaces)
        if made is None:
            raise DependencyError(_told(answer))
        return NewKey(*made)

    @contextlib.asynccontextmanager
    async def _withdrawn_unless_stored(self, record: KeyRecord) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            # The second Ctrl-C; Core made the key a moment ago.
            if not await self._withdraw(record):
                say(_unseen(record), err=True)
            raise
        except (GatewayError, RefusedRecordError) as failure:
            if await self._withdraw(record):
                raise
            raise DependencyError(f"{failure}; {_unseen(record)}") from failure

    async def _withdraw(self, record: KeyRecord) -> bool:
        try:
            return (await self._writes.withdraw(record.id, record.owner)).status == 204
        except GatewayError:
            return False


@contextlib.asynccontextmanager
async def key_writer_of(config: Config, store: KeyStore, at: datetime) -> AsyncIterator[KeyWriter]:
    """What changes keys under this configuration; exits with 2 where it needs packages that are not there."""
    quota = Quota(config.keys.per_owner)
    if config.keys.authority == "gateway":
        yield StoreKeyWriter(store, at, quota)
        return
    from gateway.cli.core_client import asking_core

    rows = core_database(config)
    revoked: list[KeyRecord] = []
    async with asking_core(config) as ask:
        try:
            writes = CoreKeyWrites(ask, rows, store, revoked.append, lambda: at)
            yield CoreKeyWriter(store, writes, revoked, at, CoreQuota(rows, store, lambda: quota))
        finally:
            rows.close()


async def _standing(made: NewKey, change: Awaitable[None]) -> NewKey:
    """The new key once the change that stores it is done; one that stands, or may, must not lose it.

    Raises what `change` does, GatewayError where it does not stand.
    """
    new, old = made.record.id, made.record.replaces
    try:
        await change
    except UnacknowledgedError as failure:
        return replace(made, doubt=f"{new} is stored, but a failover may lose it: {failure.reason}")
    except UncertainError as failure:
        what = f"{new} took the place of {old}" if old else f"{new} is stored"
        tells = f"blnk-gateway keys show {old or new}"
        return replace(made, doubt=f"whether {what} is not known: {failure.reason}; ask {tells}")
    return made


@contextlib.contextmanager
def _repeatable(revoked: Sequence[KeyRecord]) -> Iterator[None]:
    """A failure once some are revoked is told so. Raises DependencyError."""
    try:
        yield
    except GatewayError as failure:
        if not revoked:
            raise
        raise DependencyError(f"{failure.reason}; not all is revoked yet: repeat it") from failure


async def _as_stored(store: KeyStore, changed: Sequence[KeyRecord]) -> list[KeyRecord]:
    """The records behind a change, with their last uses."""
    with telling():
        return await store.get_all([record.id for record in changed])


def _unseen(record: KeyRecord) -> str:
    return f"{record.id}, a new key that nobody has, is still live in Core: revoke it"


async def _rotated(store: KeyStore, key_id: str, retire: Revision, made: NewKey) -> NewKey:
    """The same, stored in one step with the end of the key that it replaces. Raises RefusedRecordError."""

    async def change() -> None:
        if await store.revise(key_id, retire, successor=made.record) is None:
            raise RefusedRecordError(f"{key_id} is gone from the store")

    return await _standing(made, change())


async def _refuse_rotated(store: KeyStore, old: KeyRecord) -> None:
    """Raises RefusedRecordError, naming what took its place, if a live key was rotated already."""
    if old.rotated and not old.revoked:
        heirs = await heirs_of(store, old.id)
        alive = [heir.id for heir in heirs if not heir.revoked]
        todo = f"rotate {', '.join(alive)}" if alive else "what took its place is revoked: create a new key"
        raise RefusedRecordError(f"{old.id} was rotated already: {todo}")


def successor(old: KeyRecord, rotation: Rotation, at: datetime) -> Creation:
    """What the new key of a rotation is to be."""
    if rotation.expires_at is not None:
        expires_at = read_instant(rotation.expires_at.encode())
    else:
        expires_at = Instant.after(at, timedelta(seconds=max(old.expires.unix - old.created.unix, 1)))
    return Creation(old.name, old.scopes, old.owner, expires_at)


def retirement(rotation: Rotation, at: datetime, *, retiring: bool = False) -> Revision:
    """What a rotation does to the old key's record; raises RefusedRecordError for a dead one.

    With `retiring`, Core is to revoke it in the end. Exits with 2 if its overlap is beyond the years.
    """
    until = read_instant(after(at, rotation.overlap, "--overlap").encode())
    by = login()
    return lambda record: record.retire(until, written(at), by, rotation.reason, retiring=retiring)


def _told(answer: ApiResponse) -> str:
    """What Core said, for people."""
    try:
        text = str(msgspec.json.decode(answer.body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        text = "nothing that can be read"
    return f"Core answered {answer.status}: {printable(text[:_SHOWN_CHARACTERS])}"
