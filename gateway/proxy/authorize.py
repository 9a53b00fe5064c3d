"""Authorization: the decision whether a request may take its route as its principal, and the rate limit.

Rules kept here:
- Refused requests count against the rate limit as well, or floods of 403 and 404 would be free.
"""

from __future__ import annotations

from gateway.config import Config
from gateway.keys.usage import LastUsed
from gateway.policy.decisions import Allow, Deny, authorize
from gateway.policy.principals import ApiKey, Principal
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import RateLimitedError
from gateway.proxy.rate_limit import RateLimit
from gateway.telemetry.scope_use import ScopeUse


class Authorizer:
    """Decides on requests, and counts them for each key."""

    def __init__(self, config: Config, last_used: LastUsed, scope_use: ScopeUse, clocks: Clocks) -> None:
        self._rate = RateLimit(config.limits.rate)
        self._last_used = last_used
        self._scope_use = scope_use
        self._unix = clocks.unix
        self._monotonic = clocks.monotonic

    def adopt(self, config: Config) -> None:
        """Limit the rate by another configuration from now on."""
        self._rate.follow(config.limits.rate)

    def authorize(self, context: RequestContext, principal: Principal) -> Allow | Deny:
        """Match the route, decide, and count the request; raises RateLimitedError for one too many."""
        entry, config, now = context.entry, context.config, self._unix()
        decision = authorize(principal, context.exchange.method, context.target, config.policy, now)
        if not self._rate.allows(entry.key_id, self._monotonic()):
            context.label()
            entry.decision = "rate_limited"
            raise RateLimitedError
        if isinstance(decision, Deny):
            context.label()
            return decision
        if isinstance(principal, ApiKey):
            self._last_used.note(principal.id, now)
            self._scope_use.note(principal.id, decision.route.name)
        return decision
