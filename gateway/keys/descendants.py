"""Revoking a key together with every key that it minted, and those minted, and so on.

Rules kept here:
- What a minted key was rotated into descends from its minter, too; what the key at the top was rotated into
  somebody else made.
- A key is revoked before its offspring is read: from then on the store refuses what it mints
  (`CreatorRevokedError`), and that it is rotated, so none is missed.
- Keys that were revoked before are passed through: what they minted may still be live.
- It may be cut short by an outage and done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore

Revocation = tuple[str, str, str]
"""When a key is revoked (RFC 3339), by whom, and why."""


async def revoke_with_descendants(
    store: KeyStore,
    key_id: str,
    revocation: Revocation,
    learn: Callable[[KeyRecord], None] = lambda _: None,
    *,
    retiring: bool = False,
    before: Callable[[Sequence[str]], Awaitable[None]] | None = None,
) -> list[KeyRecord]:
    """Revoke a key and its descendants; their records, the key's own first, or none for an unknown id.

    Args:
        store: where the keys live.
        key_id: the key at the top.
        revocation: of the key; those of its descendants name it as their reason.
        learn: told of each record as soon as it is revoked.
        retiring: whether Core is still to revoke them.
        before: told of the ids of descendants before they are revoked.

    Raises:
        GatewayError: the store failed; some may be revoked by then.
    """
    at, by, reason = revocation
    top = await store.revoke(key_id, at, by, reason, retiring=retiring)
    if top is None:
        return []
    learn(top)
    revoked = {top.id: top}
    unread = [top.id]
    why = f"descendant of {key_id}" + (f": {reason}" if reason else "")
    while unread:
        parent = unread.pop()
        children = [
            child
            for child in await store.children(parent)
            if child.id not in revoked and (parent != top.id or child.created_by == top.id)
        ]
        if before is not None and children:
            await before([child.id for child in children])
        for child in children:
            record = await store.revoke(child.id, at, by, why, retiring=retiring)
            if record is not None:
                learn(record)
                revoked[record.id] = record
                unread.append(record.id)
    return list(revoked.values())
