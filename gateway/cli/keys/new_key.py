"""Holds a new key with its record, and stores it.

Rules kept here:
- A key that is stored, or may be, is never lost: it is handed over with a warning.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace

from gateway.keys.errors import UnacknowledgedError, UncertainError
from gateway.keys.record import KeyRecord


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key and its record; `warning` says why the key may be lost, or not be stored at all."""

    record: KeyRecord
    key: str = field(repr=False)
    warning: str = ""


async def store_new_key(made: NewKey, change: Awaitable[None]) -> NewKey:
    """Await the change that stores a new key; return the key, with a warning if it may be lost.

    Raises what `change` raises; GatewayError only where the key is not stored.
    """
    new, old = made.record.id, made.record.replaces
    try:
        await change
    except UnacknowledgedError as failure:
        return replace(made, warning=f"{new} is stored, but a failover may lose it: {failure.reason}")
    except UncertainError as failure:
        done = f"{new} has replaced {old}" if old else f"{new} is stored"
        return replace(
            made,
            warning=f"it is not known whether {done}: {failure.reason}; "
            f"look at 'blnk-gateway keys show {old or new}'",
        )
    return made
