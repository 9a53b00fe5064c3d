"""Which scopes each key has used since the start, and which it holds and never used.

Rules kept here:
- A request costs one update of a dictionary; what it means is worked out when somebody asks, by the routes
  and the key's scopes of that moment.
- A use counts for the narrowest scope that the key holds for it, so that a wildcard shows as unused where a
  plain scope would do.
- The memory is bounded; once that is reached, keys and routes that come new are not noted, and a report says
  that it is not complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.policy.routes import Access, Route, RouteTable

MAX_NOTED: Final = 50_000
"""Pairs of a key and a route."""


@dataclass(frozen=True, slots=True)
class ScopesUsed:
    """One key: requests per scope it holds, scopes it holds and did not use, scopes its requests asked for.

    `needs` would do for all that it did; `lacks` are those of them that it does not hold, which only
    report-only or `--observe` let pass.
    """

    used: dict[str, int]
    unused: tuple[str, ...]
    needs: tuple[str, ...]
    lacks: tuple[str, ...]


class ScopeUse:
    """Counts the requests of each key on each route."""

    def __init__(self, *, max_noted: int = MAX_NOTED) -> None:
        self._max_noted = max_noted
        self._noted = 0
        self._counts: dict[str, dict[str, int]] = {}
        self.complete = True

    def note(self, key_id: str, route: str) -> None:
        """A request of this key was let through on the route of this name."""
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
        """The ids of the keys that were seen, in order."""
        return sorted(self._counts)

    def of(self, key_id: str, scopes: tuple[str, ...], table: RouteTable) -> ScopesUsed:
        """What the key, which holds `scopes`, did with them; routes that `table` has no more do not count."""
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
    """The scope with the fewest wildcards that opens `route`; of a resource before of an action."""
    opening = [scope for scope in scopes if scope in route.accepted_scopes]
    return min(opening, key=lambda scope: (scope.count("*"), scope.startswith("*")), default=None)
