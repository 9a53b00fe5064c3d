"""Bounds on the number of keys of one owner, and on the texts of a key.

Rules kept here:
- Live keys are counted: those neither revoked nor expired. A disabled key is live, for it can be enabled.
- A record outlives its key, so records are bounded as well, at RECORDS_PER_KEY for each key of the quota. An
  owner that creates and revokes in a loop must not fill the store.
- A key is counted in the same step that stores it, so creations at the same time do not exceed the quota.
- Texts are bounded, so that a record is bounded, and the list of an owner too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.errors import go_json
from gateway.keys.record import RefusedRecordError
from gateway.policy.verdicts import HOLDABLE

RECORDS_PER_KEY: Final = 4
MAX_TEXT: Final = 256
"""Characters of a name, and of an owner."""
MAX_SCOPES: Final = len(HOLDABLE)
MAX_SCOPE: Final = 64
"""Characters of a scope. The longest that opens anything has 23."""
MAX_LISTED: Final = 4096
"""Bytes of name, owner and scopes as a list shows them: JSON, in which some characters take six."""


class QuotaError(RefusedRecordError):
    """The owner may have no further key; the text tells the client what to do."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most so many live keys of one owner; 0 for no limit, on records neither."""

    live: int = 0

    @property
    def records(self) -> int:
        """The most records of one owner, those of dead keys included."""
        return self.live * RECORDS_PER_KEY

    def check_records(self, records: int) -> None:
        """Raise QuotaError if an owner with so many records may have no further one."""
        if self.live and records >= self.records:
            raise QuotaError(
                f"Too many API keys: records of this owner: {records}, at most {self.records}, with those of "
                "revoked and expired keys; an operator has to remove old ones (blnk-gateway keys prune)"
            )

    def check_live(self, live: int) -> None:
        """Raise QuotaError if an owner with so many live keys may have no further one."""
        if self.live and live >= self.live:
            raise QuotaError(
                f"Too many API keys: live keys of this owner: {live}, at most {self.live} (keys.per_owner); "
                "revoke one first"
            )


NO_QUOTA: Final = Quota()


def text_faults(name: str, owner: str, scopes: tuple[str, ...]) -> list[str]:
    """Return what is too long for a record, a sentence for each."""
    faults = [
        f"{member} must have at most {MAX_TEXT} characters"
        for member, text in (("name", name), ("owner", owner))
        if len(text) > MAX_TEXT
    ]
    if len(scopes) > MAX_SCOPES:
        faults.append(f"scopes must be at most {MAX_SCOPES}")
    if any(len(scope) > MAX_SCOPE for scope in scopes):
        faults.append(f"a scope must have at most {MAX_SCOPE} characters")
    if not faults and len(go_json([name, owner, *scopes])) > MAX_LISTED:
        faults.append(f"name, owner and scopes must have at most {MAX_LISTED} bytes as JSON")
    return faults
