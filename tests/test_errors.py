"""The catalogue has one status, message and RFC 9209 error type for each code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError, error_body
from gateway.fairness.errors import OverloadedError
from gateway.keys.errors import StoreUnavailableError
from gateway.proxy.errors import KeyChangesError, code_of, message_of
from gateway.server.exit_codes import Exit
from gateway.stamping.errors import BadBodyError, TooManyItemsError

# The error types of RFC 9209 section 2.3 that the gateway uses.
PROXY_STATUS = {
    "destination_unavailable",
    "http_request_denied",
    "http_request_error",
    "http_response_timeout",
    "proxy_configuration_error",
    "proxy_internal_error",
}

# Clients that were written for Core depend on these, and the README promises them.
CATALOGUE = {
    ("AUTH_MISSING_API_KEY", 401, "Authentication required. Use X-Blnk-Key header"),
    ("AUTH_INVALID_API_KEY", 401, "Invalid API key"),
    ("AUTH_EXPIRED_API_KEY", 401, "API key is expired or revoked"),
    ("GEN_BAD_REQUEST", 400, "Ambiguous request target"),
    ("GEN_BAD_REQUEST", 400, "Malformed HTTP request"),
    ("GEN_BAD_REQUEST", 408, "Request timed out"),
    ("GEN_BAD_REQUEST", 431, "Request head too large"),
    ("AUTH_INSUFFICIENT_PERMISSIONS", 403, "Insufficient permissions"),
    ("AUTH_UNKNOWN_RESOURCE", 403, "Unknown resource type"),
    ("GEN_NOT_FOUND", 404, "Route not found"),
    ("AUTH_MASTER_KEY_REQUIRED", 403, "hook management requires master key"),
    ("AUTH_CROSS_OWNER_ACCESS", 403, "cannot manage API keys for another owner"),
    ("AUTH_SCOPE_ESCALATION", 403, "cannot grant scopes broader than caller"),
    ("GATEWAY_ADDRESS_DENIED", 403, "This API key may not be used from this address"),
    ("GATEWAY_CERTIFICATE_MISMATCH", 403, "This API key is bound to another client certificate"),
    ("GATEWAY_UNTRUSTED_PEER", 403, "Only a trusted proxy may ask for a decision"),
    ("GATEWAY_UNCLEAR_REQUEST", 400, "The request to decide on is not named clearly"),
    ("GATEWAY_NOT_DECIDED", 403, "This request must be sent through the gateway"),
    ("GATEWAY_KEY_QUOTA", 403, "Too many API keys"),
    ("GATEWAY_KEY_UPDATE", 409, "This API key cannot be changed"),
    ("GEN_MALFORMED_REQUEST", 400, "Request body must be one JSON object"),
    ("TXN_BULK_LIMIT_EXCEEDED", 400, "too many transactions; max is 10000"),
    ("GEN_PAYLOAD_TOO_LARGE", 413, "Request body too large"),
    ("APIKEY_OWNER_REQUIRED", 400, "owner is required"),
    ("APIKEY_NOT_FOUND", 404, "API key not found"),
    ("GEN_RATE_LIMITED", 429, "You have reached maximum request limit."),
    ("GATEWAY_KEY_STORE_UNAVAILABLE", 503, "Key store unavailable"),
    ("GATEWAY_UPSTREAM_UNREACHABLE", 502, "Upstream unreachable"),
    ("GATEWAY_UPSTREAM_TIMEOUT", 504, "Upstream timed out"),
    ("GATEWAY_UPSTREAM_REFUSED", 502, "Upstream refused the gateway"),
    ("GATEWAY_UNAVAILABLE", 503, "Gateway unavailable"),
}


def test_the_catalogue_is_what_was_promised() -> None:
    """Codes, statuses and messages, on which clients depend, do not change unnoticed."""
    assert {(code.code, code.status, code.message) for code in Code} == CATALOGUE
    assert len(Code) == len(CATALOGUE)


@pytest.mark.parametrize("code", Code)
def test_every_code_names_a_registered_error_type(code: Code) -> None:
    """`Proxy-Status` has a registered type of RFC 9209, and a refusal is not a failure of the gateway."""
    assert code.proxy_status in PROXY_STATUS
    assert (code.status >= 500) == (not code.proxy_status.startswith("http_request_"))


def test_an_error_body_is_cores_byte_for_byte() -> None:
    """The body has two members in Core's order, without blanks or a line feed."""
    assert error_body("GEN_NOT_FOUND", "Route not found") == (
        b'{"error":"Route not found","error_detail":{"code":"GEN_NOT_FOUND","message":"Route not found"}}'
    )


def test_an_error_body_quotes_what_it_is_given() -> None:
    """A message with quotes, control bytes and letters beyond ASCII stays one JSON text."""
    message = 'say "é"\n\\'
    assert json.loads(error_body("X", message)) == {
        "error": message,
        "error_detail": {"code": "X", "message": message},
    }


def failures(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Yield every class of failure."""
    yield kind
    for narrower in kind.__subclasses__():
        yield from failures(narrower)


@pytest.mark.parametrize("kind", list(failures()))
def test_every_failure_has_a_response_of_its_layer(kind: type[GatewayError]) -> None:
    """A class has its own code or that of its kind; only these have GATEWAY_UNAVAILABLE."""
    unavailable = {GatewayError, OverloadedError, KeyChangesError}
    assert (code_of(kind()) is Code.UNAVAILABLE) == (kind in unavailable)
    assert message_of(kind()) == code_of(kind()).message


def test_a_failure_may_say_it_more_closely() -> None:
    """A message of the failure replaces the catalogue's."""
    failure = BadBodyError("meta_data must be a JSON object")
    assert (code_of(failure), message_of(failure), str(failure)) == (
        Code.MALFORMED_BODY,
        "meta_data must be a JSON object",
        "meta_data must be a JSON object",
    )


def test_a_failure_tells_operators_more_than_clients() -> None:
    """The reason is kept when a failure is raised again; by default it is the summary of its class."""
    failure = StoreUnavailableError(reason="Redis cannot be reached").again()
    assert (type(failure), message_of(failure), failure.reason) == (
        StoreUnavailableError,
        "Key store unavailable",
        "Redis cannot be reached",
    )
    assert TooManyItemsError().reason == TooManyItemsError.summary


def test_exit_codes_are_one_table() -> None:
    """Scripts rely on these numbers."""
    assert {exit_code.name: int(exit_code) for exit_code in Exit} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "DEPENDENCY": 3,
    }
