"""The failures of stamping: bodies that cannot be stamped."""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class BadBodyError(GatewayError):
    """The body is not what its route takes."""

    summary: ClassVar[str] = "Request body must be one JSON object"


class TooManyItemsError(GatewayError):
    """The body has more transactions than Core takes at once."""

    summary: ClassVar[str] = "too many transactions"


class StampedTooLargeError(GatewayError):
    """The body would be longer than Core takes."""

    summary: ClassVar[str] = "Request body too large"
