"""Revoke a key in the store, alone or with every key that descends from it.

Rules kept here:
- The descendants of a key are the keys that it created, the successors of those, and what these created in
  turn. The successor of the key at the top is not one: somebody else rotated the key.
- A key is revoked before its children are read. From then on the store refuses what it creates
  (`CreatorRevokedError`), and that it is rotated, so none is missed.
- The children of keys that were revoked before are revoked too: they may still be live.
- A revocation that an outage cuts short can be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.keys.record import KeyRecord, Revocation
from gateway.keys.store import KeyChildren, RecordReviser


class RevocableStore(RecordReviser, KeyChildren, Protocol):
    """The store in which a key is revoked with its descendants."""


async def _nothing(_: Sequence[str]) -> None:
    """Need nothing before descendants are revoked."""


@dataclass(frozen=True, slots=True)
class RevocationHooks:
    """Callbacks and options of a revocation with descendants.

    Args:
        on_change: gets each record as soon as it is revoked.
        before: is awaited with the ids of descendants before they are revoked.
        awaiting_core: whether the rows of the keys in Core are to be revoked then.
    """

    on_change: Callable[[KeyRecord], None] = lambda _: None
    before: Callable[[Sequence[str]], Awaitable[None]] = _nothing
    awaiting_core: bool = False


async def revoke_key(
    store: RecordReviser, key_id: str, revocation: Revocation, *, awaiting_core: bool = False
) -> KeyRecord | None:
    """Revoke a key and return its record; None for an unknown id. Done when this returns.

    With `awaiting_core` it is among `awaiting_core_revocation()` from then on. Raises GatewayError.
    """
    return await store.revise(
        key_id, lambda record: record.as_revoked(revocation, awaiting_core=awaiting_core)
    )


async def revoke_with_descendants(
    store: RevocableStore, key_id: str, revocation: Revocation, hooks: RevocationHooks
) -> list[KeyRecord]:
    """Revoke a key and its descendants; return their records, the key's own first, or none for an unknown id.

    The revocations of descendants name the key as their reason.

    Raises:
        GatewayError: the store failed; some may be revoked by then.
    """
    top = await revoke_key(store, key_id, revocation, awaiting_core=hooks.awaiting_core)
    if top is None:
        return []
    hooks.on_change(top)
    revoked = {top.id: top}
    unread = [top.id]
    reason = f": {revocation.reason}" if revocation.reason else ""
    inherited = replace(revocation, reason=f"descendant of {key_id}{reason}")
    while unread:
        parent = unread.pop()
        children = [
            child
            for child in await store.children(parent)
            if child.id not in revoked and (parent != top.id or child.created_by == top.id)
        ]
        if children:
            await hooks.before([child.id for child in children])
        for child in children:
            record = await revoke_key(store, child.id, inherited, awaiting_core=hooks.awaiting_core)
            if record is not None:
                hooks.on_change(record)
                revoked[record.id] = record
                unread.append(record.id)
    return list(revoked.values())
