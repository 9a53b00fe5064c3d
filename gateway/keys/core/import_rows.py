"""Turn the rows of Core's table into pending records, for an import.

Rules kept here:
- A pending record has the first 16 characters of the key, and its bcrypt hash. Core's table does not say
  who created or revoked a key: `core`.
- A row that cannot become one is left out and named. Without `key_prefix` Core itself no longer accepts the
  key, and a `key` that is no bcrypt hash may be the key itself.
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
class RowsLeftOut:
    """The ids of rows left out: `unprefixed` have no whole key_prefix, `unusable` no hash, owner or id."""

    unprefixed: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)


def pending_records(rows: Iterable[CoreRow], now: Instant, left_out: RowsLeftOut) -> list[KeyRecord]:
    """Return the records of rows, and add to `left_out` the rows that cannot become one.

    `now` is when a key counts as revoked whose row does not say.
    """
    records = []
    for row in rows:
        if len(row.prefix) != PREFIX_LENGTH:
            left_out.unprefixed.append(row.id)
            continue
        record = pending_record(row, now)
        try:
            check_record(record)
        except BadRecordError:
            left_out.unusable.append(row.id)
        else:
            records.append(record)
    return records
