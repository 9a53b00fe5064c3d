"""Compare two route tables by brute force: every request of a set, by every caller of a set.

Rules kept here:
- Verdicts come from `decide`, as for a request; the code under test (`changes`) is not used to find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from gateway.policy.decisions import Policy, decide
from gateway.policy.overlaps import ROOT
from gateway.policy.patterns import includes
from gateway.policy.principals import MASTER as THE_MASTER
from gateway.policy.principals import ApiKey
from gateway.policy.routes import RouteTable, Stamp
from gateway.policy.scopes import holds
from gateway.policy.table_diff import ANY_KEY, ANYONE, MASTER, PolicyChange
from gateway.policy.values import Allow, Target

Scopes = tuple[str, ...]
Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnreportedDifference:
    """A request that the two tables judge differently, and that no change covers."""

    method: str
    segments: Segments
    caller: str | Scopes
    before: Stamp | None
    after: Stamp | None
    now: float


def target_of(segments: Segments) -> Target:
    path = "/" + "/".join(segments)
    return Target(path, path, segments, "")


def stamp_for(
    table: RouteTable, method: str, segments: Segments, caller: str | Scopes, now: float = 0.0
) -> Stamp | None:
    """Return the stamp that the caller's request gets at `now` (in seconds), or None if it is refused."""
    if caller == ANYONE:
        return Stamp.NONE if table.public(method, segments) else None
    key = THE_MASTER if caller == MASTER else ApiKey("k", "o", tuple(caller), float("inf"))
    verdict = decide(key, method, target_of(segments), Policy(table), now)
    if not isinstance(verdict, Allow):
        return None
    return Stamp.NONE if caller == MASTER else verdict.route.stamp


def covers(change: PolicyChange, method: str, segments: Segments, old: RouteTable, new: RouteTable) -> bool:
    """Return whether the change covers the request: its shape and both its routes fit."""
    at_root = ROOT in (change.shape, segments)
    fits = change.shape == segments if at_root else includes(change.shape, segments)
    routes = old.match(method, segments), new.match(method, segments)
    return change.method == method and fits and routes == (change.old, change.new)


def means(whom: Iterable[str], caller: str | Scopes) -> bool:
    """Return whether `whom` contains the caller, any caller like it, or a scope that it has."""
    if isinstance(caller, str):
        return caller in whom or ANYONE in whom
    return any(one in (ANYONE, ANY_KEY) or (one != MASTER and holds(caller, one)) for one in whom)


def unreported(
    old: RouteTable,
    new: RouteTable,
    reported: Iterable[PolicyChange],
    requests: Iterable[tuple[str, Segments]],
    callers: Iterable[str | Scopes],
    moments: Iterable[float] = (0.0,),
) -> Iterator[UnreportedDifference]:
    """Yield the differences between the tables, at any of these times, that no change reports."""
    cases = tuple(product(callers, moments))
    for method, segments in requests:
        fitting = [change for change in reported if covers(change, method, segments, old, new)]
        for caller, now in cases:
            before = stamp_for(old, method, segments, caller, now)
            after = stamp_for(new, method, segments, caller, now)
            if before is not after and not any(_reports(one, caller, before, after) for one in fitting):
                yield UnreportedDifference(method, segments, caller, before, after, now)


def _reports(change: PolicyChange, caller: str | Scopes, before: Stamp | None, after: Stamp | None) -> bool:
    if before is None:
        return change.widens and means(change.opened, caller)
    if after is None:
        return means(change.closed, caller)
    return change.unstamped if before is not Stamp.NONE else change.new is not None
