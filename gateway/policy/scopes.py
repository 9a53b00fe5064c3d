"""Scopes `resource:action`: which scope covers which, and the scope that Core itself would require.

Rules kept here:
- A scope has exactly one ':' and no empty half; anything else grants nothing (Core's `ScopeCovers`).
- `*` means any resource or any action, never a part of a name.
- The implied scope follows Core's constant table; a method outside of it implies a scope that nobody holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "GET": "read",
        "HEAD": "read",
        "POST": "write",
        "PUT": "write",
        "PATCH": "write",
        "DELETE": "delete",
    }
)
"""Method -> action (Core's `methodToAction`)."""

RESOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ledgers": "ledgers",
        "balances": "balances",
        "accounts": "accounts",
        "identities": "identities",
        "transactions": "transactions",
        "balance-monitors": "balance-monitors",
        "hooks": "hooks",
        "api-keys": "api-keys",
        "search": "search",
        "reconciliation": "reconciliation",
        "metadata": "metadata",
        "backup": "backup",
        "mocked-account": "accounts",
        "multi-search": "search",
        "refund-transaction": "transactions",
    }
)
"""First path segment -> resource (Core's `getResourceFromPath`); other segments have none."""


def covering(required: str) -> frozenset[str]:
    """Return every scope that covers `required`: itself and three wildcards; none if it is malformed."""
    resource, _, action = required.partition(":")
    if not resource or not action or ":" in action:
        return frozenset()
    return frozenset((required, f"{resource}:*", f"*:{action}", "*:*"))


def covers(granted: str, required: str) -> bool:
    """Return whether `granted` covers `required` (Core's `ScopeCovers`)."""
    return granted in covering(required)


def holds(scopes: tuple[str, ...], required: str) -> bool:
    """Return whether any of `scopes` covers `required` (Core's `HasPermission`)."""
    return not covering(required).isdisjoint(scopes)


def implied_scope(method: str, first_segment: str) -> str | None:
    """Return the scope that Core requires for a method and a decoded first segment; None if it has none.

    A method without an action gives `ledgers:`, which is no scope, so nobody holds it.
    """
    resource = RESOURCES.get(first_segment)
    if resource is None:
        return None
    return f"{resource}:{ACTIONS.get(method, '')}"


def grantable(caller: tuple[str, ...], requested: tuple[str, ...]) -> bool:
    """Return whether the caller's scopes cover each requested scope (Core's `CanGrantScopes`)."""
    held = frozenset(caller)
    return not any(covering(scope).isdisjoint(held) for scope in requested)
