"""Finds the live keys that descend from a key, as `revocation` does when it revokes them."""

from __future__ import annotations

from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyChildren
from gateway.policy.principals import KeyState


async def live_descendants(store: KeyChildren, key_id: str, now: float) -> list[KeyRecord]:
    """Return the keys that this key created, their successors, and what these created, if they are live.

    `now` is in Unix seconds. The successor of the key itself is none of them. Raises GatewayError.
    """
    found: dict[str, KeyRecord] = {}
    unread = [key_id]
    while unread:
        parent = unread.pop()
        for child in await store.children(parent):
            if child.id not in found and (parent != key_id or child.created_by == key_id):
                found[child.id] = child
                unread.append(child.id)
    return [record for record in found.values() if record.state(now) is KeyState.LIVE]
