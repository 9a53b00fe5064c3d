"""The failure of a bounded resource."""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class OverloadedError(GatewayError):
    """Everything of a bounded resource is in use, and nobody has to give some of it up."""

    summary: ClassVar[str] = "too many requests at once"
