"""The stage that responds to `/api-keys` instead of Core.

Rules kept here:
- A body is read under a limit of its own, and its key is authorized anew once the body is whole.
- Changes are audited as those of the caller and of this request.
- Large lists are made one at a time for each owner, and only a few at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from gateway.audit.author import Author, Way
from gateway.fairness.concurrency import ConcurrencyLimit
from gateway.keys.api.resource import ApiResponse, KeysResource, name_of
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.values import Deny, Target
from gateway.proxy.bodies import BodyReader
from gateway.proxy.context import RequestContext
from gateway.telemetry import AccessEntry
from gateway.wire.errors import ClientGoneError

# Reading and granting scopes is one step of the event loop: 1 MiB of them would hold it for 180 ms.
_BODY: Final = 1 << 16
_LISTS: Final = 2
"""Lists of keys that are made at once: the largest that a client can cause has 18 MB."""
_LISTS_WAITING: Final = 8
"""Further ones that the keys of one owner may have waiting."""


class KeysObserver(Protocol):
    """Observes changes of keys."""

    def store_responded(self) -> None:
        """Take note that the key store responded."""

    def keys_changed(self, entry: AccessEntry, response: ApiResponse) -> None:
        """Take note that a request has made, changed or revoked keys."""


class ApiKeysStage:
    """Responds to `/api-keys`.

    Args:
        resource_of: returns the resource whose changes are those of this author in the audit stream.
        bodies: reads bodies.
        observer: observes changes.
    """

    def __init__(
        self, resource_of: Callable[[Author], KeysResource], bodies: BodyReader, observer: KeysObserver
    ) -> None:
        self._resource_of = resource_of
        self._bodies = bodies
        self._observer = observer
        self._lists = ConcurrencyLimit(1, total=_LISTS, waiting=_LISTS_WAITING)

    async def respond(self, context: RequestContext, principal: Principal) -> ApiResponse | Deny:
        """Return the response to an admitted request. Raises GatewayError, or ClientGoneError."""
        method, target = context.route.method, context.target
        if not isinstance(target, Target):
            raise TypeError("a request that is admitted has a target that can be read")
        entry = context.entry
        author = Author(name_of(principal), Way.HTTP, entry.request_id, entry.client)
        resource = self._resource_of(author)
        if method == "POST":
            body = await self._read_body(context)
            # Its scopes and its owner may be others than when its request began.
            response = await resource.create(context.principal or principal, body)
        elif method == "PATCH":
            body = await self._read_body(context)
            response = await resource.update(
                context.principal or principal, target.segments[1], target.query, body
            )
        elif method == "GET":
            response = await self._list(context, principal, partial(resource.list, principal, target.query))
        else:
            response = await resource.delete(principal, target.segments[1], target.query)
        self._observer.store_responded()
        if isinstance(response, ApiResponse) and (response.created or response.updated or response.revoked):
            self._observer.keys_changed(entry, response)
        return response

    async def _list(
        self,
        context: RequestContext,
        principal: Principal,
        make_list: Callable[[], Awaitable[ApiResponse | Deny]],
    ) -> ApiResponse | Deny:
        # The master key lists any owner's keys, and has turns of its own.
        async with self._lists.turn(principal.owner if isinstance(principal, ApiKey) else ""):
            if context.exchange.gone:
                raise ClientGoneError
            return await make_list()

    async def _read_body(self, context: RequestContext) -> bytes:
        """Return the body of a request that may still be served once it is whole."""
        exchange = context.exchange
        try:
            body = await self._bodies.read_whole(context, _BODY)
        finally:
            context.release_bytes()
        if not context.passes():
            await context.renew()
        if exchange.gone or exchange.abandoned:
            raise ClientGoneError
        return body
