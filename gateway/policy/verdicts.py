"""Gives the verdict on one request of one caller, as the pipeline does before it reads a body.

Rules kept here:
- `decide` decides. Before it come only the checks that the pipeline makes before it: is the route public, was
  a key sent, is the master key accepted.
- A caller is named by scopes or by record, never by a key. A text with a key in it is refused and not
  repeated.
- A target that HTTP's request line cannot hold never reaches the policy, so it gets no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.errors import Code, error_body
from gateway.policy.decisions import Policy, decide, delegate
from gateway.policy.key_checksum import holds_prefixed_key
from gateway.policy.principals import MASTER, ApiKey, Master, Principal
from gateway.policy.routes import METHODS, Stamp
from gateway.policy.scopes import ACTIONS, RESOURCES
from gateway.policy.targets import parse_target
from gateway.policy.values import Allow, Ambiguous, Deny, Target

HOLDABLE: Final = tuple(
    f"{resource}:{action}"
    for resource in (*dict.fromkeys(RESOURCES.values()), "*")
    for action in (*dict.fromkeys(ACTIONS.values()), "*")
)
"""Every scope that permits something: a resource of Core or `*`, and an action or `*`."""
HOLDABLE_FORM: Final = "a scope is a resource of Core or *, and read, write, delete or *, as ledgers:read"

_METHODS: Final = METHODS | {"TRACE"}
_writable: Final = re.compile(r"/[!-~]*").fullmatch
# 32 bytes in base64url, as keys are minted; its padding may be percent-encoded.
_key_in: Final = re.compile(r"[A-Za-z0-9_-]{43}(=|%3[Dd])").search


@dataclass(frozen=True, slots=True)
class NoKey:
    """A caller that sends no key."""


NO_KEY: Final = NoKey()
PolicyCaller = NoKey | Principal


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """The method of a request, and its target as sent and as read."""

    method: str
    raw: str
    target: Target | Ambiguous

    def __str__(self) -> str:
        """Return `GET /ledgers/x`, as in a request line."""
        return f"{self.method} {self.raw}"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The reason why a text is no request, and what to write instead; it never quotes the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision for one caller, and the stamp that its body gets."""

    caller: PolicyCaller
    decision: Allow | Deny
    stamp: Stamp


def holds_key(text: str) -> bool:
    """Return whether `text` holds a key, or a text of its form; one with a prefix has its checksum, too."""
    return _key_in(text) is not None or holds_prefixed_key(text)


def read_request(method: str, raw: str) -> PolicyRequest | Unreadable:
    """Return the request of a method and `raw`, a request target."""
    if method not in _METHODS and method.upper() in _METHODS:
        return Unreadable(f"write the method in capitals: {method.upper()}")
    if method not in _METHODS:
        return Unreadable(f"the method is one of {', '.join(sorted(_METHODS))}, in capitals")
    if holds_key(raw):
        return Unreadable("the path holds a key, or a text that looks like one: remove it")
    if not _writable(raw):
        return Unreadable("begin the path with '/', and percent-encode everything in it but visible ASCII")
    return PolicyRequest(method, raw, parse_target(raw))


def key_with(scopes: Iterable[str]) -> ApiKey:
    """Return a live key with these scopes and without an owner."""
    return ApiKey(id="", owner="", scopes=tuple(scopes), expires_at=float("inf"))


def verdict(request: PolicyRequest, caller: PolicyCaller, policy: Policy, now: float) -> Verdict:
    """Return the verdict for `caller` and `request` at `now` (Unix seconds)."""
    decision = _decision(request, caller, policy, now)
    if isinstance(decision, Allow) and isinstance(caller, ApiKey):
        return Verdict(caller, decision, decision.route.stamp)
    return Verdict(caller, decision, Stamp.NONE)


def delegated_verdict(request: PolicyRequest, caller: PolicyCaller, policy: Policy, now: float) -> Verdict:
    """Return the verdict if an ingress asks for a decision, and forwards the request itself."""
    return Verdict(caller, delegate(_decision(request, caller, policy, now), policy), Stamp.NONE)


def _decision(request: PolicyRequest, caller: PolicyCaller, policy: Policy, now: float) -> Allow | Deny:
    target = request.target
    if isinstance(target, Target) and policy.table.public(request.method, target.segments) is not None:
        return decide(MASTER, request.method, target, policy, now)  # as for anyone: no key is required
    if isinstance(caller, NoKey):
        return Deny(Code.MISSING_KEY, Code.MISSING_KEY.message)
    if isinstance(caller, Master) and not policy.accepts_master:
        return Deny(Code.INVALID_KEY, Code.INVALID_KEY.message)
    return decide(caller, request.method, target, policy, now)


def body_of(request: PolicyRequest, deny: Deny) -> bytes:
    """Return the body of the response that refuses `request`; HEAD gets none (RFC 9110 section 9.3.2)."""
    return b"" if request.method == "HEAD" else error_body(deny.code.code, deny.message)
