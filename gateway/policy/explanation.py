"""Why a request gets the answer it gets: how its target was read, which route won, which lost, who may.

Rules kept here:
- The route and the verdicts are those of the engine itself; only why a route lost is worked out here.
- What can steer a terminal or is no text, as a decoded segment can be, is shown escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.policy.decisions import Allow, Policy
from gateway.policy.patterns import Placeholder, includes
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.routes import Access, Route, RouteTable
from gateway.policy.scopes import implied_scope
from gateway.policy.targets import Ambiguous, Target
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
"""A caller of each kind, whose verdicts are told where none is named."""


@dataclass(frozen=True, slots=True)
class LosingRoute:
    """A route that could seem to be meant, and why it was not taken."""

    route: Route
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One request, as the policy reads and answers it at `now` (Unix seconds)."""

    request: PolicyRequest
    route: Route | None
    """The route that won."""
    lost: tuple[LosingRoute, ...]
    implied: str | None
    """The scope that Core implies; it counts where no route won, and for scoped keys on `master` routes."""
    verdicts: tuple[Verdict, ...]
    now: float


def explain(
    request: PolicyRequest, callers: Iterable[PolicyCaller], policy: Policy, now: float
) -> Explanation:
    """Why each of `callers` gets what it gets for `request` at `now` (Unix seconds)."""
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
            yield LosingRoute(unslashed, "the target ends with '/', which makes it another path")
    for other in dict.fromkeys(route.method for route in table.routes if route.method != method):
        route_of_other = table.match(other, segments)
        if route_of_other is not None:
            yield LosingRoute(route_of_other, "another method")


def _fits(route: Route, segments: tuple[str, ...]) -> bool:
    """Whether the route's pattern alone matches, other routes and what is reserved left aside."""
    # Only the last segment of a target can be empty, and no placeholder stands for it.
    slashed = segments[-1] == "" and isinstance(route.shape[-1], Placeholder)
    return not slashed and includes(route.shape, segments)


def _preferred(won: Route, lost: Route) -> str:
    """Why `won` comes before `lost`, both matching: the first segment of another kind decides."""
    depth = next(
        at for at, kinds in enumerate(zip(won.shape, lost.shape, strict=False)) if kinds[0] != kinds[1]
    )
    first, second = (route.pattern.removeprefix("/").split("/")[depth] for route in (won, lost))
    if isinstance(won.shape[depth], Placeholder):
        return f"{first}, one segment, is tried before {second}, all that are left"
    return f"the literal {first} is tried before {second}"


def needs(explanation: Explanation) -> str:
    """Who may make the request, in one line for people."""
    route, implied = explanation.route, explanation.implied
    if isinstance(explanation.request.target, Ambiguous):
        return "another target: an ambiguous one is refused to everyone"
    if route is None:
        if implied is None:
            return "a route: none matches, and no resource of Core has this name"
        return f"a route: none matches; a key without {implied}, which Core implies here, gets 403, not 404"
    if route.access is Access.SCOPES:
        return " or ".join(route.scopes)
    return {
        Access.PUBLIC: "nothing: anyone, without a key",
        Access.MASTER: "the master key",
        Access.DENY: "nothing helps: it is refused to everyone",
    }[route.access]


def printable(text: str) -> str:
    """`text` with all that is not printable escaped as in Python."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def members(explanation: Explanation) -> dict[str, object]:
    """The explanation for machines: members of one JSON object."""
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
    answer = {
        "status": decision.code.status,
        "code": decision.code.code,
        "message": decision.message,
        "body": body_of(explanation.request, decision).decode(),
    }
    return {"caller": caller, "decision": "deny", "answer": answer}


def _caller(caller: PolicyCaller, now: float) -> dict[str, object]:
    if isinstance(caller, NoKey):
        return {"kind": "no key"}
    if not isinstance(caller, ApiKey):
        return {"kind": "master key"}
    scopes = [printable(scope) for scope in caller.scopes]
    if not caller.id:
        return {"kind": "key", "scopes": scopes}
    known = {"id": caller.id, "owner": printable(caller.owner), "state": caller.state(now).value}
    return {"kind": "key", **known, "scopes": scopes}


def name_of(caller: PolicyCaller, now: float) -> str:
    """The caller in words: `a key with ledgers:read`, `the master key`; at `now` (Unix seconds)."""
    if isinstance(caller, NoKey):
        return "no key"
    if not isinstance(caller, ApiKey):
        return "the master key"
    held = f"with {printable(', '.join(caller.scopes))}" if caller.scopes else "without any scope"
    if not caller.id:
        return f"a key {held}"
    return f"{caller.id} of {printable(caller.owner)}, {caller.state(now).value}, {held}"
