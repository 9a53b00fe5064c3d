"""The texts of terms: rates, networks, fingerprints of certificates."""

from __future__ import annotations

import pytest

from gateway.policy.terms import Rate, read_certificate, read_network, read_rate


@pytest.mark.parametrize(
    ("text", "rate"), [("100/s", Rate(100)), ("600/m", Rate(600, 60)), ("1000000/h", Rate(1_000_000, 3600))]
)
def test_a_rate_is_read_and_written(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate
    assert str(rate) == text


@pytest.mark.parametrize("text", ["", "100", "0/s", "1.5/s", "-1/s", "1000001/s", "1/d", "\u0661/s", "1/s "])
def test_any_other_text_of_a_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write requests and a unit of time"):
        read_rate(text)


def test_a_fingerprint_is_read_as_openssl_and_browsers_write_it() -> None:
    assert read_certificate(":".join(["0A"] * 32)) == "0a" * 32
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        read_certificate("0a" * 31)


def test_a_network_with_host_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="host bits are 0"):
        read_network("10.0.0.1/8")
