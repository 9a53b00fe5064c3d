"""Counts denied attempts on keys, so that a flood of them makes a few entries.

Rules kept here:
- Attempts of one kind are one entry: the same network and key, the same route and error code.
- At most so many entries are kept apart at once; all further attempts are one more entry. Attempts with a
  known key and those without have room of their own: who has no key cannot hide an attempt with one.
- One key, or one network without a key, has fewer of them. Its further attempts are one more entry, which
  still names it.
- If all entries are used, the owner that has the most gives one up: two of its entries become one, which
  still names the key that they share, or else the owner. So one owner cannot hide the attempts of another,
  however many keys it has; and of one owner, one key cannot hide those of another.
- The first request of a kind is named, so that its line in the log can be found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gateway.audit.entry import AuditEntry, Kind, shortened_text

MOST_KINDS: Final = 10
MOST_OF_ONE: Final = 3
"""The most kinds of one key, or of one network without a key, besides the entry for its further attempts."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class DeniedAttempt:
    """One attempt, or what several have in common; `network` is that of the client, `at` in RFC 3339."""

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
        return self.network, self.key_id, self.owner, self.route, self.code

    @property
    def who(self) -> str:
        """The key that made the attempt, or without one the network."""
        return self.key_id or self.network

    @property
    def party(self) -> tuple[str, str]:
        """The owner of that key; a network is a party of its own, as is a key without an owner."""
        return (self.owner, "") if self.owner else ("", self.who)


@dataclass(slots=True)
class _Counted:
    """The attempts of an entry; numbers say which came first, since texts of times do not sort.

    Attributes:
        first: what they have in common, and when the first one was.
        number: that of the first attempt.
        count: how many there were.
        last: the number of the last one.
        until: when that was.
    """

    first: DeniedAttempt
    number: int
    count: int
    last: int
    until: str

    def add(self, other: _Counted) -> None:
        """Count the attempts of another entry here."""
        if other.number < self.number:
            self.first, self.number = other.first, other.number
        if other.last > self.last:
            self.last, self.until = other.last, other.until
        self.count += other.count


class DenialCounts:
    """Counts the attempts since they were last taken; `most` kinds with a key are kept apart, and without."""

    def __init__(self, most: int = MOST_KINDS) -> None:
        self._with_key = _Entries(most)
        self._without = _Entries(most)
        self._attempts = 0

    def add(self, attempt: DeniedAttempt) -> None:
        """Count an attempt."""
        self._attempts += 1
        (self._with_key if attempt.key_id else self._without).add(attempt, self._attempts)

    def take(self, replica: str) -> list[AuditEntry]:
        """Return an entry for each kind, by their first attempts, and begin anew."""
        counted = [*self._with_key.take(), *self._without.take()]
        return [_entry(each, replica) for each in sorted(counted, key=lambda each: each.number)]


class _Entries:
    """The entries of attempts with a key, or of those without: `most`, and one for all further attempts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counted: dict[tuple[str, ...], _Counted] = {}
        self._further: _Counted | None = None

    def add(self, attempt: DeniedAttempt, number: int) -> None:
        """Count an attempt in the narrowest entry that there is for it, or in a new one."""
        widths = (attempt, _of_one(attempt), _of_party(attempt))
        counted = next((each for each in widths if each.kind in self._counted), None)
        if counted is None:
            counted = _of_one(attempt) if self._entries_of(attempt.who) >= MOST_OF_ONE else attempt
        self._put(_Counted(counted, number, 1, number, attempt.at))
        if len(self._counted) > self._most:
            # Only a new entry can be one too many, so that of this kind exists.
            self._give_one_up(counted)

    def take(self) -> list[_Counted]:
        """Return the entries, and begin anew."""
        counted = [*self._counted.values(), *([self._further] if self._further else ())]
        self._counted, self._further = {}, None
        return counted

    def _entries_of(self, who: str) -> int:
        """Return how many entries there are of this key or network."""
        return sum(each.first.who == who for each in self._counted.values())

    def _put(self, counted: _Counted) -> None:
        """Add an entry, or its attempts to the entry of the same kind."""
        known = self._counted.setdefault(counted.first.kind, counted)
        if known is not counted:
            known.add(counted)

    def _give_one_up(self, newest: DeniedAttempt) -> None:
        """Make one entry of two, of the party that has the most, and of its key that has the most.

        Where several have as many, those of the newest attempt are taken.
        """
        party = _most_frequent((each.first.party for each in self._counted.values()), newest.party)
        of_party = [each for each in self._counted.values() if each.first.party == party]
        if len(of_party) == 1:
            self._count_as_further(newest)
            return
        who = _most_frequent((each.first.who for each in of_party), newest.who)
        of_one = [each for each in of_party if each.first.who == who]
        if len(of_one) > 1:
            self._merge(of_one, _of_one)
        else:
            self._merge(of_party, _of_party)

    def _merge(self, entries: list[_Counted], wider: Callable[[DeniedAttempt], DeniedAttempt]) -> None:
        """Make one entry of two of these: the newest ones, or the newest and that of the wider kind.

        `wider` returns the same kind for all of them.
        """
        common = wider(entries[0].first).kind
        narrow = [each for each in entries if each.first.kind != common]
        for each in narrow[-1 if common in self._counted else -2 :]:
            del self._counted[each.first.kind]
            self._put(replace(each, first=wider(each.first)))

    def _count_as_further(self, attempt: DeniedAttempt) -> None:
        """Count the entry of this kind, the newest one, as an attempt of which only the time is known."""
        counted = self._counted.pop(attempt.kind)
        counted.first = DeniedAttempt(attempt.at, "")
        if self._further is None:
            self._further = counted
        else:
            self._further.add(counted)


def _most_frequent(names: Iterable[Name], preferred: Name) -> Name:
    """Return the name that comes most often; the preferred one, if no other comes more often."""
    counts = Counter(names)
    return max(counts, key=lambda name: (counts[name], name == preferred))


def _of_one(attempt: DeniedAttempt) -> DeniedAttempt:
    """Return an attempt that stands for many kinds of attempts of one key, or of one network."""
    if attempt.key_id:
        return DeniedAttempt(attempt.at, "", key_id=attempt.key_id, owner=attempt.owner)
    return DeniedAttempt(attempt.at, attempt.network, client=attempt.client)


def _of_party(attempt: DeniedAttempt) -> DeniedAttempt:
    """Return an attempt that stands for attempts of many keys of one owner."""
    return DeniedAttempt(attempt.at, "", owner=attempt.owner) if attempt.owner else _of_one(attempt)


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
