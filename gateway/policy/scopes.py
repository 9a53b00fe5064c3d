"""What a scope `resource:action` opens, and the scope Core itself would ask for.

Rules kept here:
- A scope has exactly one ':' and no empty half; anything else grants nothing (Core's `ScopeCovers`).
- `*` stands for any resource or any action, never for a part of a name.
- The implied scope follows Core's constant table; a method outside it implies a scope nobody holds.
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
"""First path segment -> resource (Core's `getResourceFromPath`); what is not listed has none."""


def covering(required: str) -> frozenset[str]:
    """Every scope that covers `required`: itself and its three wildcards; none if it is malformed."""
    resource, _, action = required.partition(":")
    if not resource or not action or ":" in action:
        return frozenset()
    return frozenset((required, f"{resource}:*", f"*:{action}", "*:*"))


def covers(granted: str, required: str) -> bool:
    """Whether a key holding `granted` may do `required` (Core's `ScopeCovers`)."""
    return granted in covering(required)


def holds(scopes: tuple[str, ...], required: str) -> bool:
    """Whether any of `scopes` covers `required` (Core's `HasPermission`)."""
    return not covering(required).isdisjoint(scopes)


def implied_scope(method: str, first_segment: str) -> str | None:
    """The scope Core asks for by method and decoded first segment; None where Core knows no resource.

    A method without an action gives `ledgers:`, which is no scope and so held by nobody.
    """
    resource = RESOURCES.get(first_segment)
    if resource is None:
        return None
    return f"{resource}:{ACTIONS.get(method, '')}"


def grantable(caller: tuple[str, ...], requested: tuple[str, ...]) -> bool:
    """Whether each requested scope is covered by one of the caller's (Core's `CanGrantScopes`)."""
    held = frozenset(caller)
    return not any(covering(scope).isdisjoint(held) for scope in requested)
