"""The reasons why Core is not reached that no listener of a test can cause."""

from __future__ import annotations

import errno
import ssl

import pytest

from gateway.wire.connect_errors import connecting_failed, handshake_failed


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (unverified(9, "x"), "the certificate of core.test is not valid yet"),
        (unverified(10, "x"), "the certificate of core.test has expired"),
        (
            unverified(20, "unable to get local issuer certificate"),
            "the certificate of core.test is not trusted (unable to get local issuer certificate): name a "
            "PEM file with the certificate of its authority in upstream.ca_file",
        ),
        (
            alert("RECORD_LAYER_FAILURE"),
            "what responds at upstream.url does not speak TLS: write http:// there",
        ),
        (
            alert("TLSV1_ALERT_PROTOCOL_VERSION"),
            "TLS handshake with core.test failed: tlsv1 alert protocol version",
        ),
        (
            ConnectionResetError(errno.ECONNRESET, "x"),
            "core.test closed the connection during the TLS handshake; "
            "if it speaks no TLS, write http:// in upstream.url",
        ),
    ],
    ids=["too early", "expired", "unknown authority", "plain", "alert", "reset"],
)
def test_why_a_handshake_failed_is_reported(error: OSError, reason: str) -> None:
    assert handshake_failed("core.test", error) == reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host"),
        (OSError(errno.ENETUNREACH, "x"), "network unreachable"),
        (OSError(errno.ECONNRESET, "x"), "connection reset"),
        (OSError(errno.ETIMEDOUT, "x"), "timed out"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (OSError("quoted"), "OSError"),
    ],
)
def test_why_an_address_was_not_connected_to_is_reported(error: OSError, words: str) -> None:
    assert connecting_failed({"[::1]:5100": error}, 2.0) == f"{words} ([::1]:5100)"
