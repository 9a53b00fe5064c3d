"""The texts of terms: rates, networks, fingerprints of certificates."""

from __future__ import annotations

import pytest

from gateway.policy.terms import NO_TERMS, KeyTerms, Rate, read_certificate, read_network, read_rate


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


def test_a_child_shares_only_what_is_counted() -> None:
    bound = KeyTerms(certificate="ab" * 32)
    assert bound.of_child("api_key_1") is bound
    assert NO_TERMS.of_child("api_key_1") is NO_TERMS
    counted = KeyTerms(concurrency=5)
    assert counted.of_child("api_key_1") == KeyTerms(concurrency=5, shared_with="api_key_1")


def test_descendants_with_one_limit_are_counted_as_one_and_apart_from_their_creator() -> None:
    terms = KeyTerms(rate=Rate(10), concurrency=5)
    child = terms.of_child("api_key_1")
    assert terms.counted_as("api_key_1") == "api_key_1"
    assert child.counted_as("api_key_2") == child.of_child("api_key_2").counted_as("api_key_3")
    assert child.counted_as("api_key_2") == "api_key_1:10/s:0:5"
    later = KeyTerms(rate=Rate(20)).of_child("api_key_1")
    assert later.counted_as("api_key_4") == "api_key_1:20/s:0:0"


def test_a_network_with_host_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="host bits are 0"):
        read_network("10.0.0.1/8")
