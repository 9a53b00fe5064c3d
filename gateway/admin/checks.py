"""The checks in front of the admin listener: its `Host`, its bearer token.

Rules kept here:
- A page in an operator's browser cannot reach the admin listener under a name of its own (DNS rebinding):
  `Host` names a loopback address or the listener's own, or the response is 421 (RFC 9110 section 15.5.20).
- With a token, everything but `/health/alive` and the files of the console, which hold no data, needs
  `Authorization: Bearer <token>` (RFC 6750).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from gateway.admin.console.files import FILES
from gateway.admin.responses import error_response

ALIVE: Final = "/health/alive"
_OPEN: Final = FILES | {ALIVE}
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?\Z")

Check = Callable[[web.Request], web.Response | None]
"""Returns the response to a request that it refuses, and None for one that may pass."""


class Revealable(Protocol):
    """A secret that shows its text only where it is asked to (`config.Secret`)."""

    def reveal(self) -> str:
        """Return the text."""


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """The conditions of using the admin listener.

    Attributes:
        hosts: the addresses or names of the listener that `Host` may carry besides loopback ones. An
            unspecified address among them (`0.0.0.0`, `::`) admits every IP literal, which no rebinding can
            forge.
        token: the bearer token; None for none.
    """

    hosts: Collection[str]
    token: Revealable | None = None

    def checks(self) -> list[Check]:
        """Return the checks, in the order in which a request passes them."""
        checks = [_host_check(self.hosts)]
        if self.token is not None:
            checks.append(_bearer_check(self.token))
        return checks


def _host_check(hosts: Collection[str]) -> Check:
    allowed = {"localhost", *(host.lower() for host in hosts)}
    any_address = any(address is not None and address.is_unspecified for address in map(_address, allowed))

    def check(request: web.Request) -> web.Response | None:
        named = request.headers.getall("Host", [])
        name = _host_name(named[0]) if len(named) == 1 else ""
        address = _address(name)
        if name in allowed or (address is not None and (any_address or address.is_loopback)):
            return None
        return error_response(421, "GATEWAY_ADMIN_HOST", "Host is not an address of the admin listener")

    return check


def _bearer_check(token: Revealable) -> Check:
    expected = token.reveal().encode()

    def check(request: web.Request) -> web.Response | None:
        if request.path in _OPEN:
            return None
        sent = request.headers.getall("Authorization", [])
        scheme, _, given = (sent[0] if len(sent) == 1 else "").partition(" ")
        # Both comparisons always run; compare_digest takes the same time for any wrong text.
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
        if right and scheme.lower() == "bearer":
            return None
        message = "Authorization: Bearer is missing or wrong"
        refusal = error_response(401, "GATEWAY_ADMIN_UNAUTHORIZED", message)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    return check


def _host_name(host: str) -> str:
    """Return the name or address of a `Host` value, lower case, without port, brackets and a final dot."""
    bracketed = _BRACKETED.match(host)
    return bracketed[1] if bracketed else host.partition(":")[0].lower().removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
