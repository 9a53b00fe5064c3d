"""Authentication: from the `X-Blnk-Key` of a request to a live principal, or to 401.

Rules kept here:
- A key that is expired, revoked or disabled gets 401 before anything else is said of its request.
- Exactly one `X-Blnk-Key` is a key. A key in another header is an invalid key.
- Unknown, malformed and wrong keys take the same path, so that no response time tells them apart. A key with
  the configured prefix whose checksum is wrong is refused sooner: that tells only what anyone can compute.
- A live key gets 403 where its terms do not let it be used from the request's origin.
- The master keys are compared by digest, in constant time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import Code
from gateway.keys.authority import Authority
from gateway.keys.minting import digest
from gateway.policy.decisions import authenticate
from gateway.policy.key_checksum import is_damaged
from gateway.policy.origins import Origin, check_origin
from gateway.policy.principals import MASTER, ApiKey, Principal
from gateway.policy.terms import NO_TERMS
from gateway.policy.values import Deny
from gateway.proxy.context import RequestContext
from gateway.proxy.core_access import CoreAccess
from gateway.wire.exchange import Exchange
from gateway.wire.headers import is_credential

_KEY: Final = b"x-blnk-key"


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key that is not known here: the authority has to be asked."""

    digest: str
    key: str = field(repr=False)
    client: str


class LookupObserver(Protocol):
    """Observes that the key store responds."""

    def store_responded(self) -> None:
        """Take note that the key store responded."""


class Authenticator:
    """Authenticates requests, by the authority of keys.

    Args:
        authority: knows the keys.
        core: has the master key.
        observer: observes that the key store responds.
        unix: gives Unix seconds.
    """

    def __init__(
        self, authority: Authority, core: CoreAccess, observer: LookupObserver, unix: Callable[[], float]
    ) -> None:
        self._authority = authority
        self._core = core
        self._observer = observer
        self._unix_time = unix

    def authenticate(self, context: RequestContext) -> Principal | Deny | UnknownKey:
        """Return the live principal of a request, or its refusal, as far as is known at once.

        The log entry names the key.
        """
        exchange = context.exchange
        values = exchange.headers.texts(_KEY)
        if len(values) != 1:
            return _without_one_key(exchange, len(values))
        key = values[0].strip()
        if not key:
            return _deny(Code.MISSING_KEY)
        hashed = digest(key.encode("utf-8", "surrogateescape"))
        if self._core.is_master(hashed):
            return self._master(context)
        known = self._authority.peek(hashed)
        if known is not None:
            return self._live(context, known)
        prefix = context.config.keys.prefix
        if prefix and is_damaged(key, prefix):
            return _deny(Code.INVALID_KEY)
        return UnknownKey(hashed, key, context.entry.client)

    async def look_up(self, context: RequestContext, unknown: UnknownKey) -> ApiKey | Deny:
        """Return what `authenticate` does, by asking the authority. Raises GatewayError if it cannot tell."""
        known = await self._authority.identify(unknown.digest, unknown.key, unknown.client)
        self._observer.store_responded()
        return _deny(Code.INVALID_KEY) if known is None else self._live(context, known)

    def _live(self, context: RequestContext, key: ApiKey) -> ApiKey | Deny:
        """Return the key if it is live and may be used from here, else the refusal."""
        context.entry.key_id, context.entry.owner = key.id, key.owner
        refusal = authenticate(key, self._unix_time())
        if refusal is None and key.terms is not NO_TERMS:
            refusal = check_origin(key.terms, Origin(context.entry.client, context.exchange.certificate))
        return key if refusal is None else refusal

    @staticmethod
    def _master(context: RequestContext) -> Principal | Deny:
        if context.config.keys.master != "accept":
            return _deny(Code.INVALID_KEY)
        context.entry.key_id = "master"
        return MASTER


def _deny(code: Code) -> Deny:
    return Deny(code, code.message)


def _without_one_key(exchange: Exchange, count: int) -> Deny:
    if count == 0 and not any(is_credential(name) and value for name, value in exchange.headers.lines):
        return _deny(Code.MISSING_KEY)
    return _deny(Code.INVALID_KEY)
