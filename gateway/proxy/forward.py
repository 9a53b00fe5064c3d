"""A request that may go on: stamp it, send it to Core, pass Core's response to the client.

Rules kept here:
- Heads are built new; the master key goes in last, and leaves only towards Core.
- A stamped body is read whole under a limit. Of any other body the first 64 KiB are read before Core is asked
  for a connection: a small one goes at Core's pace, and only a larger one flows at its client's.
- What is read is counted as it comes, and shared between the callers (`limits`).
- Nothing is forwarded before Core was seen secure, and nothing for a client that has left.
- A failure behind the response's first byte breaks the connection.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.fairness.shares import Caller
from gateway.keys.api.resource import ApiResponse
from gateway.policy.principals import ApiKey
from gateway.policy.routes import Route, Stamp
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import UpstreamRefusedError
from gateway.proxy.limits import BufferBudget, Hold
from gateway.proxy.reauthorize import Clocks
from gateway.proxy.stamp_queue import StampQueue
from gateway.proxy.stream import SMALL, Download, Upload
from gateway.wire.errors import BodyTooLargeError, ClientGoneError, UpstreamUnreachableError
from gateway.wire.headers import answer_lines, has_date, request_lines
from gateway.wire.pool import OwnCall, Pool
from gateway.wire.response_heads import connection_line, date_line, status_line
from gateway.wire.upstream_connection import UpstreamResponse

# A list of keys that Core makes for us: some 100,000 of them.
_LARGE: Final = 1 << 26
_BODILESS: Final = frozenset({204, 304})


class CoreObserver(Protocol):
    """Who is told how Core behaves."""

    def upstream(self, failure: GatewayError | None) -> None:
        """Core answered (None), or failed."""

    def refused(self) -> None:
        """Core refused the gateway's master key."""


class MasterKey:
    """Core's master key as the proxy uses it; replaced whole when its file is read again."""

    __slots__ = ("digest", "line")

    def __init__(self, key: str) -> None:
        self.digest = hashlib.sha256(key.encode()).hexdigest()
        self.line = b"X-Blnk-Key: %b\r\n" % key.encode()

    def __repr__(self) -> str:
        """Without the key."""
        return "MasterKey(***)"


