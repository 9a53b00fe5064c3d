"""The rules that a run must follow, and its figures.

Rules kept here:
- Every request gets exactly one response, its own; no POST reaches Core twice.
- Every acknowledged create is in Core's record with the stamp of the key that sent it, and every
  acknowledged key is in the store, once.
- A gateway closes a kept-alive connection only after it said so (or if it was killed).
- Requests fail only as the scenario says, from the fault's beginning to `bound` seconds after its end.
- A gateway logs no fault of its own, and has no connections or requests left once the load is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.gateways import key_names
from tests.faults.load import Outcome
from tests.faults.requests import Kind
from tests.faults.stage import Stage

_IDLE_PATIENCE = 2.0
_CREATES = frozenset({Kind.CREATE, Kind.SPLIT})
_POSTS = _CREATES | {Kind.STREAM}


@dataclass(frozen=True, slots=True)
class Run:
    """The results of a scenario; `began` and `over` are the fault's, in seconds of the loop's clock."""

    began: float
    over: float
    outcomes: tuple[Outcome, ...]
    arrivals: Counter[tuple[str, str]]
    record: dict[str, str | None]
    key_names: Counter[str]
    dropped: int
    trouble: tuple[str, ...]

    @classmethod
    async def of(cls, stage: Stage, began: float, over: float) -> Run:
        """Return the results of a stage whose load has stopped."""
        alive = [replica for replica in stage.replicas if replica.process.poll() is None]
        held = [await one.held(_IDLE_PATIENCE) for one in alive]
        busy = [f"a gateway still holds {count} connections or requests" for count in held if count]
        trouble = [line for replica in stage.replicas for line in replica.trouble()]
        return cls(
            began,
            over,
            tuple(stage.load.outcomes),
            stage.creates.arrivals,
            stage.creates.record,
            Counter(await key_names(alive[0])),
            stage.load.dropped,
            (*trouble, *busy),
        )

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.good]

    @property
    def good(self) -> int:
        """The number of requests that got Core's response, or their new key."""
        return len(self.outcomes) - len(self.failed)

    @property
    def said(self) -> Counter[str]:
        """The failures, and how many requests got each."""
        return Counter(outcome.said for outcome in self.failed)

    @property
    def in_doubt(self) -> int:
        """The number of failed creates in the record; their clients have to ask before a new attempt."""
        return sum(
            outcome.request.reference in self.record
            for outcome in self.failed
            if outcome.request.kind in _CREATES
        )

    @property
    def first_good(self) -> float:
        """Seconds from the fault's end to the first good response to a request sent after it."""
        ends = [one.ended for one in self.outcomes if one.good and one.began >= self.over]
        return min(ends, default=float("inf")) - self.over

    @property
    def last_failed(self) -> float:
        """Seconds from the fault's end to the last failure; 0 if none came after it."""
        return max([outcome.ended - self.over for outcome in self.failed] + [0.0])

    def violations(self, failures: tuple[str, ...], bound: float) -> list[str]:
        """Return every rule that is broken; `failures` are those that the scenario allows."""
        return [
            *self.trouble,
            *self._unanswered(),
            *self._unexpected(failures),
            *self._unrecorded(),
            *self._unstored(),
            *self._late(bound),
        ]

    def _unanswered(self) -> Iterator[str]:
        references = Counter(outcome.request.reference for outcome in self.outcomes)
        for reference, count in references.items():
            if count != 1:
                yield f"{reference} has {count} outcomes"
        for number in range(1, len(references) + 1):
            if f"r{number}" not in references:
                yield f"r{number} has no outcome"

    def _unexpected(self, failures: tuple[str, ...]) -> Iterator[str]:
        for outcome in self.failed:
            request = outcome.request
            if outcome.said not in failures:
                yield f"{request.reference} ({request.kind.name}) got {outcome.said}"
        if self.dropped and "lost" not in failures:
            yield f"{self.dropped} connections were closed between two requests, without notice"
        if failures and not self.failed:
            yield "no request failed: the fault had no effect"

    def _unrecorded(self) -> Iterator[str]:
        for (method, reference), count in self.arrivals.items():
            if method == "POST" and count > 1:
                yield f"POST {reference} was sent {count} times"
        for outcome in self.outcomes:
            request = outcome.request
            if not outcome.good or request.kind not in _POSTS:
                continue
            if request.reference not in self.record:
                yield f"{request.reference} was acknowledged and is not in the record"
            elif request.kind in _CREATES and self.record[request.reference] != request.key.id:
                yield f"{request.reference} is stamped {self.record[request.reference]}"

    def _unstored(self) -> Iterator[str]:
        for name, count in self.key_names.items():
            if count > 1:
                yield f"the key of {name} was stored {count} times"
        for outcome in self.outcomes:
            request = outcome.request
            if request.kind is Kind.MINT and outcome.good and request.reference not in self.key_names:
                yield f"the key of {request.reference} was acknowledged and is not in the store"

    def _late(self, bound: float) -> Iterator[str]:
        early = [outcome for outcome in self.failed if outcome.ended < self.began]
        if early:
            yield f"{len(early)} failed before the fault began"
        if self.first_good > bound:
            yield f"the first good response came {self.first_good:.2f} s after the fault"
        if self.last_failed > bound:
            yield f"the last failure came {self.last_failed:.2f} s after the fault"
