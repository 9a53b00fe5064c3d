"""The stages that requests pass through, and the handlers of requests, built and connected."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from gateway.keys.authorities import OpenAuthority
from gateway.proxy.api_keys import ApiKeysStage
from gateway.proxy.authenticate import Authenticator
from gateway.proxy.authorize import Authorizer
from gateway.proxy.bodies import BodyReader
from gateway.proxy.body_budget import BufferBudget
from gateway.proxy.clocks import Clocks
from gateway.proxy.core_responses import ResponseRelay
from gateway.proxy.correlation import Correlation
from gateway.proxy.decide import DecisionPipeline
from gateway.proxy.forward import Forwarder
from gateway.proxy.handler import Processor, RequestHandler
from gateway.proxy.key_trials import KeyTrials
from gateway.proxy.observe import ObservePipeline
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.reauthorize import Reauthorizer
from gateway.proxy.responses import Responder
from gateway.proxy.stages import Stages
from gateway.proxy.stamp_queue import StampQueue
from gateway.server.clocks import request_ids, uptime
from gateway.server.observer import DecisionObserver, GatewayObserver
from gateway.server.parts import Base, KeyParts
from gateway.telemetry.trace_context import TraceSampler
from gateway.wire.pool import Pool

_CLOCKS: Final = Clocks(time.time, uptime)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of requests of clients, and of requests for decisions."""

    requests: RequestHandler
    decisions: RequestHandler


def build_stages(
    base: Base, pool: Pool, keys: KeyParts, authority: OpenAuthority, observer: GatewayObserver
) -> Stages:
    """Return the stages of all requests; they follow the live configuration."""
    live, config = base.live, base.live.config
    budget = BufferBudget(config.limits.buffered)
    authenticator = Authenticator(authority.authority, base.core_access, observer, time.time)
    bodies = BodyReader(budget, StampQueue(time.monotonic))
    relay = ResponseRelay(observer, _CLOCKS)
    live.followed_by(keys.limiter.adopt, lambda config: budget.adopt(config.limits.buffered))
    return Stages(
        authenticator=authenticator,
        authorizer=Authorizer(keys.last_used, keys.scope_use, time.time),
        limiter=keys.limiter,
        reauthorizer=Reauthorizer(authenticator, _CLOCKS),
        api_keys=ApiKeysStage(authority.api_keys.acting_as, bodies, observer),
        bodies=bodies,
        core=base.core_access,
        forwarder=Forwarder(
            pool, base.core_access, relay, KeyTrials(pool, base.core_access, observer), _CLOCKS
        ),
        responder=Responder(time.time),
    )


def build_handler(base: Base, stages: Stages, observer: GatewayObserver) -> RequestHandler:
    """Return what handles the requests of clients; it follows the live configuration."""
    pipeline = ObservePipeline(stages) if base.options.observe else Pipeline(stages, _CLOCKS)
    return _handler(base, pipeline, observer, Correlation(request_ids(base.id_prefix), _sampler(base)))


def build_decisions(base: Base, stages: Stages, observer: DecisionObserver) -> RequestHandler:
    """Return what handles requests for decisions, which `--observe` does not change; they are not traced."""
    pipeline = DecisionPipeline(stages, observer, time.time)
    return _handler(base, pipeline, observer, Correlation(request_ids(f"{base.id_prefix}-d"), None))


def _sampler(base: Base) -> TraceSampler | None:
    return None if base.tracing is None else base.tracing.sampler


def _handler(
    base: Base, processor: Processor, observer: GatewayObserver, correlation: Correlation
) -> RequestHandler:
    handler = RequestHandler(base.live.config, processor, observer, _CLOCKS, correlation)
    base.live.followed_by(handler.adopt)
    return handler
