"""Reauthorization: a key's permission to make its request, decided anew where that was some time ago.

Rules kept here:
- A client may take minutes over a body, and a request may wait for a connection to Core. Meanwhile the key
  may be revoked, disabled, expired or narrowed; then no further byte of its request leaves.
- A decision counts for as long as the bound of a revocation leaves room for it (`keys.cache`).
"""

from __future__ import annotations

from gateway.keys.cache import CACHED_VALID_SECONDS, LOOKUP_VALID_SECONDS
from gateway.policy.decisions import authorize
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.values import Deny
from gateway.proxy.authenticate import Authenticator, UnknownKey
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import RequestContext


class DeniedMeanwhileError(Exception):
    """The request was allowed and is denied by now; no more of it goes to Core."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.deny = deny


class Reauthorizer:
    """Decides anew on the requests of keys; a `context.Recheck`."""

    def __init__(self, authenticator: Authenticator, clocks: Clocks) -> None:
        self._authenticator = authenticator
        self._unix_time = clocks.unix
        self._monotonic = clocks.monotonic

    def passes(self, context: RequestContext) -> bool:
        """Return True if the key may still make the request; False also where the authority must be asked."""
        if self._monotonic() < context.valid_until:
            return True
        found = self._authenticator.authenticate(context)
        return isinstance(found, ApiKey) and self._decide(context, found, CACHED_VALID_SECONDS) is None

    async def renew(self, context: RequestContext) -> None:
        """Decide on the key as it is now. Raises DeniedMeanwhileError; GatewayError where nobody can tell."""
        found = self._authenticator.authenticate(context)
        if isinstance(found, UnknownKey):
            found = await self._authenticator.look_up(context, found)
        refusal = found if isinstance(found, Deny) else self._decide(context, found, LOOKUP_VALID_SECONDS)
        if refusal is not None:
            raise DeniedMeanwhileError(refusal)

    def _decide(self, context: RequestContext, principal: Principal, valid: float) -> Deny | None:
        policy = context.config.policy
        decision = authorize(principal, context.exchange.method, context.target, policy, self._unix_time())
        if isinstance(decision, Deny):
            return decision
        context.reauthorized(principal, self._monotonic() + valid)
        return None
