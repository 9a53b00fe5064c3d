"""IP addresses as text."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.ip_addresses import is_inside

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize("text", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_an_address_is_inside_its_network_in_each_of_its_forms(text: str) -> None:
    assert is_inside(text, NETWORKS)


@pytest.mark.parametrize("text", ["11.1.2.3", "::ffff:11.1.2.3", "2001:db9::1", "unix:", "unknown", ""])
def test_another_address_and_a_text_that_is_none_are_outside(text: str) -> None:
    assert not is_inside(text, NETWORKS)
