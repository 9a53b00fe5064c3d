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

from gateway.gocompat.times import Instant
from gateway.keys.core.records import CoreRow, pending_record
from gateway.keys.import_file import BadRecordError, check_record
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import KeyRecord


@dataclass(slots=True)
class Left:
    """The ids of rows left out: `unprefixed` have no whole key_prefix, `unusable` no hash, owner or id."""

    unprefixed: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)


def pending_records(rows: Iterable[CoreRow], now: Instant, left: Left) -> list[KeyRecord]:
    """The records of rows, and in `left` the rows of which none can be made.

    `now` is when a key counts as revoked whose row does not say.
    """
    records = []
    for row in rows:
        if len(row.prefix) != PREFIX_LENGTH:
            left.unprefixed.append(row.id)
            continue
        record = pending_record(row, now)
        try:
            check_record(record)
        except BadRecordError:
            left.unusable.append(row.id)
        else:
            records.append(record)
    return records
