"""What a policy test expects of the gateway, and whether it holds.

Rules kept here:
- A test asks the engine of the data path; nothing is decided here.
- What a test leaves out, it does not ask: only its decision always counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import Code
from gateway.policy.decisions import Allow, Policy
from gateway.policy.routes import Route, Stamp
from gateway.policy.targets import Ambiguous
from gateway.policy.verdicts import PolicyCaller, PolicyRequest, Verdict, verdict

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
    )
)
"""What a policy test can expect besides `allow`, each `STATUS CODE`."""

# A policy test's keys never expire, so it asks no clock.
_NOW: Final = 0.0


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One line of a policy test file: who does what, and what is expected.

    `expect` is `ALLOW` or one of `REFUSALS`; None for `route` or `stamp` asks nothing about it.
    """

    name: str
    caller: PolicyCaller
    request: PolicyRequest
    expect: str
    route: str | None = None
    stamp: Stamp | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What came out otherwise: `what` is `decision`, `route` or `stamp`."""

    what: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class PolicyTestResult:
    """A policy test that was run; `route` is the one that its request matches."""

    test: PolicyTest
    route: Route | None
    mismatches: tuple[Mismatch, ...]

    @property
    def holds(self) -> bool:
        """Whether everything came out as expected."""
        return not self.mismatches


def run_test(test: PolicyTest, policy: Policy) -> PolicyTestResult:
    """Run one policy test against `policy`."""
    target = test.request.target
    matched = (
        None if isinstance(target, Ambiguous) else policy.table.match(test.request.method, target.segments)
    )
    came = verdict(test.request, test.caller, policy, _NOW)
    return PolicyTestResult(test, matched, tuple(_mismatches(test, matched, came)))


def _mismatches(test: PolicyTest, matched: Route | None, came: Verdict) -> Iterator[Mismatch]:
    decision = came.decision
    if isinstance(decision, Allow):
        got, told = ALLOW, ALLOW
    else:
        got = f"{decision.code.status} {decision.code.code}"
        told = f"{got} {decision.message}"
    if got != test.expect:
        yield Mismatch("decision", test.expect, told)
    route = matched.name if matched is not None else "none"
    if test.route is not None and test.route != route:
        yield Mismatch("route", test.route, route)
    if test.stamp is not None and test.stamp is not came.stamp:
        yield Mismatch("stamp", test.stamp.value, came.stamp.value)
