"""Compares two route tables: who gains or loses access to which requests, and which stamps change.

Rules kept here:
- Requests are compared, not lines. A change is a set of requests that take the same route of the old table,
  of the new table and of Core, or none. So a wildcard is reported as each route of Core that it newly covers,
  and a literal as the requests that it takes from a placeholder.
- A change is wider if someone gains access, even if only until a date, or if a key keeps its access and loses
  its stamp.
- The most dangerous change comes first: open to anyone, to any key, to scopes, a lost stamp, open to the
  master key. Changes that only close come last. Among equal changes, writes come before reads and wildcards
  before the rest.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from gateway.policy.overlaps import ShapeIndex, example, merge_lengths, split_by_length
from gateway.policy.patterns import Placeholder, Shape, includes
from gateway.policy.routes import METHODS, Access, Route, RouteTable, Stamp
from gateway.policy.scopes import ACTIONS

ANYONE: Final = "anyone"
ANY_KEY: Final = "any key"
MASTER: Final = "master"


class ChangeKind(enum.Enum):
    """The effect of a change, the most dangerous first."""

    OPEN_TO_ANYONE = "open to anyone"
    OPEN_TO_ANY_KEY = "open to any key"
    OPEN_TO_SCOPES = "open to scopes"
    UNSTAMPED = "unstamped"
    OPEN_TO_MASTER = "open to the master key"
    STAMPED = "stamped"
    CLOSED = "closed"
    REFUSED_OTHERWISE = "refused otherwise"


_DANGER: Final = {kind: order for order, kind in enumerate(ChangeKind)}


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Requests of one method and shape for which the two tables decide differently.

    `old`, `new` and `core` are the routes that they take in each table, or None.
    """

    method: str
    shape: Shape
    old: Route | None
    new: Route | None
    core: Route | None

    @property
    def path(self) -> str:
        """Return the shape as a pattern; placeholders are named as in Core, the new table or the old one."""
        return "/" + "/".join(map(self._segment, range(len(self.shape))))

    def _segment(self, depth: int) -> str:
        kind = self.shape[depth]
        if isinstance(kind, str):
            return kind
        for route in (self.core, self.new, self.old):
            if route is not None and depth < len(route.shape) and route.shape[depth] is kind:
                return route.pattern.removeprefix("/").split("/")[depth]
        return "{rest...}" if kind is Placeholder.REST else "{segment}"

    @property
    def opened(self) -> tuple[str, ...]:
        """Return the callers that gain access: `anyone` (without a key), or `any key`, scopes, and `master`.

        `any key` gains by report-only, which allows until its date a request that only lacks the scope.
        """
        return _gain(self.old, self.new)

    @property
    def closed(self) -> tuple[str, ...]:
        """Return the callers that lose access, in the words of `opened`."""
        return _gain(self.new, self.old)

    @property
    def unstamped(self) -> bool:
        """Return whether keys keep their access and lose the stamp."""
        return _loses_stamp(self.old, self.new)

    @property
    def widens(self) -> bool:
        """Return whether the new table lets someone do more."""
        return bool(self.opened) or self.unstamped

    @property
    def kind(self) -> ChangeKind:
        """Return the most dangerous effect of the change."""
        if ANYONE in self.opened:
            return ChangeKind.OPEN_TO_ANYONE
        if ANY_KEY in self.opened:
            return ChangeKind.OPEN_TO_ANY_KEY
        if self.opened and self.opened != (MASTER,):
            return ChangeKind.OPEN_TO_SCOPES
        if self.unstamped:
            return ChangeKind.UNSTAMPED
        if self.opened:
            return ChangeKind.OPEN_TO_MASTER
        if self.closed:
            return ChangeKind.CLOSED
        return ChangeKind.STAMPED if _loses_stamp(self.new, self.old) else ChangeKind.REFUSED_OTHERWISE


def changes(old: RouteTable, new: RouteTable, core: RouteTable) -> tuple[PolicyChange, ...]:
    """Return every change from `old` to `new`, the most dangerous first; `core` has all routes of Core."""
    found = chain.from_iterable(_changes_of(method, old, new, core) for method in sorted(METHODS))
    return tuple(sorted(found, key=_danger))


def _danger(change: PolicyChange) -> tuple[int, bool, bool, str, str]:
    return (
        _DANGER[change.kind],
        ACTIONS.get(change.method) == "read",
        change.shape[-1] is not Placeholder.REST,
        change.path,
        change.method,
    )


_Cell = tuple[Route | None, Route | None, Route | None]


def _changes_of(method: str, old: RouteTable, new: RouteTable, core: RouteTable) -> Iterator[PolicyChange]:
    own = [[route.shape for route in table.routes if route.method == method] for table in (old, new, core)]
    longest = max(map(len, chain.from_iterable(own)), default=0)
    cells: dict[_Cell, list[Shape]] = {}
    for shape in _shared(own):
        for fixed in split_by_length(shape, longest):
            segments = example(fixed)
            before, after = old.match(method, segments), new.match(method, segments)
            if _differ(before, after):
                cell = (before, after, core.match(method, segments))
                cells.setdefault(cell, []).append(fixed)
    for (before, after, cores), shapes in cells.items():
        for shape in _widest(merge_lengths(shapes, longest)):
            yield PolicyChange(method, shape, before, after, cores)


def _shared(tables: list[list[Shape]]) -> dict[Shape, None]:
    """Return the shapes of the tables, and the intersections of shapes of different tables."""
    shapes: dict[Shape, None] = {}
    for table in tables:
        known = ShapeIndex(table)
        meets = [shared for shape in shapes for _, shared in known.overlapping(shape)]
        shapes |= dict.fromkeys((*table, *meets))
    return shapes


def _widest(shapes: tuple[Shape, ...]) -> Iterator[Shape]:
    for shape in shapes:
        if not any(other != shape and includes(other, shape) for other in shapes):
            yield shape


Permission = tuple[Access | None, frozenset[str], Stamp, bool, float]


def permission(route: Route | None) -> Permission:
    """Return everything that `route` decides about a request, without its name and line."""
    if route is None:
        return None, frozenset(), Stamp.NONE, False, 0.0
    return route.access, frozenset(route.scopes), route.stamp, route.body_optional, route.report_until


def _differ(before: Route | None, after: Route | None) -> bool:
    """Return whether a request gets another response, or Core another time for it."""
    if before is not None and after is not None and before.first_byte != after.first_byte:
        return True
    return permission(before) != permission(after)


def _gain(before: Route | None, after: Route | None) -> tuple[str, ...]:
    """Return the callers that may take `after` and may not take `before`."""
    if after is None or after.access is Access.DENY or _is_public(before):
        return ()
    if _is_public(after):
        return (ANYONE,)
    held, reported = ((), 0.0) if before is None else (before.scopes, before.report_until)
    scopes = tuple(scope for scope in after.scopes if scope not in held)
    keys = (ANY_KEY, *scopes) if after.report_until > reported else scopes
    return keys if before is not None and before.access is not Access.DENY else (*keys, MASTER)


def _is_public(route: Route | None) -> bool:
    return route is not None and route.access is Access.PUBLIC


def _loses_stamp(before: Route | None, after: Route | None) -> bool:
    if before is None or after is None or before.stamp is Stamp.NONE:
        return False
    if after.access not in (Access.SCOPES, Access.PUBLIC):
        return False
    return after.stamp is not before.stamp or (before.body_optional and not after.body_optional)
