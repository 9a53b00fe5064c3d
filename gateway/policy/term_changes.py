"""Changes of a key's terms: new values of those that somebody names; all others stay.

Rules kept here:
- Without a rate there is no burst: who removes the rate removes both, and who names a burst alone is refused.
- A key whose rate or concurrency is set has it for itself, and shares none any more.
- A certificate and networks that are removed are removed by name, never by leaving them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gateway.policy.terms import NO_TERMS, KeyTerms


@dataclass(frozen=True, slots=True)
class TermChanges:
    """The terms that change: those in `named` get their values in `values`, an empty one to remove it."""

    values: KeyTerms = NO_TERMS
    named: frozenset[str] = frozenset()

    def applied_to(self, terms: KeyTerms) -> KeyTerms:
        """Return the terms after the change. Raises ValueError, whose text says what to write."""
        changed = replace(terms, **{name: getattr(self.values, name) for name in self.named})
        if not self.named.isdisjoint(("rate", "concurrency")):
            changed = replace(changed, shared_with="")
        if changed.rate is None and "burst" not in self.named:
            changed = replace(changed, burst=0)
        if changed.burst and changed.rate is None:
            raise ValueError("a burst needs a rate: name both")
        return NO_TERMS if changed == NO_TERMS else changed


NO_CHANGES: Final = TermChanges()
