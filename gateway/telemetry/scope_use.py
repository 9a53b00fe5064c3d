"""Counts the scopes that each key has used since the start, and lists the scopes that it never used.

Rules kept here:
- A request costs one update of a dictionary. Scopes are worked out when a report is requested, from the
  routes and the key's scopes of that time.
- A use counts for the narrowest scope that the key holds for it. So a wildcard is reported as unused where a
  plain scope would suffice.
- The memory is bounded. When the bound is reached, new pairs of key and route are not counted, and reports
  say that they are incomplete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.policy.routes import Access, Route, RouteTable

MAX_NOTED: Final = 50_000
"""The most pairs of a key and a route."""


@dataclass(frozen=True, slots=True)
class ScopesUsed:
    """The use of one key: its requests for each scope that it holds, and the scopes that it never used.

    The scopes in `needs` would suffice for all its requests. `lacks` are those of them that it does not hold:
    only report-only or `--observe` let such requests pass.
    """

    used: dict[str, int]
    unused: tuple[str, ...]
    needs: tuple[str, ...]
    lacks: tuple[str, ...]


class ScopeUse:
    """Counts the requests of each key on each route; `complete` is False once the bound was reached."""

    def __init__(self, *, max_noted: int = MAX_NOTED) -> None:
        self._max_noted = max_noted
        self._noted = 0
        self._counts: dict[str, dict[str, int]] = {}
        self.complete = True

    def note(self, key_id: str, route: str) -> None:
        """Count a request of this key that was allowed on the route of this name."""
        try:
            self._counts[key_id][route] += 1
        except KeyError:
            self._note_first(key_id, route)

    def _note_first(self, key_id: str, route: str) -> None:
        if self._noted >= self._max_noted:
            self.complete = False
            return
        self._noted += 1
        self._counts.setdefault(key_id, {})[route] = 1

    def keys(self) -> list[str]:
        """Return the ids of the keys that were counted, in order."""
        return sorted(self._counts)

    def of(self, key_id: str, scopes: tuple[str, ...], table: RouteTable) -> ScopesUsed:
        """Return the use of a key that holds `scopes`; routes that `table` does not have do not count."""
        routes = {route.name: route for route in table.routes if route.access is Access.SCOPES}
        used: Counter[str] = Counter()
        needs: dict[str, None] = {}
        lacks: dict[str, None] = {}
        for name, count in self._counts.get(key_id, {}).items():
            route = routes.get(name)
            if route is None:
                continue
            scope = _narrowest(scopes, route)
            if scope is None:
                lacks[route.scopes[0]] = None
                needs[route.scopes[0]] = None
            else:
                used[scope] += count
                needs[scope if scope in route.scopes else route.scopes[0]] = None
        unused = tuple(scope for scope in scopes if scope not in used)
        return ScopesUsed(dict(used), unused, tuple(sorted(needs)), tuple(sorted(lacks)))


def _narrowest(scopes: Iterable[str], route: Route) -> str | None:
    """Return the scope with the fewest wildcards for `route`; `resource:*` comes before `*:action`."""
    opening = [scope for scope in scopes if scope in route.accepted_scopes]
    return min(opening, key=lambda scope: (scope.count("*"), scope.startswith("*")), default=None)
