"""The stage that limits the requests of each key, by rate and by how many are in progress.

Rules kept here:
- A limit can change while requests are counted against it.
- Requests that are refused by the policy count as well, or floods of 403 and 404 would be free. Those from an
  origin that the key's terms do not name never come here: the thief of a bound key must not use up its rate.
- A request of a key without a limit is let through after two comparisons, and its response stays as it is.
- What is remembered of a key is forgotten once it has all its tokens again.
- Keys that share a limit (`KeyTerms.counted_as`) are counted as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from gateway.config import Config
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.terms import NO_TERMS, KeyTerms, Rate
from gateway.proxy.allowance import Allowance
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import LimitsUnavailableError, RateLimitedError
from gateway.proxy.key_limit import KeyLimit, concurrency_part, limit_of, rate_part, retry_line
from gateway.proxy.leasing import Leasing

_LEAST_PRUNED: Final = 1024
_KINDS: Final = ("rate", "concurrency", "store")


class KeyUse:
    """The use of one key, or of keys that share a limit, at this replica.

    Attributes:
        name: the name that it is counted under.
        limit: the limit of the key.
        terms: the terms of the key that the limit was made of.
        default: the rate of all keys that it was made of.
        allowance: the requests that it may still make; None without a rate.
        in_progress: its requests that have not ended.
    """

    __slots__ = ("allowance", "default", "in_progress", "limit", "name", "terms")

    def __init__(self, name: str, limit: KeyLimit) -> None:
        self.name = name
        self.limit = limit
        self.terms: KeyTerms = NO_TERMS
        self.default: Rate | None = None
        self.allowance: Allowance | None = None
        self.in_progress = 0

    def leave(self) -> None:
        """Count a request as ended."""
        self.in_progress -= 1


class RateLimiter:
    """Limits the requests of keys.

    Args:
        config: has the rate of all keys.
        monotonic: gives seconds.
        leasing: shares the limits with other replicas; None for the only replica.
    """

    def __init__(self, config: Config, monotonic: Callable[[], float], leasing: Leasing | None) -> None:
        self._monotonic = monotonic
        self._leasing = leasing
        self._uses: dict[str, KeyUse] = {}
        self._prune_at = _LEAST_PRUNED
        self._refusals = Counter(dict.fromkeys(_KINDS, 0))
        self.adopt(config)

    def __len__(self) -> int:
        """Return the number of keys that are remembered."""
        return len(self._uses)

    @property
    def refusals(self) -> Mapping[str, int]:
        """The number of refused requests by the limit: `rate`, `concurrency`, `store` (it cannot be told)."""
        return self._refusals

    def adopt(self, config: Config) -> None:
        """Limit by another configuration from now on."""
        self._default = config.limits.rate
        if self._leasing is not None and self._default is not None:
            self._leasing.expect()
        self._deny = config.limits.on_store_failure == "deny"

    def limit(self, context: RequestContext, principal: Principal) -> None:
        """Count an authenticated request until its end.

        Raises:
            RateLimitedError: it is one too many.
            LimitsUnavailableError: nobody can tell, and the configuration refuses it then.
        """
        terms = principal.terms if isinstance(principal, ApiKey) else NO_TERMS
        if self._default is None and terms.rate is None and not terms.concurrency:
            return
        now = self._monotonic()
        name = terms.counted_as(context.entry.key_id)
        use = self._uses.get(name)
        if use is None or use.terms is not terms or use.default is not self._default:
            use = self._use(name, terms, now)
        if self._deny and self._leasing is not None and self._leasing.failing:
            self._refuse(context, "store")
            raise LimitsUnavailableError
        self._count(context, use, now)

    def _count(self, context: RequestContext, use: KeyUse, now: float) -> None:
        limit, allowance = use.limit, use.allowance
        passes, parts = True, []
        if allowance is not None:
            passes = allowance.take(now)
            self._note(use, now)
            parts.append(rate_part(allowance))
        full = limit.concurrency > 0 and use.in_progress >= limit.concurrency
        if passes and not full:
            use.in_progress += 1
            context.use = use
        if limit.concurrency:
            parts.append(concurrency_part(limit, use.in_progress))
        context.limit_lines = b"%bRateLimit: %b\r\n" % (limit.policy, b", ".join(parts))
        if passes and not full:
            return
        wait = 1.0 if passes or allowance is None else allowance.wait()
        context.limit_lines += retry_line(wait)
        self._refuse(context, "concurrency" if passes else "rate")
        raise RateLimitedError

    def _refuse(self, context: RequestContext, kind: str) -> None:
        self._refusals[kind] += 1
        context.entry.decision = "rate_limited"

    def _note(self, use: KeyUse, now: float) -> None:
        """Let the store be asked for a key, if nobody has noted that yet."""
        allowance = use.allowance
        if self._leasing is not None and allowance is not None and not allowance.noted:
            self._leasing.note(use.name, allowance, now)

    def _use(self, name: str, terms: KeyTerms, now: float) -> KeyUse:
        """Return the use of a key that is new here, or whose limit may be another one."""
        limit = limit_of(terms, self._default)
        use = self._uses.get(name)
        if use is None:
            if len(self._uses) >= self._prune_at:
                self._prune(now)
            use = self._uses[name] = KeyUse(name, limit)
            use.allowance = self._allowance(limit, now)
        elif use.limit != limit:
            if (use.limit.rate, use.limit.burst) != (limit.rate, limit.burst):
                use.allowance = self._changed(use.allowance, limit, now)
            use.limit = limit
        use.terms, use.default = terms, self._default
        return use

    def _changed(self, allowance: Allowance | None, limit: KeyLimit, now: float) -> Allowance | None:
        """Return the allowance of a key that gets another limit."""
        if allowance is None or limit.rate is None:
            return self._allowance(limit, now)
        allowance.change(limit.rate.per_second, limit.burst, now)
        return allowance

    def _allowance(self, limit: KeyLimit, now: float) -> Allowance | None:
        if limit.rate is None:
            return None
        even = 1.0 if self._leasing is None else self._leasing.even
        return Allowance(limit.rate.per_second, limit.burst, even, now)

    def _prune(self, now: float) -> None:
        """Forget the keys that are as good as new, and do so again at twice the number that is left."""
        self._uses = {name: use for name, use in self._uses.items() if not self._is_new(use, now)}
        self._prune_at = max(_LEAST_PRUNED, 2 * len(self._uses))

    def _is_new(self, use: KeyUse, now: float) -> bool:
        allowance = use.allowance
        if use.in_progress or allowance is None:
            return not use.in_progress
        return allowance.is_full(now) and (self._leasing is None or allowance.settled)
