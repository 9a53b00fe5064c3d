"""Explains the response to a request: how its target is read, which route wins and why, and who may call it.

Rules kept here:
- Route and verdicts come from the code that decides requests; only the reasons of losing routes are found
  here.
- Characters that could control a terminal, and bytes that are no text, are shown escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.policy.decisions import Policy
from gateway.policy.patterns import Placeholder, includes
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.routes import Access, Route, RouteTable
from gateway.policy.scopes import implied_scope
from gateway.policy.terms import KeyTerms
from gateway.policy.values import Allow, Ambiguous, Target
from gateway.policy.verdicts import (
    NO_KEY,
    NoKey,
    PolicyCaller,
    PolicyRequest,
    Verdict,
    body_of,
    key_with,
    verdict,
)

EACH_KIND: Final[tuple[PolicyCaller, ...]] = (key_with(()), MASTER, NO_KEY)
"""A caller of each kind; their verdicts are given if no caller is named."""


@dataclass(frozen=True, slots=True)
class LosingRoute:
    """A route that one could expect to match, and the reason why it does not."""

    route: Route
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One request, as the policy reads and decides it at `now` (Unix seconds)."""

    request: PolicyRequest
    route: Route | None
    """The route that won."""
    lost: tuple[LosingRoute, ...]
    implied: str | None
    """The scope that Core implies; it is checked if no route won, and for scoped keys on `master` routes."""
    verdicts: tuple[Verdict, ...]
    now: float


def explain(
    request: PolicyRequest, callers: Iterable[PolicyCaller], policy: Policy, now: float
) -> Explanation:
    """Explain what each of `callers` gets for `request` at `now` (Unix seconds)."""
    target, table = request.target, policy.table
    verdicts = tuple(verdict(request, caller, policy, now) for caller in callers)
    if isinstance(target, Ambiguous):
        return Explanation(request, None, (), None, verdicts, now)
    won = table.match(request.method, target.segments)
    lost = tuple(_lost(request.method, target, won, table))
    implied = implied_scope(request.method, target.segments[0])
    return Explanation(request, won, lost, implied, verdicts, now)


def _lost(method: str, target: Target, won: Route | None, table: RouteTable) -> Iterator[LosingRoute]:
    segments = target.segments
    for route in table.routes:
        if route.method == method and route is not won and _fits(route, segments):
            yield LosingRoute(
                route, _preferred(won, route) if won else f"no placeholder reaches /{segments[0]}"
            )
    if won is None and len(segments) > 1 and segments[-1] == "":
        unslashed = table.match(method, segments[:-1])
        if unslashed is not None:
            yield LosingRoute(unslashed, "the target ends with '/', so it is another path")
    for other in dict.fromkeys(route.method for route in table.routes if route.method != method):
        route_of_other = table.match(other, segments)
        if route_of_other is not None:
            yield LosingRoute(route_of_other, "another method")


def _fits(route: Route, segments: tuple[str, ...]) -> bool:
    """Return whether the route's pattern matches, without regard to other routes and reserved paths."""
    # Only the last segment of a target can be empty, and no placeholder stands for it.
    slashed = segments[-1] == "" and isinstance(route.shape[-1], Placeholder)
    return not slashed and includes(route.shape, segments)


def _preferred(won: Route, lost: Route) -> str:
    """Return why `won` is preferred to `lost`, which matches too: their first different segment decides."""
    depth = next(
        at for at, kinds in enumerate(zip(won.shape, lost.shape, strict=False)) if kinds[0] != kinds[1]
    )
    first, second = (route.pattern.removeprefix("/").split("/")[depth] for route in (won, lost))
    if isinstance(won.shape[depth], Placeholder):
        return f"{first}, one segment, is tried before {second}, all remaining segments"
    return f"the literal {first} is tried before {second}"


