"""The pipeline of `decide.listen`: an ingress asks whether a request is allowed, and forwards it itself.

Rules kept here:
- Only a trusted proxy gets a decision. Anybody else is refused before anything of the request is read.
- The decision is that of a `Pipeline`, by the same stages, up to the limit of the key. How long the request
  is in progress at its ingress is not known, so it does not count for the concurrency of the key.
- What the ingress cannot do is never allowed: `/api-keys`, `master` routes, and routes that stamp, unless
  `decide.unstamped` says otherwise. It forwards the body as it came, with the master key.
- A refusal has a status that its ingress takes for one. The true status is in `X-Blnk-Status`.
- An allowed request always names key and owner, empty on a public route, so that the ingress replaces what
  its client sent. Their values are percent-encoded: an owner is any text.
- The body of the request that asks is not read; its connection ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from gateway.errors import Code, GatewayError, error_body
from gateway.policy.decisions import delegate
from gateway.policy.principals import ApiKey
from gateway.policy.values import Deny
from gateway.proxy.asking import NGINX, Convention, convention_of, read_original
from gateway.proxy.authenticate import UnknownKey
from gateway.proxy.context import LateEnding, RequestContext
from gateway.proxy.errors import code_of, message_of
from gateway.proxy.responses import Responder, connection_of, own_head, refusal_lines
from gateway.proxy.stages import Stages

_CLOSING: Final = b"Connection: close\r\n"


class DecisionResponder(Responder):
    """Sends refusals in the form that the ingress which asks passes on."""

    def unreadable(self, failure: GatewayError, request_id: str) -> tuple[bytes, bytes]:
        """Return (head, body) of the response to a request that could not be read."""
        return self._refusal(NGINX, code_of(failure), message_of(failure), (request_id.encode(), _CLOSING))

    def _refuse(self, context: RequestContext, code: Code, message: str) -> None:
        exchange, entry = context.exchange, context.entry
        entry.code = code.code
        convention = convention_of(exchange.target) or NGINX
        framing = (entry.request_id.encode(), connection_of(exchange) + context.limit_lines)
        head, body = self._refusal(convention, code, message, framing)
        # For the log and the metrics the status is the true one.
        exchange.send(head, b"" if context.bodiless else body, code.status)

    def _refusal(
        self, convention: Convention, code: Code, message: str, framing: tuple[bytes, bytes]
    ) -> tuple[bytes, bytes]:
        status = code.status if code.status in convention.passed else 403
        body = error_body(code.code, message)
        head = own_head(status, len(body), *framing, self._unix_time())
        lines = b"%bX-Blnk-Status: %d\r\n" % (refusal_lines(code), code.status)
        if convention.discards_body:
            lines += b"X-Blnk-Error: %b\r\n" % body
        return head + lines + b"\r\n", body


class DecisionPipeline:
    """Decides on requests that an ingress forwards itself; a `proxy.handler.Processor`.

    Args:
        stages: those of the pipeline that forwards.
        observer: as the handler's.
        unix: gives Unix seconds.
    """

    def __init__(self, stages: Stages, observer: LateEnding, unix: Callable[[], float]) -> None:
        self.responder = DecisionResponder(unix)
        self._authenticator = stages.authenticator
        self._authorizer = stages.authorizer
        self._limiter = stages.limiter
        self._observer = observer
        self._unix_time = unix

    async def process(self, context: RequestContext) -> None:
        """Respond with the decision on the request that `context` asks about. Raises GatewayError."""
        asking, entry = context.exchange, context.entry
        if not context.config.trusts(asking.peer):
            self.responder.deny(context, Deny(Code.UNTRUSTED_PEER, Code.UNTRUSTED_PEER.message))
            return
        named = read_original(asking, convention_of(asking.target))
        if isinstance(named, Deny):
            self.responder.deny(context, named)
            return
        method, target = named
        entry.method, entry.path = method, target.partition("?")[0]
        original = RequestContext(
            asking.about(method, target), entry, context.config, self._observer, context.began
        )
        try:
            refusal = await self._refusal(original)
        finally:
            context.limit_lines = original.limit_lines
            original.release()
        if refusal is not None:
            self.responder.deny(context, refusal)
            return
        self._allow(context)

    async def _refusal(self, context: RequestContext) -> Deny | None:
        """Return why the request is refused; None if it is allowed, and then the log says so."""
        entry, route = context.entry, context.public_route
        if route is not None:
            entry.route, entry.decision = route.name, "allow"
            return None
        principal = self._authenticator.authenticate(context)
        if not isinstance(principal, ApiKey):
            context.label()
        if isinstance(principal, UnknownKey):
            principal = await self._authenticator.look_up(context, principal)
        if isinstance(principal, Deny):
            return principal
        decision = delegate(self._authorizer.authorize(context, principal), context.config.policy)
        self._limiter.limit(context, principal)
        if isinstance(decision, Deny):
            return decision
        self._authorizer.note_use(principal, decision)
        entry.decision = "allow"
        if decision.would_deny is not None:
            entry.would_deny(decision.would_deny.code.code)
        return None

    def _allow(self, context: RequestContext) -> None:
        exchange, entry = context.exchange, context.entry
        lines = connection_of(exchange) + context.limit_lines
        head = own_head(200, 0, entry.request_id.encode(), lines, self._unix_time())
        names = b"X-Blnk-Key-Id: %b\r\nX-Blnk-Owner: %b\r\n\r\n" % (_text(entry.key_id), _text(entry.owner))
        exchange.send(head + names, b"", 200)


def _text(value: str) -> bytes:
    """Return a text for a header, percent-encoded as a segment of a path is (RFC 3986 section 3.3)."""
    return quote(value, safe="!$&'()*+,;=:@", errors="surrogatepass").encode()
