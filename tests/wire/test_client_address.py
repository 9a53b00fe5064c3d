"""The client's address, as trusted proxies give it."""

from __future__ import annotations

import pytest

from gateway.wire.client_address import client_of

TRUSTED = {"10.0.0.1", "10.0.0.2", "fd00::1"}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%\udcff"], "10.0.0.1"),
        ("10.0.0.1", ["[fe80::1%eth0]:4711"], "10.0.0.1"),
    ],
)
def test_it_is_the_rightmost_that_no_trusted_proxy_has(peer: str, forwarded: list[str], client: str) -> None:
    """The client is the rightmost address that is no trusted proxy's; those to its left may be invented."""
    assert client_of(peer, forwarded, TRUSTED.__contains__) == client
