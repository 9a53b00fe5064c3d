"""That a key may make a request, worked out anew where that was some time ago.

Rules kept here:
- A client may take minutes over a body, and a connection to Core may be waited for: meanwhile the key may be
  revoked, disabled, expired or narrowed, and no byte of its request leaves then.
- What was judged is relied on for as long as the bound of a revocation leaves room for it (`keys.cache`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.config import Config
from gateway.keys.cache import CACHED_VALID_SECONDS, LOOKUP_VALID_SECONDS
from gateway.policy.decisions import Deny, decide
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.targets import Ambiguous, Target
from gateway.wire.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time: `unix` in Unix seconds, `monotonic` in seconds that never step."""

    unix: Callable[[], float]
    monotonic: Callable[[], float]


class KeyIdentifier(Protocol):
    """Who can tell whose key it is: the proxy."""

    clocks: Clocks

    def identify(self, exchange: Exchange) -> Principal | Deny | tuple[str, str, str]:
        """Who calls, as far as is known here; digest, key and client where somebody has to be asked."""

    async def look_up(self, digest: str, key: str, client: str) -> Principal | Deny:
        """Who calls, by the authority of keys. Raises GatewayError where it cannot tell."""


class DeniedMeanwhileError(Exception):
    """What was allowed is denied by now, and no more of it reaches Core."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.deny = deny


class RequestRecheck:
    """That a key may make a request; a `context.SendPermission`.

    `principal` is as it was judged last, which is relied on `until` then (monotonic seconds).
    """

    __slots__ = ("_config", "_exchange", "_judge", "_target", "_until", "principal")

    def __init__(
        self,
        judge: KeyIdentifier,
        exchange: Exchange,
        target: Target | Ambiguous,
        config: Config,
        principal: Principal,
        until: float,
    ) -> None:
        self.principal = principal
        self._judge = judge
        self._exchange = exchange
        self._target = target
        self._config = config
        self._until = until

    def passes(self) -> bool:
        """Whether the key may still make it; False, too, where the authority has to be asked."""
        if self._judge.clocks.monotonic() < self._until:
            return True
        found = self._judge.identify(self._exchange)
        return isinstance(found, ApiKey) and self._refusal(found, CACHED_VALID_SECONDS) is None

    async def renew(self) -> None:
        """Ask whose key it is by now. Raises DeniedMeanwhileError, or GatewayError where nobody can tell."""
        found = self._judge.identify(self._exchange)
        if isinstance(found, tuple):
            found = await self._judge.look_up(*found)
        refusal = found if isinstance(found, Deny) else self._refusal(found, LOOKUP_VALID_SECONDS)
        if refusal is not None:
            raise DeniedMeanwhileError(refusal)

    def _refusal(self, principal: Principal, relied_on: float) -> Deny | None:
        config, clocks = self._config, self._judge.clocks
        decision = decide(
            principal,
            self._exchange.method,
            self._target,
            config.routes,
            clocks.unix(),
            config.keys.report_only,
        )
        if isinstance(decision, Deny):
            return decision
        self.principal = principal
        self._until = clocks.monotonic() + relied_on
        return None
