"""A request that may go on: stamp it, send it to Core, pass Core's answer to the client.

Rules kept here:
- Heads are built new; the master key goes in last, and leaves only towards Core.
- A stamped body is read whole under a limit; every other body flows as it comes.
- Nothing is forwarded before Core was seen secure.
- A failure behind the answer's first byte breaks the connection; nothing that reached Core is
  cancelled because its client left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

from gateway.config import Config
from gateway.errors import Code, GatewayError
from gateway.keys.resource import Answer as OwnAnswer
from gateway.limits import BufferBudget
from gateway.policy.principals import ApiKey, Principal
from gateway.policy.routes import Route, Stamp
from gateway.stamp_lane import StampLane
from gateway.streaming import SMALL, Download, Upload
from gateway.telemetry import AccessEntry
from gateway.wire.answers import connection_line, status_line
from gateway.wire.exchange import ClientGoneError, Exchange
from gateway.wire.headers import answer_lines, request_lines
from gateway.wire.pool import Gate, Pool
from gateway.wire.upstream import Answer

# A list of keys that Core makes for us: some 100,000 of them.
_LARGE: Final = 1 << 26
_BODILESS: Final = frozenset({204, 304})


class CoreObserver(Protocol):
    """Who is told how Core behaves."""

    def upstream(self, failure: Code | None) -> None:
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
        monotonic: Callable[[], float],
    ) -> None:
        self.master = master
        self.open = False
        self._pool = pool
        self._observer = observer
        self._monotonic = monotonic
        self._budget = BufferBudget(config.limits.buffered)
        self._lane = StampLane(monotonic)
        self._host = b"Host: %b\r\n" % config.upstream.authority.encode()

    def adopt(self, config: Config) -> None:
        """Bound stamped bodies by `config` from now on."""
        self._budget.follow(config.limits.buffered)

    async def forward(
        self,
        exchange: Exchange,
        entry: AccessEntry,
        config: Config,
        route: Route,
        principal: Principal | None,
        gate: Gate | None = None,
    ) -> None:
        """Send a request that may take `route` to Core, and Core's answer to the client.

        `principal` is None on a public route, which never carries the master key. `gate` is asked whenever
        bytes are to leave for Core, for a client may take its time with a body.
        Raises GatewayError, ClientGoneError where nobody is left to answer, and what `gate` raises.
        """
        if not self.open:
            raise GatewayError(Code.UPSTREAM_UNREACHABLE)
        if isinstance(principal, ApiKey) and route.stamp is not Stamp.NONE:
            await self._forward_stamped(exchange, entry, config, route, principal, gate)
            return
        head = self._head(exchange, entry, config, principal)
        if exchange.complete:
            await self._exchange_whole(exchange, entry, principal, head, exchange.held(), gate)
        else:
            await self._exchange_streamed(exchange, entry, principal, head, gate)

    async def ask(self, method: str, target: str, body: bytes) -> OwnAnswer:
        """Core's answer to a request of the gateway's own, with the master key; `body` is JSON, or empty.

        Raises GatewayError, UPSTREAM_REFUSED where Core refuses the master key.
        """
        if not self.open:
            raise GatewayError(Code.UPSTREAM_UNREACHABLE)
        framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
        head = b"%b %b HTTP/1.1\r\n%bVia: 1.1 blnk-gateway\r\n" % (
            method.encode(),
            target.encode(),
            self._host,
        )
        answer = await self._pool.request(
            b"%b%b%b\r\n%b" % (head, framing, self.master.line, body), repeatable=method == "GET"
        )
        if answer.status == 401 and await _blames_key(answer, method):
            answer.abandon()
            self._observer.refused()
            raise GatewayError(Code.UPSTREAM_REFUSED, reason="Core refuses the master key")
        await answer.read(_LARGE)
        self._observer.upstream(None)
        return OwnAnswer(answer.status, answer.body)

    async def _forward_stamped(
        self,
        exchange: Exchange,
        entry: AccessEntry,
        config: Config,
        route: Route,
        key: ApiKey,
        gate: Gate | None,
    ) -> None:
        limit = min(config.limits.body, config.upstream.max_body)
        known = exchange.bytes_in if exchange.complete else exchange.length
        room = limit if known is None else min(known, limit)
        self._budget.reserve(room)
        try:
            body = (
                exchange.held()
                if exchange.complete and exchange.bytes_in <= limit
                else await exchange.read(limit)
            )
            stamped = await self._stamped(exchange, config, body, route, key)
            entry.stamped = stamped is not body
            # While Core answers, no more than what is held counts.
            spare = max(0, room - len(stamped))
            self._budget.release(spare)
            room -= spare
            head = self._head(exchange, entry, config, key)
            await self._exchange_whole(exchange, entry, key, head, stamped, gate)
        finally:
            self._budget.release(room)

    async def _stamped(
        self, exchange: Exchange, config: Config, body: bytes, route: Route, key: ApiKey
    ) -> bytes:
        """The body with its stamp; the same object where it needs none. Raises what the lane raises."""
        most = config.upstream.max_body
        return await self._lane.stamp(body, route, key.id, most, lambda: not exchange.gone)

    def _head(
        self, exchange: Exchange, entry: AccessEntry, config: Config, principal: Principal | None
    ) -> bytes:
        """The head for Core but for its framing and its end."""
        trusted = config.trusts(exchange.peer)
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
                entry.request_id.encode(),
                b"" if principal is None else self.master.line,
            )
        )

    async def _exchange_whole(
        self,
        exchange: Exchange,
        entry: AccessEntry,
        principal: Principal | None,
        head: bytes,
        body: bytes,
        gate: Gate | None = None,
    ) -> None:
        method = exchange.method
        if body or method not in ("GET", "HEAD", "DELETE"):
            data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        else:
            data = head + b"\r\n"
        sent = self._monotonic()
        try:
            answer = await self._pool.request(
                data, repeatable=method == "GET" and not body, bodiless=method == "HEAD", gate=gate
            )
        finally:
            entry.upstream_ms = (self._monotonic() - sent) * 1000
        if answer.complete and answer.status != 401:
            self._relay(exchange, entry, answer)
        else:
            await self._pass_on(exchange, entry, principal, answer)

    async def _exchange_streamed(
        self,
        exchange: Exchange,
        entry: AccessEntry,
        principal: Principal | None,
        head: bytes,
        gate: Gate | None = None,
    ) -> None:
        upload = Upload(exchange, gate)
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n"
            if exchange.length is None
            else b"Content-Length: %d\r\n\r\n" % exchange.length
        )
        sent = self._monotonic()
        try:
            answer = await self._pool.upload(
                head + framing, upload, upload.begin, bodiless=exchange.method == "HEAD", gate=gate
            )
        except GatewayError:
            if (reason := exchange.broken or upload.closed) is not None:
                raise reason from None
            raise
        finally:
            exchange.stop()
            upload.stop()
            entry.upstream_ms = (self._monotonic() - sent) * 1000
        await self._pass_on(exchange, entry, principal, answer)

    # Core's answer.

    async def _pass_on(
        self, exchange: Exchange, entry: AccessEntry, principal: Principal | None, answer: Answer
    ) -> None:
        if answer.status == 401 and principal is not None and await _blames_key(answer, exchange.method):
            answer.abandon()
            self._observer.refused()
            raise GatewayError(Code.UPSTREAM_REFUSED)
        if answer.complete:
            self._relay(exchange, entry, answer)
            return
        head, chunked = self._answer_head(exchange, entry, answer)
        await self._stream(exchange, entry, answer, head, chunked=chunked)

    def _relay(self, exchange: Exchange, entry: AccessEntry, answer: Answer) -> None:
        head, _ = self._answer_head(exchange, entry, answer)
        exchange.send(head, answer.body, answer.status)

    def _answer_head(self, exchange: Exchange, entry: AccessEntry, answer: Answer) -> tuple[bytes, bool]:
        """The head for the client, and whether it says that the body is chunked."""
        self._observer.upstream(None)
        entry.answered_by = "core"
        persistent = exchange.persistent
        bare = answer.status in _BODILESS or exchange.method == "HEAD"
        length = len(answer.body) if answer.complete and not bare else answer.length
        chunked = length is None and not bare and exchange.minor == 1
        if length is None and not bare and not chunked:
            persistent = exchange.keep_alive = False
        head = b"%b%b%b%bX-Request-Id: %b\r\n\r\n" % (
            status_line(answer.status),
            answer_lines(answer.headers),
            _framing(length, answer.status, chunked=chunked),
            connection_line(persistent=persistent, minor=exchange.minor),
            entry.request_id.encode(),
        )
        return head, chunked

    async def _stream(
        self, exchange: Exchange, entry: AccessEntry, answer: Answer, head: bytes, *, chunked: bool
    ) -> None:
        exchange.begin(head, answer.status, answer)
        began = self._monotonic()
        try:
            await answer.stream(Download(exchange, answer, chunked=chunked))
        except GatewayError:
            if exchange.gone:
                raise ClientGoneError from None
            raise
        finally:
            entry.upstream_ms += (self._monotonic() - began) * 1000
        if chunked:
            exchange.write(b"0\r\n\r\n", 0)
        exchange.finish()


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


async def _blames_key(answer: Answer, method: str) -> bool:
    """Whether a 401 of Core is about the key it got, which was the gateway's own."""
    if method == "HEAD":
        # No body to tell; Core has no other 401.
        return True
    if not answer.complete and answer.length is not None and answer.length > SMALL:
        return False
    await answer.read(SMALL)
    return b'"AUTH_' in answer.body
