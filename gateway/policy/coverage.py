"""What a route table does that its author may not mean: routes that lose requests, gaps, unused scopes.

Rules kept here:
- What Core's own routes do among each other is no surprise, and not remarked; nor that only listed routes
  reach /api-keys.
- A warning is what is seldom meant, and can be written so that it is gone; the rest is a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.policy.overlaps import ShapeIndex, example, split_by_length
from gateway.policy.patterns import includes
from gateway.policy.routes import METHODS, Access, Route, RouteTable
from gateway.policy.table_diff import permission

_NAMED = 3
"""How many of many routes a note names."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to look at, at a line of the file (0: the file as a whole); a warning, or only a note."""

    line: int
    text: str
    warns: bool


def shadowed(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """The routes that lose requests to others with another permission, each pair by both lines."""
    at_home = {(route.method, route.shape) for route in core.routes}
    taken: dict[Route, list[Route]] = {}
    for won, lost in _contests(table):
        if won.served or {(won.method, won.shape), (lost.method, lost.shape)} <= at_home:
            continue
        if not includes(lost.shape, won.shape):
            yield _crosses(won, lost)
        elif lost.access is Access.DENY:
            yield _passes_by(won, lost)
        else:
            taken.setdefault(lost, []).append(won)
    for lost, winners in taken.items():
        yield _taken(lost, winners)


def _contests(table: RouteTable) -> Iterator[tuple[Route, Route]]:
    """(who takes them, who does not) for any two routes of different permission that share requests."""
    for method in sorted(METHODS):
        routes = {route.shape: route for route in table.routes if route.method == method}
        longest = max(map(len, routes), default=0)
        shapes = ShapeIndex(routes)
        for shape, route in routes.items():
            for other_shape, shared in shapes.meeting(shape):
                other = routes[other_shape]
                taking = {table.match(method, example(fixed)) for fixed in split_by_length(shared, longest)}
                if route in taking and route is not other and permission(route) != permission(other):
                    yield route, other


def _crosses(won: Route, lost: Route) -> Remark:
    text = (
        f"{won.name} crosses {lost.name} in line {lost.line} and takes the requests that both match: "
        "write a line for those"
    )
    return Remark(won.line, text, warns=True)


def _passes_by(won: Route, lost: Route) -> Remark:
    text = (
        f"{won.name} passes by the deny of {lost.name} in line {lost.line}: the more specific route is tried "
        "first; take one of the two out"
    )
    return Remark(won.line, text, warns=True)


def _taken(lost: Route, winners: list[Route]) -> Remark:
    return Remark(lost.line, f"{lost.name} leaves requests to {_some(winners)}", warns=False)


def _some(routes: Iterable[Route]) -> str:
    names = [f"{route.name} in line {route.line}" for route in routes]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def uncovered(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """Core's routes that no route of the table covers, so that they are refused to everyone."""
    for route in core.routes:
        if table.match(route.method, example(route.shape)) is None:
            text = f"no route covers {route.name} of Core: list it, or deny it on purpose"
            yield Remark(0, text, warns=True)


def unused_scopes(table: RouteTable, core: RouteTable) -> Iterator[Remark]:
    """The scopes of Core's routes that no route of the table asks for, so that holding one opens nothing.

    A warning where a route of Core asks for the scope and the table for another one.
    """
    asked = {scope for route in table.routes for scope in route.scopes}
    idle = {scope: None for route in core.routes for scope in route.scopes if scope not in asked}
    unlisted = []
    for scope in idle:
        of_scope = (route for route in core.routes if scope in route.scopes)
        here = [table.match(route.method, example(route.shape)) for route in of_scope]
        others = [route for route in here if route is not None and route.access is Access.SCOPES]
        if others:
            other = f"{others[0].name} asks for {' or '.join(others[0].scopes)}"
            yield Remark(others[0].line, f"no route asks for {scope}, as Core does: {other}", warns=True)
        else:
            unlisted.append(scope)
    if unlisted:
        yield Remark(0, f"no route asks for {', '.join(unlisted)}: such a scope opens nothing", warns=False)