def needs(explanation: Explanation) -> str:
    """Return who may make the request, in one line for people."""
    route, implied = explanation.route, explanation.implied
    if isinstance(explanation.request.target, Ambiguous):
        return "another target: an ambiguous target is refused for everyone"
    if route is None:
        if implied is None:
            return "a route: none matches, and no resource of Core has this name"
        return f"a route: none matches; a key without {implied}, which Core implies here, gets 403, not 404"
    if route.access is Access.SCOPES:
        return " or ".join(route.scopes)
    return {
        Access.PUBLIC: "nothing: anyone, without a key",
        Access.MASTER: "the master key",
        Access.DENY: "nothing helps: it is refused for everyone",
    }[route.access]


def printable(text: str) -> str:
    """Return `text` with every character that is not printable escaped as in Python."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def members(explanation: Explanation) -> dict[str, object]:
    """Return the explanation for programs: the members of one JSON object."""
    request = explanation.request
    return {
        "method": request.method,
        "target": _target(request),
        "route": explanation.route and _route(explanation.route),
        "lost": [{**_route(lost.route), "reason": lost.reason} for lost in explanation.lost],
        "implied_scope": explanation.implied,
        "verdicts": [_verdict(one, explanation) for one in explanation.verdicts],
    }


def _target(request: PolicyRequest) -> dict[str, object]:
    target = request.target
    if isinstance(target, Ambiguous):
        return {"raw": request.raw, "ambiguous": target.reason}
    return {
        "raw": request.raw,
        "path": target.path,
        "segments": [printable(segment) for segment in target.segments],
        "query": target.query,
    }


def _route(route: Route) -> dict[str, object]:
    return {
        "name": route.name,
        "line": route.line,
        "access": route.access.value,
        "scopes": list(route.scopes),
        "stamp": route.stamp.value,
        "served_by": "gateway" if route.served else "core",
    }


def _verdict(one: Verdict, explanation: Explanation) -> dict[str, object]:
    caller, decision = _caller(one.caller, explanation.now), one.decision
    if isinstance(decision, Allow):
        allowed: dict[str, object] = {"caller": caller, "decision": "allow", "stamp": one.stamp.value}
        if decision.would_deny is not None:
            allowed["would_deny"] = decision.would_deny.code.code
        return allowed
    response = {
        "status": decision.code.status,
        "code": decision.code.code,
        "message": decision.message,
        "body": body_of(explanation.request, decision).decode(),
    }
    return {"caller": caller, "decision": "deny", "answer": response}


def _caller(caller: PolicyCaller, now: float) -> dict[str, object]:
    if isinstance(caller, NoKey):
        return {"kind": "no key"}
    if not isinstance(caller, ApiKey):
        return {"kind": "master key"}
    scopes = [printable(scope) for scope in caller.scopes]
    if not caller.id:
        return {"kind": "key", "scopes": scopes}
    known = {"id": caller.id, "owner": printable(caller.owner), "state": caller.state(now).value}
    return {"kind": "key", **known, "scopes": scopes, **_origin_members(caller.terms)}


def _origin_members(terms: KeyTerms) -> dict[str, object]:
    """Return from where alone a key may be used, which no verdict knows; empty for from everywhere."""
    found: dict[str, object] = {}
    if terms.allow_from:
        found["allow_from"] = [str(network) for network in terms.allow_from]
    if terms.certificate:
        found["certificate"] = terms.certificate
    return found


def name_of(caller: PolicyCaller, now: float) -> str:
    """Return the caller in words, at `now` (Unix seconds): `a key with ledgers:read`, `the master key`."""
    if isinstance(caller, NoKey):
        return "no key"
    if not isinstance(caller, ApiKey):
        return "the master key"
    held = f"with {printable(', '.join(caller.scopes))}" if caller.scopes else "without any scope"
    if not caller.id:
        return f"a key {held}"
    where = "".join(f", {words}" for words in _origins(caller.terms))
    return f"{caller.id} of {printable(caller.owner)}, {caller.state(now).value}, {held}{where}"


def _origins(terms: KeyTerms) -> Iterator[str]:
    """Yield the words for from where alone a key may be used."""
    if terms.allow_from:
        yield f"only from {', '.join(map(str, terms.allow_from))}"
    if terms.certificate:
        yield "only with its client certificate"
