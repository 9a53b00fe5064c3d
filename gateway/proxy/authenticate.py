"""Authentication: from the `X-Blnk-Key` of a request to a principal.

Rules kept here:
- Exactly one `X-Blnk-Key` is a key. A key in another header is an invalid key.
- Unknown, malformed and wrong keys take the same path, so that no response time tells them apart.
- The master key is compared by digest, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import Code, GatewayError
from gateway.keys.authority import Authority
from gateway.policy.decisions import Deny
from gateway.policy.principals import MASTER, ApiKey, Principal
from gateway.proxy.context import RequestContext
from gateway.proxy.core_access import CoreAccess
from gateway.wire.exchange import Exchange

_KEY: Final = "X-Blnk-Key"
_ELSEWHERE: Final = frozenset({b"x-blnk-key", b"authorization", b"x-api-key"})


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key that is not known here: the authority has to be asked."""

    digest: str
    key: str = field(repr=False)
    client: str


class StoreObserver(Protocol):
    """Is told whether the key store responds."""

    def store_failed(self, failure: GatewayError | None) -> None:
        """Take note that the key store failed, or responded (None)."""


class Authenticator:
    """Finds the principals of requests, by the authority of keys."""

    def __init__(self, authority: Authority, core: CoreAccess, observer: StoreObserver) -> None:
        self._authority = authority
        self._core = core
        self._observer = observer

    def identify(self, context: RequestContext) -> Principal | Deny | UnknownKey:
        """Return the caller as far as is known at once."""
        exchange = context.exchange
        values = exchange.headers.getall(_KEY, ())
        if len(values) != 1:
            return _without_one_key(exchange, len(values))
        key = values[0].strip()
        if not key:
            return _deny(Code.MISSING_KEY)
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        if hmac.compare_digest(digest, self._core.master.digest):
            return MASTER if context.config.keys.master == "accept" else _deny(Code.INVALID_KEY)
        return self._authority.peek(digest) or UnknownKey(digest, key, context.entry.client)

    async def look_up(self, unknown: UnknownKey) -> ApiKey | Deny:
        """Return the caller by the authority. Raises GatewayError where it cannot tell."""
        known = await self._authority.identify(unknown.digest, unknown.key, unknown.client)
        self._observer.store_failed(None)
        return known if known is not None else _deny(Code.INVALID_KEY)


def _deny(code: Code) -> Deny:
    return Deny(code, code.message)


def _without_one_key(exchange: Exchange, count: int) -> Deny:
    if count == 0 and not any(
        name.lower().replace(b"_", b"-") in _ELSEWHERE and value for name, value in exchange.raw_headers
    ):
        return _deny(Code.MISSING_KEY)
    return _deny(Code.INVALID_KEY)
