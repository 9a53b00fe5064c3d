"""A key with networks or a certificate in its terms is refused from every other origin."""

from __future__ import annotations

import pytest

from gateway.errors import Code
from gateway.policy.origins import Origin, check_origin
from gateway.policy.terms import NO_TERMS, KeyTerms, read_network
from gateway.policy.values import Deny

NETWORKS = KeyTerms(allow_from=(read_network("10.0.0.0/8"), read_network("2001:db8::/32")))
BOUND = KeyTerms(certificate="ab" * 32)
ADDRESS_DENIED = Deny(Code.ADDRESS_DENIED, "This API key may not be used from this address")
MISMATCH = Deny(Code.CERTIFICATE_MISMATCH, "This API key is bound to another client certificate")


@pytest.mark.parametrize("address", ["10.0.0.1", "10.255.255.255", "::ffff:10.0.0.1", "2001:db8::1"])
def test_an_address_in_one_of_the_networks_passes(address: str) -> None:
    assert check_origin(NETWORKS, Origin(address)) is None


@pytest.mark.parametrize("address", ["11.0.0.1", "::1", "2001:db9::1", "", "unknown", "10.0.0.1:80"])
def test_any_other_address_is_refused(address: str) -> None:
    assert check_origin(NETWORKS, Origin(address)) == ADDRESS_DENIED


def test_only_the_certificate_of_the_key_passes() -> None:
    assert check_origin(BOUND, Origin("192.0.2.1", "ab" * 32)) is None
    assert check_origin(BOUND, Origin("192.0.2.1", "cd" * 32)) == MISMATCH
    assert check_origin(BOUND, Origin("192.0.2.1")) == MISMATCH


def test_a_key_without_terms_passes_from_everywhere() -> None:
    assert check_origin(NO_TERMS, Origin("")) is None