class Forwarder:
    """The way to Core and back. `open` once Core may be sent requests; `master` is replaced whole."""

    def __init__(
        self,
        config: Config,
        master: MasterKey,
        pool: Pool,
        observer: CoreObserver,
        clocks: Clocks,
    ) -> None:
        self.master = master
        self.open = False
        self._pool = pool
        self._observer = observer
        self._unix = clocks.unix
        self._monotonic = clocks.monotonic
        self._budget = BufferBudget(config.limits.buffered)
        self._lane = StampQueue(clocks.monotonic)
        self._host = b"Host: %b\r\n" % config.upstream.authority.encode()

    def adopt(self, config: Config) -> None:
        """Bound stamped bodies by `config` from now on."""
        self._budget.follow(config.limits.buffered)

    def hold(self, context: RequestContext) -> Hold:
        """What a request will hold of the bytes that bodies may hold; nothing yet."""
        return self._budget.hold(context)

    async def forward(self, context: RequestContext) -> None:
        """Send an admitted request to Core, and Core's response to the client.

        A public route never carries the master key. The context's gate is asked whenever bytes leave for
        Core, for a client may take its time with a body.
        Raises GatewayError, ClientGoneError where nobody is left to answer, and what the gate raises.
        """
        if not self.open:
            raise UpstreamUnreachableError
        exchange, principal = context.exchange, context.principal
        stamps = isinstance(principal, ApiKey) and context.route.stamp is not Stamp.NONE
        if exchange.complete and not stamps:
            await self._exchange_whole(context, self._head(context), exchange.take_held())
            return
        hold = self.hold(context)
        try:
            if isinstance(principal, ApiKey) and stamps:
                await self._forward_stamped(context, principal, hold)
            elif await _is_small(context, hold):
                await self._exchange_whole(context, self._head(context), exchange.take_held())
            else:
                await self._exchange_streamed(context, self._head(context))
        finally:
            hold.release()

    async def ask(self, method: str, target: str, body: bytes) -> ApiResponse:
        """Core's answer to a request of the gateway's own, with the master key; `body` is JSON, or empty.

        Raises GatewayError, UPSTREAM_REFUSED where Core refuses the master key.
        """
        if not self.open:
            raise UpstreamUnreachableError
        framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
        head = b"%b %b HTTP/1.1\r\n%bVia: 1.1 blnk-gateway\r\n" % (
            method.encode(),
            target.encode(),
            self._host,
        )
        reads = method == "GET"
        answer = await self._pool.request(
            b"%b%b%b\r\n%b" % (head, framing, self.master.line, body),
            OwnCall(changes=not reads, repeatable=reads),
        )
        if answer.status == 401 and await _blames_key(answer, method):
            answer.abandon()
            self._observer.refused()
            raise UpstreamRefusedError(reason="Core refuses the master key")
        await answer.read(_LARGE)
        self._observer.upstream(None)
        return ApiResponse(answer.status, answer.body)

    async def _forward_stamped(self, context: RequestContext, key: ApiKey, hold: Hold) -> None:
        exchange, config = context.exchange, context.config
        limit = min(config.limits.body, config.upstream.max_body)
        if exchange.complete and exchange.bytes_in <= limit:
            hold.grow(exchange.bytes_in)
            body = exchange.take_held()
        else:
            hold.comes(context.give_up_body)
            body = await exchange.read(limit, hold)
        stamped = await self._stamped(context, body, context.route, key)
        context.entry.stamped = stamped is not body
        hold.settle(len(stamped), config.upstream.max_body)
        await self._exchange_whole(context, self._head(context), stamped)

    async def _stamped(self, context: RequestContext, body: bytes, route: Route, key: ApiKey) -> bytes:
        """The body with its stamp; the same object where it needs none. Raises what the lane raises."""
        exchange, most = context.exchange, context.config.upstream.max_body
        caller = Caller(key.id, context.network)
        return await self._lane.stamp(body, route, caller, most, lambda: not exchange.gone)

    def _head(self, context: RequestContext) -> bytes:
        """The head for Core but for its framing and its end."""
        exchange = context.exchange
        trusted = context.config.trusts(exchange.peer)
        headers = exchange.headers
        forwarded = exchange.peer
        if trusted and (earlier := headers.getall("X-Forwarded-For", ())):
            forwarded = ", ".join([*earlier, forwarded])
        return (
            b"%b %b HTTP/1.1\r\n%b%bVia: 1.%d blnk-gateway\r\nX-Forwarded-For: %b\r\n%bX-Request-Id: %b\r\n%b"
            % (
                exchange.method.encode(),
                exchange.target.encode("utf-8", "surrogateescape"),
                self._host,
                request_lines(exchange.raw_headers, trusted=trusted),
                exchange.minor,
                forwarded.encode("utf-8", "surrogateescape"),
                _forwarded_lines(headers, trusted=trusted),
                context.entry.request_id.encode(),
                b"" if context.principal is None else self.master.line,
            )
        )

    async def _exchange_whole(self, context: RequestContext, head: bytes, body: bytes) -> None:
        if body or context.exchange.method not in ("GET", "HEAD", "DELETE"):
            data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        else:
            data = head + b"\r\n"
        sent = self._monotonic()
        try:
            answer = await self._pool.request(data, context)
        finally:
            context.entry.upstream_ms = (self._monotonic() - sent) * 1000
        if answer.complete and answer.status != 401:
            self._relay(context, answer)
        else:
            await self._pass_on(context, answer)

    async def _exchange_streamed(self, context: RequestContext, head: bytes) -> None:
        exchange = context.exchange
        upload = Upload(exchange, context)
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n"
            if exchange.length is None
            else b"Content-Length: %d\r\n\r\n" % exchange.length
        )
        sent = self._monotonic()
        try:
            answer = await self._pool.upload(head + framing, context, upload, upload.begin)
        except GatewayError:
            if (reason := exchange.broken or upload.closed) is not None:
                raise reason from None
            raise
        finally:
            exchange.stop()
            upload.stop()
            context.entry.upstream_ms = (self._monotonic() - sent) * 1000
        await self._pass_on(context, answer)

    # Core's response.

    async def _pass_on(self, context: RequestContext, answer: UpstreamResponse) -> None:
        keyed = context.principal is not None
        if answer.status == 401 and keyed and await _blames_key(answer, context.exchange.method):
            answer.abandon()
            self._observer.refused()
            raise UpstreamRefusedError
        if answer.complete:
            self._relay(context, answer)
            return
        head, chunked = self._answer_head(context, answer)
        await self._stream(context, answer, head, chunked=chunked)

    def _relay(self, context: RequestContext, answer: UpstreamResponse) -> None:
        head, _ = self._answer_head(context, answer)
        context.exchange.send(head, answer.body, answer.status)

    def _answer_head(self, context: RequestContext, answer: UpstreamResponse) -> tuple[bytes, bool]:
        """The head for the client, and whether it says that the body is chunked."""
        exchange, entry = context.exchange, context.entry
        self._observer.upstream(None)
        entry.answered_by = "core"
        persistent = exchange.settle_keep_alive()
        bare = answer.status in _BODILESS or exchange.method == "HEAD"
        length = len(answer.body) if answer.complete and not bare else answer.length
        chunked = length is None and not bare and exchange.minor == 1
        if length is None and not bare and not chunked:
            persistent = exchange.keep_alive = False
        lines = answer_lines(answer.headers)
        head = b"%b%b%b%b%bX-Request-Id: %b\r\n\r\n" % (
            status_line(answer.status),
            lines,
            b"" if has_date(lines) else date_line(self._unix()),
            _framing(length, answer.status, chunked=chunked),
            connection_line(persistent=persistent, minor=exchange.minor),
            entry.request_id.encode(),
        )
        return head, chunked

    async def _stream(
        self, context: RequestContext, answer: UpstreamResponse, head: bytes, *, chunked: bool
    ) -> None:
        exchange = context.exchange
        exchange.begin(head, answer.status, answer)
        began = self._monotonic()
        try:
            await answer.stream(Download(exchange, answer, chunked=chunked))
        except GatewayError:
            if exchange.gone:
                raise ClientGoneError from None
            raise
        finally:
            context.entry.upstream_ms += (self._monotonic() - began) * 1000
        if chunked:
            exchange.write(b"0\r\n\r\n", 0)
        exchange.finish()


