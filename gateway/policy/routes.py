"""The route table: validates the listed routes and finds the route that a request matches.

Rules kept here:
- The literal child is tried first, then `{name}`, then `{name...}`, with backtracking, as Core's router does.
- An empty segment (a trailing slash) never matches a placeholder.
- Two routes of one method that have the same kind of segment at every place tie, and are refused.
- Below /api-keys only the four routes that the gateway serves itself match, and Core's /metrics never
  matches, whatever wildcard is listed.
- `public` is allowed only on a path without placeholders, and without options.
- A stamp is allowed only where a scoped key can send a body.
- Report-only is allowed only on a route to Core that requires a scope.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final

from gateway.policy.patterns import Placeholder, Shape, faults, includes, shape_of
from gateway.policy.problems import Problem
from gateway.policy.scopes import ACTIONS, RESOURCES, covering

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Stamp(enum.Enum):
    """The place of the caller's key id in the body of a route."""

    NONE = "none"
    CREATE = "create"
    BULK = "bulk"
    REPLACE = "replace"
    MERGE = "merge"


class Access(enum.Enum):
    """The callers that may take a route."""

    PUBLIC = "public"
    SCOPES = "scopes"
    MASTER = "master"
    DENY = "deny"


_API_KEYS: Final = "api-keys"
_METRICS: Final = "metrics"
_RESERVED: Final = frozenset({_API_KEYS, _METRICS})
ADDED: Final[frozenset[tuple[str, Shape]]] = frozenset({("PATCH", (_API_KEYS, Placeholder.ONE))})
"""The routes of the gateway.yaml that ships which Core does not have."""
_SERVED: Final[frozenset[tuple[str, Shape]]] = frozenset(
    {
        ("POST", (_API_KEYS,)),
        ("GET", (_API_KEYS,)),
        ("DELETE", (_API_KEYS, Placeholder.ONE)),
        *ADDED,
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the route table; `line` is its line in the file."""

    method: str
    pattern: str
    access: Access
    scopes: tuple[str, ...] = ()
    stamp: Stamp = Stamp.NONE
    body_optional: bool = False
    line: int = field(default=0, compare=False)
    report_until: float = 0.0
    """Unix seconds: until then, a request that only lacks the scope is let pass and reported."""
    first_byte: float = 0.0
    """Seconds until Core's response begins; 0 for `timeouts.first_byte`."""
    name: str = field(init=False, repr=False, compare=False)
    """`GET /ledgers/{id}`: the label of logs, metrics and tests."""
    shape: Shape = field(init=False, repr=False, compare=False)
    served: bool = field(init=False, repr=False, compare=False)
    """True if the gateway serves the route itself, from its own key store."""
    accepted_scopes: frozenset[str] = field(init=False, repr=False, compare=False)
    """Every scope that lets a key take this route."""

    def __post_init__(self) -> None:
        """Compute once what every request needs."""
        shape = shape_of(self.pattern)
        object.__setattr__(self, "name", f"{self.method} {self.pattern}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "served", (self.method, shape) in _SERVED)
        object.__setattr__(
            self, "accepted_scopes", frozenset(chain.from_iterable(map(covering, self.scopes)))
        )


@dataclass(frozen=True, slots=True)
class _RouteNode:
    """The routes whose patterns begin alike, by their next segment; `route` is the one that ends here."""

    literals: Mapping[str, _RouteNode]
    one: _RouteNode | None
    rest: Route | None
    route: Route | None


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Routes that have no problem; only `compile_routes` builds a table."""

    routes: tuple[Route, ...]
    _trees: Mapping[str, _RouteNode] = field(repr=False, compare=False)
    _public: Mapping[tuple[str, Shape], Route] = field(repr=False, compare=False)

    def public(self, method: str, segments: tuple[str, ...]) -> Route | None:
        """Return the public route that `method` and `segments` take, if any; it has no placeholder."""
        return self._public.get((method, segments))

    def match(self, method: str, segments: tuple[str, ...]) -> Route | None:
        """Return the route that `method` and the decoded `segments` take, if any is listed."""
        root = self._trees.get(method)
        if root is None:
            return None
        if segments[0] in _RESERVED:
            reserved = root.literals.get(segments[0])
            return None if reserved is None else _find(reserved, segments, 1)
        return _find(root, segments, 0)


def _find(node: _RouteNode, segments: tuple[str, ...], depth: int) -> Route | None:
    if depth == len(segments):
        return node.route
    segment = segments[depth]
    child = node.literals.get(segment)
    if child is not None:
        found = _find(child, segments, depth + 1)
        if found is not None:
            return found
    if node.one is not None and segment:
        found = _find(node.one, segments, depth + 1)
        if found is not None:
            return found
    if node.rest is not None and "" not in segments[depth:]:
        return node.rest
    return None


def _grow(routes: Iterable[Route], depth: int) -> _RouteNode:
    literals: dict[str, list[Route]] = {}
    one: list[Route] = []
    rest = here = None
    for route in routes:
        kind = route.shape[depth] if depth < len(route.shape) else None
        if kind is None:
            here = route
        elif kind is Placeholder.REST:
            rest = route
        elif kind is Placeholder.ONE:
            one.append(route)
        else:
            literals.setdefault(kind, []).append(route)
    return _RouteNode(
        literals={literal: _grow(below, depth + 1) for literal, below in literals.items()},
        one=_grow(one, depth + 1) if one else None,
        rest=rest,
        route=here,
    )


def compile_routes(routes: Iterable[Route]) -> RouteTable | tuple[Problem, ...]:
    """Return the table of `routes`, or every problem that they have, in the order of their lines."""
    listed = tuple(routes)
    problems = [
        Problem(route.line, f"{route.name}: {fault}")
        for route in listed
        for check in (_method, _pattern, _reserved, _access, _options, _mode)
        for fault in check(route)
    ]
    problems.extend(_ties(listed))
    if problems:
        return tuple(sorted(problems, key=lambda problem: problem.line))
    methods: dict[str, list[Route]] = {}
    for route in listed:
        methods.setdefault(route.method, []).append(route)
    return RouteTable(
        listed,
        MappingProxyType({method: _grow(own, 0) for method, own in methods.items()}),
        MappingProxyType(
            {(route.method, route.shape): route for route in listed if route.access is Access.PUBLIC}
        ),
    )


def _ties(routes: tuple[Route, ...]) -> Iterator[Problem]:
    first: dict[tuple[str, Shape], Route] = {}
    for route in routes:
        other = first.setdefault((route.method, route.shape), route)
        if other is not route:
            yield Problem(route.line, f"{route.name}: ties with {other.name} in line {other.line}")


def _method(route: Route) -> Iterator[str]:
    if route.method not in METHODS:
        yield f"the method must be one of {', '.join(sorted(METHODS))}"


def _pattern(route: Route) -> Iterator[str]:
    return faults(route.pattern)


def _reserved(route: Route) -> Iterator[str]:
    first = route.shape[0]
    if first == _METRICS:
        yield "Core's metrics are never exposed"
    elif first == _API_KEYS and not route.served:
        yield "/api-keys has only POST and GET /api-keys, PATCH and DELETE /api-keys/{id}"


def _access(route: Route) -> Iterator[str]:
    if route.access is Access.SCOPES:
        if not route.scopes:
            yield "names no scope"
        yield from chain.from_iterable(map(_scope, route.scopes))
        if (route.method, route.shape) in ADDED:
            yield "only the master key changes keys: write master or deny"
        return
    if route.scopes:
        yield f"'{route.access.value}' takes no scope"
    if route.access is Access.PUBLIC:
        if any(isinstance(kind, Placeholder) for kind in route.shape):
            yield "'public' is allowed only on a path without placeholders"
        if route.served:
            yield "keys cannot be managed without a key"


def _scope(scope: str) -> Iterator[str]:
    resource, _, action = scope.partition(":")
    if resource not in RESOURCES.values() or action not in ACTIONS.values():
        yield f"'{scope}' is not a scope of Core: write one such as ledgers:read"


def _options(route: Route) -> Iterator[str]:
    if route.body_optional and route.stamp is not Stamp.CREATE:
        yield "'body: optional' is allowed only with 'stamp: create'"
    if route.first_byte and route.served:
        yield "a route that the gateway serves itself takes no first_byte: Core gets no request"
    if route.stamp is Stamp.NONE:
        return
    if route.access is not Access.SCOPES:
        yield f"'{route.access.value}' takes no stamp: only scoped keys are stamped"
    if ACTIONS.get(route.method) != "write":
        yield "a stamp is allowed only on POST, PUT and PATCH"
    if route.served:
        yield "a route that the gateway serves itself takes no stamp"


def _mode(route: Route) -> Iterator[str]:
    if not route.report_until:
        return
    if route.access is not Access.SCOPES:
        yield f"'{route.access.value}' cannot be report-only: only a missing scope is reported"
    if route.served:
        yield "/api-keys cannot be report-only"


CREATES: Final[Mapping[tuple[str, str], Stamp]] = MappingProxyType(
    {
        ("POST", "/ledgers"): Stamp.CREATE,
        ("POST", "/balances"): Stamp.CREATE,
        ("POST", "/balance-monitors"): Stamp.CREATE,
        ("POST", "/transactions"): Stamp.CREATE,
        ("POST", "/transactions/bulk"): Stamp.BULK,
        ("POST", "/refund-transaction/{id}"): Stamp.CREATE,
        ("POST", "/identities"): Stamp.CREATE,
        ("POST", "/accounts"): Stamp.CREATE,
        ("PUT", "/identities/{id}"): Stamp.REPLACE,
        ("POST", "/{id}/metadata"): Stamp.MERGE,
    }
)
"""Core's routes that write `meta_data`, as recorded live -> the stamp that records the true author."""

_WRITERS: Final = tuple((method, shape_of(pattern), stamp) for (method, pattern), stamp in CREATES.items())


def expected_stamp(route: Route) -> Stamp | None:
    """Return the stamp that `route` must name, or decline with `none`; None if it reaches no writer.

    A writer is a route of Core in `CREATES`. A wildcard reaches every writer below it; the first one counts.
    """
    if route.access is not Access.SCOPES:
        return None
    for method, writer, stamp in _WRITERS:
        if method == route.method and (includes(route.shape, writer) or includes(writer, route.shape)):
            return stamp
    return None
