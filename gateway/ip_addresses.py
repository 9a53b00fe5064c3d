"""IP addresses as text: what they are, and in which networks. Pure.

Rules kept here:
- An address of IPv4 in a form of IPv6 (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) is that address of IPv4: a
  socket for both shows its peers so, and proxies write it.
- A text that is no address is in no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IpAddress = IPv4Address | IPv6Address


def unmapped(address: IpAddress) -> IpAddress:
    """Return the address of IPv4 if this is one in a form of IPv6, else the address itself."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def read_address(text: str) -> IpAddress | None:
    """Return the address, None if the text is none."""
    try:
        return unmapped(ip_address(text))
    except ValueError:
        return None


def is_inside(text: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Return whether the text is an address in one of the networks."""
    address = read_address(text)
    return address is not None and any(address in network for network in networks)
