"""Runs policy tests: each expects a decision, a route or a stamp for one request of one caller.

Rules kept here:
- The test is decided by the code that decides requests; nothing is decided here.
- A test may leave out route and stamp; then they are not compared. The decision is always compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import Code
from gateway.policy.decisions import Policy
from gateway.policy.routes import Route, Stamp
from gateway.policy.values import Allow, Ambiguous
from gateway.policy.verdicts import PolicyCaller, PolicyRequest, Verdict, delegated_verdict, verdict

ALLOW: Final = "allow"
REFUSALS: Final = tuple(
    f"{code.status} {code.code}"
    for code in (
        Code.MISSING_KEY,
        Code.INVALID_KEY,
        Code.AMBIGUOUS_TARGET,
        Code.INSUFFICIENT,
        Code.UNKNOWN_RESOURCE,
        Code.MASTER_REQUIRED,
        Code.NOT_FOUND,
        Code.NOT_DECIDED,
    )
)
"""The refusals that a policy test can expect, each as `STATUS CODE`."""

CLIENTS: Final = "listen"
INGRESS: Final = "decide"
LISTENERS: Final = (CLIENTS, INGRESS)
"""The listeners that a policy test can name: clients send requests to one, an ingress asks at the other."""

# The keys of a policy test never expire, so the time does not matter.
_NOW: Final = 0.0


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One line of a policy test file: a caller, a request, and the expected result.

    `expect` is `ALLOW` or one of `REFUSALS`; None for `route` or `stamp` expects nothing of it. `at` is the
    listener, one of `LISTENERS`.
    """

    name: str
    caller: PolicyCaller
    request: PolicyRequest
    expect: str
    route: str | None = None
    stamp: Stamp | None = None
    line: int = 0
    at: str = CLIENTS


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A difference from what was expected; `what` is `decision`, `route` or `stamp`."""

    what: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class PolicyTestResult:
    """The result of a policy test; `route` is the route that its request matches."""

    test: PolicyTest
    route: Route | None
    mismatches: tuple[Mismatch, ...]

    @property
    def holds(self) -> bool:
        """Return whether everything is as expected."""
        return not self.mismatches


def run_test(test: PolicyTest, policy: Policy) -> PolicyTestResult:
    """Run one policy test against `policy`."""
    target = test.request.target
    matched = (
        None if isinstance(target, Ambiguous) else policy.table.match(test.request.method, target.segments)
    )
    judge = delegated_verdict if test.at == INGRESS else verdict
    reached = judge(test.request, test.caller, policy, _NOW)
    return PolicyTestResult(test, matched, tuple(_mismatches(test, matched, reached)))


def _mismatches(test: PolicyTest, matched: Route | None, reached: Verdict) -> Iterator[Mismatch]:
    decision = reached.decision
    if isinstance(decision, Allow):
        got, shown = ALLOW, ALLOW
    else:
        got = f"{decision.code.status} {decision.code.code}"
        shown = f"{got} {decision.message}"
    if got != test.expect:
        yield Mismatch("decision", test.expect, shown)
    route = matched.name if matched is not None else "none"
    if test.route is not None and test.route != route:
        yield Mismatch("route", test.route, route)
    if test.stamp is not None and test.stamp is not reached.stamp:
        yield Mismatch("stamp", test.stamp.value, reached.stamp.value)
