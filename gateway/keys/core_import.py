"""Which keys of Core's table a gateway can take over, as pending records.

Rules kept here:
- A row becomes a pending record: the first 16 characters of the key, and its bcrypt hash. Who revoked a
  key in Core is not known there, and neither is who created it: `core`.
- A row that cannot become one is left out and named: without `key_prefix` Core itself accepts the key no
  longer, and what is no bcrypt hash may be the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.keys.core_records import CoreRow, pending_record
from gateway.keys.instants import Instant
from gateway.keys.minting import is_key_id
from gateway.keys.record import BCRYPT, KeyRecord


@dataclass(slots=True)
class Left:
    """The ids of rows that were left out: `unprefixed` lack key_prefix, `unhashed` a bcrypt hash or an id."""

    unprefixed: list[str] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)


def pending_records(rows: Iterable[CoreRow], now: Instant, left: Left) -> list[KeyRecord]:
    """The records of rows, and in `left` the rows of which none can be made.

    `now` is when a key counts as revoked whose row does not say.
    """
    records = []
    for row in rows:
        if not is_key_id(row.id) or not BCRYPT.fullmatch(row.hashed):
            left.unhashed.append(row.id)
        elif not row.prefix:
            left.unprefixed.append(row.id)
        else:
            records.append(pending_record(row, now))
    return records
