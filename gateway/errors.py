"""The catalogue of the gateway's own error responses: code, status, message, and who said no.

Not compiled: mypyc makes no enum whose members have an `__init__`.

Rules kept here:
- The body is Core's, byte for byte: `{"error":MSG,"error_detail":{"code":CODE,"message":MSG}}`,
  keys in that order, no newline (recorded from a live Core).
- A refusal is a value (`policy.decisions.Deny`), which names its `Code`. A failure is an exception of the
  layer that it happens in, a kind of `GatewayError`; `proxy.errors` alone maps it to a `Code`.
- `Proxy-Status` (RFC 9209) names an error type of that RFC's registry.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final, Self

import msgspec

_GO_ESCAPES: Final = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)


class Code(enum.Enum):
    """One error response: (code, HTTP status, default message, RFC 9209 error type)."""

    MISSING_KEY = (
        "AUTH_MISSING_API_KEY",
        401,
        "Authentication required. Use X-Blnk-Key header",
        "http_request_denied",
    )
    INVALID_KEY = ("AUTH_INVALID_API_KEY", 401, "Invalid API key", "http_request_denied")
    EXPIRED_KEY = ("AUTH_EXPIRED_API_KEY", 401, "API key is expired or revoked", "http_request_denied")
    AMBIGUOUS_TARGET = ("GEN_BAD_REQUEST", 400, "Ambiguous request target", "http_request_error")
    MALFORMED_REQUEST = ("GEN_BAD_REQUEST", 400, "Malformed HTTP request", "http_request_error")
    REQUEST_TIMEOUT = ("GEN_BAD_REQUEST", 408, "Request timed out", "http_request_error")
    HEAD_TOO_LARGE = ("GEN_BAD_REQUEST", 431, "Request head too large", "http_request_error")
    INSUFFICIENT = (
        "AUTH_INSUFFICIENT_PERMISSIONS",
        403,
        "Insufficient permissions",
        "http_request_denied",
    )
    UNKNOWN_RESOURCE = ("AUTH_UNKNOWN_RESOURCE", 403, "Unknown resource type", "http_request_denied")
    NOT_FOUND = ("GEN_NOT_FOUND", 404, "Route not found", "http_request_denied")
    MASTER_REQUIRED = (
        "AUTH_MASTER_KEY_REQUIRED",
        403,
        "hook management requires master key",
        "http_request_denied",
    )
    CROSS_OWNER = (
        "AUTH_CROSS_OWNER_ACCESS",
        403,
        "cannot manage API keys for another owner",
        "http_request_denied",
    )
    SCOPE_ESCALATION = (
        "AUTH_SCOPE_ESCALATION",
        403,
        "cannot grant scopes broader than caller",
        "http_request_denied",
    )
    ADDRESS_DENIED = (
        "GATEWAY_ADDRESS_DENIED",
        403,
        "This API key may not be used from this address",
        "http_request_denied",
    )
    CERTIFICATE_MISMATCH = (
        "GATEWAY_CERTIFICATE_MISMATCH",
        403,
        "This API key is bound to another client certificate",
        "http_request_denied",
    )
    UNTRUSTED_PEER = (
        "GATEWAY_UNTRUSTED_PEER",
        403,
        "Only a trusted proxy may ask for a decision",
        "http_request_denied",
    )
    UNCLEAR_REQUEST = (
        "GATEWAY_UNCLEAR_REQUEST",
        400,
        "The request to decide on is not named clearly",
        "http_request_error",
    )
    NOT_DECIDED = (
        "GATEWAY_NOT_DECIDED",
        403,
        "This request must be sent through the gateway",
        "http_request_denied",
    )
    KEY_QUOTA = ("GATEWAY_KEY_QUOTA", 403, "Too many API keys", "http_request_denied")
    KEY_UPDATE = ("GATEWAY_KEY_UPDATE", 409, "This API key cannot be changed", "http_request_denied")
    MALFORMED_BODY = (
        "GEN_MALFORMED_REQUEST",
        400,
        "Request body must be one JSON object",
        "http_request_error",
    )
    BULK_LIMIT = (
        "TXN_BULK_LIMIT_EXCEEDED",
        400,
        "too many transactions; max is 10000",
        "http_request_error",
    )
    BODY_TOO_LARGE = ("GEN_PAYLOAD_TOO_LARGE", 413, "Request body too large", "http_request_error")
    OWNER_REQUIRED = ("APIKEY_OWNER_REQUIRED", 400, "owner is required", "http_request_error")
    KEY_NOT_FOUND = ("APIKEY_NOT_FOUND", 404, "API key not found", "http_request_denied")
    RATE_LIMITED = (
        "GEN_RATE_LIMITED",
        429,
        "You have reached maximum request limit.",
        "http_request_denied",
    )
    KEY_STORE_UNAVAILABLE = (
        "GATEWAY_KEY_STORE_UNAVAILABLE",
        503,
        "Key store unavailable",
        "proxy_internal_error",
    )
    UPSTREAM_UNREACHABLE = (
        "GATEWAY_UPSTREAM_UNREACHABLE",
        502,
        "Upstream unreachable",
        "destination_unavailable",
    )
    UPSTREAM_TIMEOUT = ("GATEWAY_UPSTREAM_TIMEOUT", 504, "Upstream timed out", "http_response_timeout")
    UPSTREAM_REFUSED = (
        "GATEWAY_UPSTREAM_REFUSED",
        502,
        "Upstream refused the gateway",
        "proxy_configuration_error",
    )
    UNAVAILABLE = ("GATEWAY_UNAVAILABLE", 503, "Gateway unavailable", "proxy_internal_error")

    def __init__(self, code: str, status: int, message: str, proxy_status: str) -> None:
        self.code = code
        self.status = status
        self.message = message
        self.proxy_status = proxy_status


class GatewayError(Exception):
    """A failure of some layer, which becomes one response of the catalogue in `proxy.errors`.

    No text of it ever holds a secret.

    Args:
        message: a closer message for the client than the catalogue's; "" for none.
        reason: a text for operators; by default the message, or the summary of the class.
    """

    summary: ClassVar[str] = "Gateway unavailable"

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        self.message = message
        self.reason = reason or message or self.summary
        super().__init__(message or self.summary)

    def again(self) -> Self:
        """Return the same failure, for one more of those who wait for what failed."""
        return type(self)(self.message, reason=self.reason)


def go_json(value: object) -> bytes:
    """JSON as Core writes it: compact, and escaped for HTML as Go's encoding/json does."""
    text = msgspec.json.encode(value)
    for raw, escaped in _GO_ESCAPES:
        text = text.replace(raw, escaped)
    return text


def error_body(code: str, message: str) -> bytes:
    """Core's two-member error body for an error code such as `GEN_NOT_FOUND`."""
    return go_json({"error": message, "error_detail": {"code": code, "message": message}})
