"""Failures of HTTP/1.1: wrong requests of clients, and a Core that does not respond."""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class ClientGoneError(Exception):
    """The client left before its request was whole, or before anything of it was sent to Core."""


class BadFramingError(GatewayError):
    """A message is malformed HTTP, or two recipients could read it differently."""

    summary: ClassVar[str] = "Malformed HTTP request"

    @classmethod
    def because(cls, fault: str) -> BadFramingError:
        """Return the failure whose message names a fault."""
        return cls(f"{cls.summary}: {fault}")


class HeadTooLargeError(GatewayError):
    """The head of the request is too large."""

    summary: ClassVar[str] = "Request head too large"


class RequestTimeoutError(GatewayError):
    """The request did not come whole in time."""

    summary: ClassVar[str] = "Request timed out"


class BodyTooLargeError(GatewayError):
    """The body of the request is larger than its route allows."""

    summary: ClassVar[str] = "Request body too large"


class UpstreamError(GatewayError):
    """Core cannot be used for a request."""


class UpstreamUnreachableError(UpstreamError):
    """Core cannot be reached, or its response is broken."""

    summary: ClassVar[str] = "Upstream unreachable"


class UpstreamTimeoutError(UpstreamError):
    """Core is too slow."""

    summary: ClassVar[str] = "Upstream timed out"
