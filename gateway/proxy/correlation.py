"""The ids by which a request is found again in logs and traces.

Rules kept here:
- What a peer says of them counts only if it is a trusted proxy: no other client chooses an id, continues a
  trace, or has itself sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.config import Config
from gateway.telemetry.trace_context import TraceContext, TraceSampler
from gateway.wire.exchange import Exchange

_MOST_ID: Final = 128


class Correlation:
    """Gives requests their ids.

    Args:
        request_ids: makes ids that no other process has.
        sampler: begins and continues traces; None if requests are not traced.
    """

    def __init__(self, request_ids: Callable[[], str], sampler: TraceSampler | None) -> None:
        self.new_id = request_ids
        self._sampler = sampler

    def request_id(self, exchange: Exchange, config: Config) -> str:
        """Return the id that a trusted proxy gave the request, or else a new one."""
        if config.trusts(exchange.peer):
            given = exchange.headers.text(b"x-request-id")
            if 0 < len(given) <= _MOST_ID and given.isascii() and given.isprintable():
                return given
        return self.new_id()

    def trace(self, exchange: Exchange, config: Config) -> TraceContext | None:
        """Return the trace that the request is part of; None if requests are not traced."""
        sampler = self._sampler
        if sampler is None:
            return None
        parents = exchange.headers.texts(b"traceparent")
        if parents and config.trusts(exchange.peer):
            return sampler.continue_trace(parents, exchange.headers.texts(b"tracestate"))
        return sampler.begin_trace()
