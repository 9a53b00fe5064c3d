"""How far the shippers of the audit stream are, and whether entries are trimmed before they were shipped.

Rules kept here:
- The slowest shipper counts. Without any shipper, no entry is shipped.
- A stream that was nearly full of unshipped entries counts as having room again below a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AUDIT_KEPT: Final = 100_000
"""About how many entries the stream keeps, where nothing else is said."""
NEARLY: Final = 0.8
"""The part of the entries that are kept at which unshipped ones are reported: none is trimmed before that."""
AGAIN: Final = 0.7


@dataclass(frozen=True, slots=True)
class Unshipped:
    """The entries that the slowest shipper has not printed yet.

    Attributes:
        shipper: its name; "" if there is no shipper.
        entries: how many there are; those that were trimmed count.
        since: when the oldest that is still kept was written (Unix seconds); None for none.
    """

    shipper: str
    entries: int
    since: float | None


def nearly_trimmed(unshipped: Unshipped, kept: int, *, before: bool) -> bool:
    """Return whether unshipped entries will soon be trimmed, or were.

    Args:
        unshipped: those entries.
        kept: about how many entries the stream keeps.
        before: the result for the time before this.
    """
    return unshipped.entries > kept * (AGAIN if before else NEARLY)
