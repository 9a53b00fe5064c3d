"""Maps every failure to its response in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from gateway.errors import Code, GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.keys.errors import KeysUnavailableError, UnreadableListError
from gateway.stamping.errors import BadBodyError, StampedTooLargeError, TooManyItemsError
from gateway.wire.errors import (
    BadFramingError,
    BodyTooLargeError,
    HeadTooLargeError,
    RequestTimeoutError,
    UpstreamError,
    UpstreamTimeoutError,
)


class RateLimitedError(GatewayError):
    """The key has made too many requests."""

    summary: ClassVar[str] = "too many requests of one key"


class LimitsUnavailableError(GatewayError):
    """The limit of the key cannot be told, and `limits.on_store_failure` refuses its requests then."""

    summary: ClassVar[str] = "the limits of keys cannot be shared"


class UpstreamRefusedError(UpstreamError):
    """Core refuses the gateway's master key."""

    summary: ClassVar[str] = "Upstream refused the gateway"


class KeyChangesError(GatewayError):
    """Core refused the master key of a request that cannot be sent again; the next one gets another key."""

    summary: ClassVar[str] = "Core's master key changes"


CODES: Final[Mapping[type[GatewayError], Code]] = MappingProxyType(
    {
        GatewayError: Code.UNAVAILABLE,
        OverloadedError: Code.UNAVAILABLE,
        RateLimitedError: Code.RATE_LIMITED,
        KeyChangesError: Code.UNAVAILABLE,
        LimitsUnavailableError: Code.KEY_STORE_UNAVAILABLE,
        KeysUnavailableError: Code.KEY_STORE_UNAVAILABLE,
        UnreadableListError: Code.UPSTREAM_UNREACHABLE,
        BadBodyError: Code.MALFORMED_BODY,
        TooManyItemsError: Code.BULK_LIMIT,
        StampedTooLargeError: Code.BODY_TOO_LARGE,
        BadFramingError: Code.MALFORMED_REQUEST,
        HeadTooLargeError: Code.HEAD_TOO_LARGE,
        RequestTimeoutError: Code.REQUEST_TIMEOUT,
        BodyTooLargeError: Code.BODY_TOO_LARGE,
        UpstreamError: Code.UPSTREAM_UNREACHABLE,
        UpstreamTimeoutError: Code.UPSTREAM_TIMEOUT,
        UpstreamRefusedError: Code.UPSTREAM_REFUSED,
    }
)
"""The response to a failure of a class, and of its subclasses that are not named."""


def code_of(failure: GatewayError) -> Code:
    """Return the response of the catalogue to a failure."""
    return next(CODES[kind] for kind in type(failure).__mro__ if kind in CODES)


def message_of(failure: GatewayError) -> str:
    """Return what the client is told: the failure's own message, or else the catalogue's."""
    return failure.message or code_of(failure).message
