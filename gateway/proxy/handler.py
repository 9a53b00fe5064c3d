"""One request from its head to its log line, whatever pipeline processes it.

Rules kept here:
- Each request gets one response, one log line, one set of metrics.
- The configuration is read once for each request, so that a reload never splits one.
"""

from __future__ import annotations

from typing import Final, Protocol

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.errors import (
    KeysUnavailableError,
    LookupOverloadError,
    UnreadableKeyError,
    UnreadableListError,
)
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import LateEnding, RequestContext
from gateway.proxy.core_requests import scheme_of
from gateway.proxy.correlation import Correlation
from gateway.proxy.errors import code_of
from gateway.proxy.reauthorize import DeniedMeanwhileError
from gateway.proxy.responses import Responder
from gateway.telemetry import AccessEntry
from gateway.telemetry.trace_context import TraceContext
from gateway.wire.client_address import client_of
from gateway.wire.errors import ClientGoneError, UpstreamTimeoutError, UpstreamUnreachableError
from gateway.wire.exchange import Exchange

_NO_STORE_FAILURE: Final = (LookupOverloadError, UnreadableKeyError)
_UPSTREAM_FAILED: Final = (UpstreamUnreachableError, UpstreamTimeoutError, UnreadableListError)


class Observer(LateEnding, Protocol):
    """Observes requests, and what they show of dependencies."""

    def record(self, entry: AccessEntry) -> None:
        """Take note of a request that has ended."""

    def record_trace(self, trace: TraceContext, entry: AccessEntry, scheme: str, sent_ms: float) -> None:
        """Take note of a sampled request that has ended, before `record`; as `SpanRecorder.record`."""

    def core_failed(self, failure: GatewayError) -> None:
        """Take note that Core failed."""

    def store_failed(self, failure: GatewayError) -> None:
        """Take note that the key store failed."""

    def fault(self, problem: Exception) -> None:
        """Take note of a fault of the gateway itself."""


class Processor(Protocol):
    """A pipeline, and the responses to the requests that fail in it."""

    @property
    def responder(self) -> Responder:
        """The sender of the responses to requests that fail."""

    async def process(self, context: RequestContext) -> None:
        """Respond to one request; raise GatewayError, DeniedMeanwhileError or ClientGoneError."""


class RequestHandler:
    """Handles the exchanges of all clients.

    Args:
        config: the configuration of new requests; replaced whole.
        processor: responds to each request.
        observer: observes each request.
        clocks: the time.
        correlation: gives requests their ids.

    Attributes:
        in_flight: how many requests are being handled.
    """

    def __init__(
        self,
        config: Config,
        processor: Processor,
        observer: Observer,
        clocks: Clocks,
        correlation: Correlation,
    ) -> None:
        self.config = config
        self.in_flight = 0
        self._process = processor.process
        self._observer = observer
        self._responder = processor.responder
        self._unix_time = clocks.unix
        self._monotonic = clocks.monotonic
        self._correlation = correlation

    def adopt(self, config: Config) -> None:
        """Begin new requests with another configuration."""
        self.config = config

    async def handle(self, exchange: Exchange) -> None:
        """Respond to one request, and record it. Raises nothing."""
        began, entry = self._monotonic(), self._entry(exchange)
        context = RequestContext(exchange, entry, self.config, self._observer, began)
        trace = self._correlation.trace(exchange, context.config)
        if trace is not None:
            context.trace = trace
            entry.trace_id = trace.trace_id
        self.in_flight += 1
        try:
            await self._process(context)
        except GatewayError as failure:
            self._fail(context, failure)
        except DeniedMeanwhileError as late:
            self._responder.deny(context, late.deny)
        except ClientGoneError:
            # One that has only ended its side may still read what was sent before: that is not cut off.
            if exchange.responded:
                exchange.cut()
        except Exception as problem:  # the last resort: one request fails, not the gateway
            self._observer.fault(problem)
            self._fail(context, GatewayError())
        finally:
            self.in_flight -= 1
            context.release()
        entry.status = exchange.status
        entry.bytes_in = exchange.body.bytes_in
        entry.bytes_out = exchange.bytes_out
        entry.gateway_ms = (self._monotonic() - began) * 1000 - entry.upstream_ms
        if trace is not None and trace.sampled:
            scheme = scheme_of(exchange, trusted=context.config.trusts(exchange.peer))
            self._observer.record_trace(trace, entry, scheme, (context.sent - began) * 1000)
        self._observer.record(entry)

    def refuse_unreadable(self, failure: GatewayError, peer: str) -> bytes:
        """Return the whole response to a request of `peer` that could not be read, and record it."""
        request_id, code = self._correlation.new_id(), code_of(failure)
        head, body = self._responder.unreadable(failure, request_id)
        self._observer.record(
            AccessEntry(
                time=self._unix_time(),
                request_id=request_id,
                client=peer,
                decision="deny",
                code=code.code,
                status=code.status,
                bytes_out=len(body),
            )
        )
        return head + body

    def _fail(self, context: RequestContext, failure: GatewayError) -> None:
        if isinstance(failure, _UPSTREAM_FAILED):
            self._observer.core_failed(failure)
        elif isinstance(failure, KeysUnavailableError) and not isinstance(failure, _NO_STORE_FAILURE):
            self._observer.store_failed(failure)
        self._responder.fail(context, failure)

    def _entry(self, exchange: Exchange) -> AccessEntry:
        return AccessEntry(
            time=self._unix_time(),
            request_id=self._correlation.request_id(exchange, self.config),
            client=self._client(exchange),
            user_agent=exchange.headers.text(b"user-agent"),
            method=exchange.method,
            path=exchange.target.partition("?")[0],
            certificate_subject=exchange.subject,
        )

    def _client(self, exchange: Exchange) -> str:
        """Return the client's address; behind a trusted proxy, what that one says of it."""
        peer = exchange.peer
        if not self.config.trusted_proxies:
            return peer
        return client_of(peer, exchange.headers.texts(b"x-forwarded-for"), self.config.trusts)