async def _is_small(context: RequestContext, hold: Hold) -> bool:
    """Whether the body is small, and whole by now; raises GatewayError where it is large and must not be."""
    exchange = context.exchange
    if exchange.length is None or exchange.length <= SMALL:
        hold.comes(context.give_up_body)
        await exchange.collect(SMALL, hold)
        if exchange.complete:
            hold.settle(exchange.bytes_in)
            return True
    if not context.streams:
        raise BodyTooLargeError
    return False


def _forwarded_lines(headers: object, *, trusted: bool) -> bytes:
    get = headers.get  # type: ignore[attr-defined]  # a multidict, untyped in the exchange
    host: str = get("Host", "")
    proto = "http"
    if trusted:
        host = get("X-Forwarded-Host", host)
        proto = get("X-Forwarded-Proto", proto)
    line = b"X-Forwarded-Proto: %b\r\n" % proto.encode("utf-8", "surrogateescape")
    if host:
        line += b"X-Forwarded-Host: %b\r\n" % host.encode("utf-8", "surrogateescape")
    return line


def _framing(length: int | None, status: int, *, chunked: bool) -> bytes:
    if status in _BODILESS:
        return b""
    if chunked:
        return b"Transfer-Encoding: chunked\r\n"
    return b"" if length is None else b"Content-Length: %d\r\n" % length


async def _blames_key(answer: UpstreamResponse, method: str) -> bool:
    """Whether a 401 of Core is about the key it got, which was the gateway's own."""
    if method == "HEAD":
        # No body to tell; Core has no other 401.
        return True
    if not answer.complete and answer.length is not None and answer.length > SMALL:
        return False
    await answer.read(SMALL)
    return b'"AUTH_' in answer.body
