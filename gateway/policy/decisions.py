"""Decides whether a principal may make a request: `Allow`, or `Deny` with the reason.

Rules kept here:
- Default deny: `Allow` is built on one line.
- A public route requires no key. On every other route, a request without a live key gets 401 and nothing
  else.
- The checks that follow are, in this order: ambiguous target, route, scope.
- The master key needs no scope, but reaches only routes that are listed and not denied.
- If a scoped key may not reach a target, the scope that Core implies is checked first, so that the response
  reveals no more than Core's would.
- On a report-only route or with a report-only key, a request to Core that only lacks the scope is allowed
  until the date; the `Allow` carries the refusal.
- An ingress that forwards a request itself is never allowed what only the gateway can do.
- A scoped key manages only the keys of its own owner, and grants only scopes that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.errors import Code
from gateway.policy.principals import ApiKey, KeyState, Master, Principal
from gateway.policy.report_only import NO_DATES, KeyDates
from gateway.policy.routes import Access, Route, RouteTable, Stamp
from gateway.policy.scopes import grantable, holds, implied_scope
from gateway.policy.values import Allow, Ambiguous, Deny, Target

# Every request compares with these, and CPython 3.11 is slow to find a member through its enum.
_LIVE: Final = KeyState.LIVE
_PUBLIC: Final = Access.PUBLIC
_DENY: Final = Access.DENY
_MASTER: Final = Access.MASTER
_SCOPES: Final = Access.SCOPES
_NO_STAMP: Final = Stamp.NONE


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide who may do what.

    `report_only` holds the keys that are report-only, and until when. Without `accepts_master` the master key
    is refused before it reaches `decide`. `delegates_unstamped` lets an ingress forward requests on routes
    that stamp, though nothing stamps them then.
    """

    table: RouteTable
    accepts_master: bool = True
    report_only: KeyDates = NO_DATES
    delegates_unstamped: bool = False


def authenticate(key: ApiKey | None, now: float) -> Deny | None:
    """Return the refusal of an unknown key (None) or of a key that is not live at `now` (Unix seconds)."""
    if key is None:
        return _deny(Code.INVALID_KEY)
    return None if key.state(now) is _LIVE else _deny(Code.EXPIRED_KEY)


def decide(
    principal: Principal, method: str, target: Target | Ambiguous, policy: Policy, now: float
) -> Allow | Deny:
    """Decide one request at `now` (Unix seconds): `authenticate`, but on a public route, then `authorize`."""
    public = isinstance(target, Target) and policy.table.public(method, target.segments) is not None
    if not public and isinstance(principal, ApiKey) and (refusal := authenticate(principal, now)) is not None:
        return refusal
    return authorize(principal, method, target, policy, now)


def authorize(
    principal: Principal, method: str, target: Target | Ambiguous, policy: Policy, now: float
) -> Allow | Deny:
    """Decide one request of a principal that `authenticate` found live at `now` (Unix seconds)."""
    checked = _check(principal, method, target, policy.table)
    refusal = None
    if isinstance(checked, Deny):
        reported = _report_only_route(checked, principal, now, policy.report_only)
        if reported is None:
            return checked
        refusal, checked = checked, reported
    return Allow(checked, refusal)


def delegate(decision: Allow | Deny, policy: Policy) -> Allow | Deny:
    """Return the decision for an ingress that forwards the request itself, unstamped and with the master key.

    `/api-keys` and `master` routes are refused for everyone, and so are routes that stamp, unless the policy
    delegates them.
    """
    if isinstance(decision, Deny):
        return decision
    route = decision.route
    unstamped = route.stamp is not _NO_STAMP and not policy.delegates_unstamped
    if route.served or route.access is _MASTER or unstamped:
        return _deny(Code.NOT_DECIDED, route)
    return decision


def _report_only_route(deny: Deny, principal: Principal, now: float, dates: KeyDates) -> Route | None:
    """Return the route of `deny` if only the scope is missing and that is only reported at `now`."""
    route = deny.route
    if (
        deny.code is not Code.INSUFFICIENT
        or route is None
        or route.access is not _SCOPES
        or route.served
        or not isinstance(principal, ApiKey)
    ):
        return None
    return route if now < max(route.report_until, dates.until(principal.id)) else None


def _check(principal: Principal, method: str, target: Target | Ambiguous, table: RouteTable) -> Route | Deny:
    route = table.match(method, target.segments) if isinstance(target, Target) else None
    if route is not None and route.access is _PUBLIC:
        return route
    if isinstance(target, Ambiguous):
        return _deny(Code.AMBIGUOUS_TARGET)
    if route is None:
        return _unlisted(principal, method, target)
    if route.access is _DENY:
        return _deny(Code.UNKNOWN_RESOURCE, route)
    if isinstance(principal, Master):
        return route
    if route.access is _MASTER:
        return _master_only(principal, method, target, route)
    if route.accepted_scopes.isdisjoint(principal.scopes):
        return _insufficient(route.scopes[0], route)
    return route


def _unlisted(principal: Principal, method: str, target: Target) -> Deny:
    lacking = None if isinstance(principal, Master) else _check_implied_scope(principal, method, target, None)
    return lacking or _deny(Code.NOT_FOUND)


def _master_only(key: ApiKey, method: str, target: Target, route: Route) -> Deny:
    lacking = _check_implied_scope(key, method, target, route)
    if lacking is not None:
        return lacking
    if target.segments[0] == "hooks":
        return _deny(Code.MASTER_REQUIRED, route)
    return Deny(Code.MASTER_REQUIRED, "this route requires the master key", route)


def _check_implied_scope(key: ApiKey, method: str, target: Target, route: Route | None) -> Deny | None:
    implied = implied_scope(method, target.segments[0])
    if implied is None:
        return _deny(Code.UNKNOWN_RESOURCE, route)
    return None if holds(key.scopes, implied) else _insufficient(implied, route)


def _insufficient(scope: str, route: Route | None) -> Deny:
    return Deny(Code.INSUFFICIENT, f"{Code.INSUFFICIENT.message} for {scope}", route)


def _deny(code: Code, route: Route | None = None) -> Deny:
    return Deny(code, code.message, route)


def may_manage(principal: Principal, requested_owner: str, *, required: bool) -> str | Deny:
    """Return the owner whose keys are managed, as Core's `resolveAPIKeyOwner` does, or the refusal.

    The master key may name any owner, and must name one if `required`; a scoped key manages its own owner's.
    """
    if isinstance(principal, Master):
        return _deny(Code.OWNER_REQUIRED) if required and not requested_owner else requested_owner
    if requested_owner in ("", principal.owner):
        return principal.owner
    return _deny(Code.CROSS_OWNER)


def may_grant(principal: Principal, scopes: tuple[str, ...]) -> Deny | None:
    """Return the refusal to mint a key with `scopes`, as Core's `validateGrantedScopes` does."""
    if isinstance(principal, Master) or grantable(principal.scopes, scopes):
        return None
    return _deny(Code.SCOPE_ESCALATION)
