"""The stages that a pipeline is made of."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.proxy.api_keys import ApiKeysStage
from gateway.proxy.authenticate import Authenticator
from gateway.proxy.authorize import Authorizer
from gateway.proxy.bodies import BodyReader
from gateway.proxy.core_access import CoreAccess
from gateway.proxy.forward import Forwarder
from gateway.proxy.rate_limit import RateLimiter
from gateway.proxy.reauthorize import Reauthorizer
from gateway.proxy.responses import Responder


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of one gateway, in the order in which a request passes them."""

    authenticator: Authenticator
    authorizer: Authorizer
    limiter: RateLimiter
    reauthorizer: Reauthorizer
    api_keys: ApiKeysStage
    bodies: BodyReader
    core: CoreAccess
    forwarder: Forwarder
    responder: Responder
