"""Authorizes a request: finds its route, and decides whether its principal may take it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.keys.usage import LastUsed
from gateway.policy.decisions import authorize
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.values import Allow, Deny
from gateway.proxy.context import RequestContext
from gateway.telemetry.scope_use import ScopeUse


class Authorizer:
    """Decides on requests, and notes which keys use which routes. `unix` gives Unix seconds."""

    def __init__(self, last_used: LastUsed, scope_use: ScopeUse, unix: Callable[[], float]) -> None:
        self._last_used = last_used
        self._scope_use = scope_use
        self._unix_time = unix

    def authorize(self, context: RequestContext, principal: Principal) -> Allow | Deny:
        """Match the route of an authenticated request, name it in the log, and decide."""
        decision = authorize(
            principal, context.exchange.method, context.target, context.config.policy, self._unix_time()
        )
        if isinstance(decision, Deny):
            context.label()
        else:
            context.entry.route = decision.route.name
        return decision

    def note_use(self, principal: Principal, allowed: Allow) -> None:
        """Note that a key uses a route."""
        if isinstance(principal, ApiKey):
            self._last_used.note(principal.id, self._unix_time())
            self._scope_use.note(principal.id, allowed.route.name)
