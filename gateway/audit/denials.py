"""Counts denied attempts on keys, so that a flood of them makes a few entries.

Rules kept here:
- Attempts of one kind are one entry: the same network and key, the same route and error code.
- At most so many kinds are kept apart at once; all further attempts are one more entry. Attempts with a known
  key and those without have room of their own: who has no key cannot hide an attempt with one.
- One key, or one network without a key, has fewer of them: it cannot hide the attempts of others. Its further
  attempts are one more kind, which still names it.
- The first request of a kind is named, so that its line in the log can be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.audit.entry import AuditEntry, Kind, shortened_text

MOST_KINDS: Final = 10
MOST_OF_ONE: Final = 3
"""The most kinds of one key, or of one network without a key, besides the one for its further attempts."""


@dataclass(frozen=True, slots=True)
class DeniedAttempt:
    """One attempt; `network` is that of its client, `at` when it was, in RFC 3339."""

    at: str
    network: str
    client: str = ""
    request_id: str = ""
    key_id: str = ""
    owner: str = ""
    route: str = ""
    code: str = ""
    status: int = 0

    @property
    def kind(self) -> tuple[str, ...]:
        """What attempts of one entry have in common."""
        return self.network, self.key_id, self.route, self.code

    @property
    def who(self) -> str:
        """The key that made the attempt, or without one the network."""
        return self.key_id or self.network


@dataclass(slots=True)
class _Counted:
    """The first attempt of a kind, how many there were, and when the last one was."""

    first: DeniedAttempt
    count: int
    until: str


class DenialCounts:
    """Counts the attempts since they were last taken; `most` kinds with a key are kept apart, and without."""

    def __init__(self, most: int = MOST_KINDS) -> None:
        self._most = most
        self._by_kind: dict[bool, dict[tuple[str, ...], _Counted]] = {True: {}, False: {}}
        self._further: dict[bool, _Counted] = {}

    def add(self, attempt: DeniedAttempt) -> None:
        """Count an attempt."""
        known = bool(attempt.key_id)
        kinds = self._by_kind[known]
        counted = kinds.get(attempt.kind)
        if counted is None and self._kinds_of(attempt.who, kinds) >= MOST_OF_ONE:
            attempt = _of_one(attempt)
            counted = kinds.get(attempt.kind)
        if counted is None and len(kinds) < self._most:
            counted = kinds[attempt.kind] = _Counted(attempt, 0, attempt.at)
        if counted is None:
            counted = self._further.setdefault(known, _Counted(_of_many(attempt), 0, attempt.at))
        counted.count += 1
        counted.until = attempt.at

    @staticmethod
    def _kinds_of(who: str, kinds: dict[tuple[str, ...], _Counted]) -> int:
        """Return how many of the kinds are attempts of this key or network."""
        return sum(counted.first.who == who for counted in kinds.values())

    def take(self, replica: str) -> list[AuditEntry]:
        """Return an entry for each kind, by their first attempts, and begin anew."""
        counted = [*self._by_kind[True].values(), *self._by_kind[False].values(), *self._further.values()]
        self._by_kind, self._further = {True: {}, False: {}}, {}
        return [_entry(each, replica) for each in sorted(counted, key=lambda each: each.first.at)]


def _of_one(attempt: DeniedAttempt) -> DeniedAttempt:
    """Return an attempt that stands for many kinds of attempts of one key, or of one network."""
    if attempt.key_id:
        return DeniedAttempt(attempt.at, "", key_id=attempt.key_id, owner=attempt.owner)
    return DeniedAttempt(attempt.at, attempt.network, client=attempt.client)


def _of_many(attempt: DeniedAttempt) -> DeniedAttempt:
    """Return an attempt of which only the time counts, for it stands for many of any kind."""
    return DeniedAttempt(attempt.at, "")


def _entry(counted: _Counted, replica: str) -> AuditEntry:
    first = counted.first
    return AuditEntry(
        kind=Kind.ACCESS_DENIED,
        at=first.at,
        replica=replica,
        client=shortened_text(first.client),
        request_id=first.request_id,
        key_id=first.key_id,
        owner=shortened_text(first.owner),
        route=shortened_text(first.route),
        code=first.code,
        status=first.status,
        count=counted.count,
        until=counted.until if counted.count > 1 else "",
    )
