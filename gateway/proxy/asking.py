"""The request that an ingress asks a decision for, as its convention names it.

Rules kept here:
- The path that is asked chooses the one convention that is read. It is never guessed from headers.
- Method and target are each named exactly once. A header of another convention is refused, because a client
  may have sent it, and an ingress that is set up for the wrong path would let it choose the request.
- The target is taken as it is named: nothing is decoded, joined or repaired.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from gateway.errors import Code
from gateway.policy.values import Deny
from gateway.wire.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Convention:
    """The way in which an ingress asks.

    Attributes:
        path: the path that it asks.
        headers: the headers with the method and the target; None if its own request line has both, with
            `path` before the target.
        passed: the statuses of a refusal that reach its client; all others are sent as 403.
        discards_body: True if it drops the body of a refusal.
    """

    path: str
    headers: tuple[str, str] | None
    passed: Container[int]
    discards_body: bool = False


NGINX: Final = Convention(
    # ngx_http_auth_request_module makes 500 of every status but 2xx, 401 and 403.
    "/decide/nginx",
    ("X-Original-Method", "X-Original-URI"),
    passed=(401, 403),
    discards_body=True,
)
FORWARDED: Final = Convention(
    "/decide/forwarded", ("X-Forwarded-Method", "X-Forwarded-Uri"), passed=range(400, 600)
)
# Envoy takes a 5xx for a failure of the server that it asks, and with `failure_mode_allow` for a yes.
ENVOY: Final = Convention("/decide/envoy", None, passed=range(400, 500))

_BY_PATH: Final = {NGINX.path: NGINX, FORWARDED.path: FORWARDED}
_NAMES: Final = {
    name: name.lower().encode() for convention in (NGINX, FORWARDED) for name in convention.headers or ()
}
_BELOW_ENVOY: Final = f"{ENVOY.path}/"


def convention_of(target: str) -> Convention | None:
    """Return the convention of an ingress that asks at `target`; None if that is none."""
    if target.startswith(_BELOW_ENVOY):
        return ENVOY
    # Caddy asks with the query of its client, which it names in the header as well.
    return _BY_PATH.get(target.partition("?")[0])


def read_original(asking: Exchange, convention: Convention | None) -> tuple[str, str] | Deny:
    """Return the method and the target of the request that is asked about, or why they are not clear."""
    if convention is None:
        return _unclear(f"ask {NGINX.path} or {FORWARDED.path}, or use the path prefix {ENVOY.path}")
    own = convention.headers
    for name, lowered in _NAMES.items():
        count = asking.headers.count(lowered)
        if own is not None and name in own:
            if count != 1:
                return _unclear(f"{convention.path} needs the header {name} exactly once")
        elif count:
            return _unclear(f"{convention.path} and the header {name} are of two conventions")
    if own is None:
        return asking.method, asking.target[len(convention.path) :]
    method, target = own
    return asking.headers.text(_NAMES[method]), asking.headers.text(_NAMES[target])


def _unclear(fault: str) -> Deny:
    return Deny(Code.UNCLEAR_REQUEST, f"{Code.UNCLEAR_REQUEST.message}: {fault}")
