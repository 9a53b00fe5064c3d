"""The contents of a cache of keys: principals by digest, and the ids of keys that were seen revoked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gateway.keys.bounded_dict import BoundedDict
from gateway.policy.principals import ApiKey

KEPT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """The most principals, and digests of known keys, and the most ids of revoked keys that are kept."""

    entries: int = 50_000
    revoked: int = 500_000


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A key as the store knew it at `asked`; valid without asking until `until` (monotonic seconds)."""

    key: ApiKey
    asked: float
    until: float


class CacheEntries:
    """The entries of one cache. `by_digest` is always the same dictionary."""

    def __init__(self, limits: CacheLimits) -> None:
        self.by_digest: BoundedDict[str, CacheEntry] = BoundedDict(limits.entries)
        # Dictionaries for their order; the values mean nothing.
        self._revoked: BoundedDict[str, None] = BoundedDict(limits.revoked)
        # Digests of keys that the store knew, also of those whose entries are no longer valid.
        self._known: BoundedDict[str, None] = BoundedDict(limits.entries)

    def is_known(self, digest: str) -> bool:
        """Return whether the store knew this key when it was asked last."""
        return digest in self._known

    def put(self, digest: str, key: ApiKey | None, asked: float) -> None:
        """Keep a key that the store knew at `asked`; None forgets it."""
        if key is None:
            self.by_digest.pop(digest, None)
            self._known.pop(digest, None)
        else:
            self.by_digest.put(digest, CacheEntry(key, asked, asked + KEPT_SECONDS))
            self._known.put(digest, None)

    def drop(self, digest: str) -> None:
        """Drop the entry of a key."""
        self.by_digest.pop(digest, None)

    def drop_all(self) -> None:
        """Drop every entry."""
        self.by_digest.clear()

    def expire_all(self) -> None:
        """Let no entry be valid without asking; a grace may still cover them."""
        for digest, entry in self.by_digest.items():
            self.by_digest[digest] = replace(entry, until=float("-inf"))

    def note_revoked(self, key_id: str) -> None:
        """Remember that a key is revoked, whatever the store says later."""
        self._revoked.put(key_id, None)

    def once_revoked(self, key: ApiKey) -> ApiKey:
        """Return the key as it is known here: revoked if it was ever seen revoked."""
        if key.revoked:
            self.note_revoked(key.id)
        return replace(key, revoked=True) if key.id in self._revoked else key
