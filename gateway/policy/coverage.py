"""Finds effects of a route table that its author may not intend: lost requests, gaps, unused scopes.

Rules kept here:
- Core's own routes overlap as Core intends, so their overlaps are not reported. Nor is it reported that only
  the listed routes reach /api-keys.
- A warning is seldom intended, and the author can change the file so that it disappears; the rest are notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.policy.overlaps import ShapeIndex, example, split_by_length
from gateway.policy.patterns import includes
from gateway.policy.routes import ADDED, METHODS, Access, Route, RouteTable
from gateway.policy.table_diff import permission

_MOST_NAMED = 3
"""The most routes that a note names."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning or a note about a line of the file; line 0 is the file as a whole."""

    line: int
    text: str
    warns: bool


def shadowed(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """Yield the routes that lose requests to a route with another permission; both lines are named."""
    core_routes = {(route.method, route.shape) for route in core.routes}
    winners_of: dict[Route, list[Route]] = {}
    for won, lost in _contests(table):
        if won.served or {(won.method, won.shape), (lost.method, lost.shape)} <= core_routes:
            continue
        if not includes(lost.shape, won.shape):
            yield _crossing(won, lost)
        elif lost.access is Access.DENY:
            yield _bypassed_deny(won, lost)
        else:
            winners_of.setdefault(lost, []).append(won)
    for lost, winners in winners_of.items():
        yield _losing(lost, winners)


def _contests(table: RouteTable) -> Iterator[tuple[Route, Route]]:
    """Yield (winner, loser) of any two routes that share requests and differ in permission."""
    for method in sorted(METHODS):
        routes = {route.shape: route for route in table.routes if route.method == method}
        longest = max(map(len, routes), default=0)
        shapes = ShapeIndex(routes)
        for shape, route in routes.items():
            for other_shape, shared in shapes.overlapping(shape):
                other = routes[other_shape]
                taking = {table.match(method, example(fixed)) for fixed in split_by_length(shared, longest)}
                if route in taking and route is not other and permission(route) != permission(other):
                    yield route, other


def _crossing(won: Route, lost: Route) -> Remark:
    text = (
        f"{won.name} crosses {lost.name} in line {lost.line} and takes the requests that both match: "
        "write a line for those"
    )
    return Remark(won.line, text, warns=True)


def _bypassed_deny(won: Route, lost: Route) -> Remark:
    text = (
        f"{won.name} bypasses the deny of {lost.name} in line {lost.line}: the more specific route is tried "
        "first; remove one of the two"
    )
    return Remark(won.line, text, warns=True)


def _losing(lost: Route, winners: list[Route]) -> Remark:
    return Remark(lost.line, f"{lost.name} loses requests to {_some(winners)}", warns=False)


def _some(routes: Iterable[Route]) -> str:
    names = [f"{route.name} in line {route.line}" for route in routes]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def uncovered(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """Yield a warning for each of Core's routes that no route covers, so that everyone is refused."""
    for route in core.routes:
        added = (route.method, route.shape) in ADDED
        if not added and table.match(route.method, example(route.shape)) is None:
            text = f"no route covers {route.name} of Core: list it, or deny it on purpose"
            yield Remark(0, text, warns=True)


def unused_scopes(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """Yield the scopes of Core's routes that no route of the table requires: holding one permits nothing.

    It is a warning if the table requires another scope on the same route of Core, else a note.
    """
    required = {scope for route in table.routes for scope in route.scopes}
    idle = {scope: None for route in core.routes for scope in route.scopes if scope not in required}
    unlisted = []
    for scope in idle:
        of_scope = (route for route in core.routes if scope in route.scopes)
        here = [table.match(route.method, example(route.shape)) for route in of_scope]
        others = [route for route in here if route is not None and route.access is Access.SCOPES]
        if others:
            other = f"{others[0].name} requires {' or '.join(others[0].scopes)}"
            yield Remark(others[0].line, f"no route requires {scope}, as Core does: {other}", warns=True)
        else:
            unlisted.append(scope)
    if unlisted:
        yield Remark(0, f"no route requires {', '.join(unlisted)}: such a scope permits nothing", warns=False)
