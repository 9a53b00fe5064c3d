"""The terms of a key: bounds on its use that its scopes do not express.

Rules kept here:
- A key without terms has `NO_TERMS` itself, so that one comparison of identity tells that nothing is bounded.
- Terms are checked when they are read: a bound that cannot be understood is never taken for none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST: Final = 1_000_000
"""The largest number of requests in a rate, a burst or a concurrency."""
MOST_NETWORKS: Final = 32
"""The most networks of one key: each request with the key may be compared with all of them."""

_RATE: Final = re.compile(r"([0-9]{1,7})/(s|m|h)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_UNITS: Final = {seconds: unit for unit, seconds in _SECONDS.items()}
_CERTIFICATE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many requests in so many seconds: 1, 60 or 3600."""

    requests: int
    seconds: int = 1

    @property
    def per_second(self) -> float:
        """Return the requests in one second."""
        return self.requests / self.seconds

    def __str__(self) -> str:
        """Return the text that `read_rate` reads, as `100/s`."""
        return f"{self.requests}/{_UNITS[self.seconds]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """The terms of one key; what is empty, 0 or None bounds nothing.

    `burst` is the most requests at once within `rate`; 0 stands for one second's worth, at least 1.
    `concurrency` is the most requests that are in progress at once. `allow_from` names the networks that the
    client's address must be in. `certificate` is the SHA-256, in hexadecimal, of the client certificate (DER)
    that the key is bound to. `shared_with` is the id of the key that all keys descend from with which
    this one shares its rate and concurrency, as long as theirs are the same.
    """

    rate: Rate | None = None
    burst: int = 0
    concurrency: int = 0
    allow_from: tuple[Network, ...] = ()
    certificate: str = ""
    shared_with: str = ""

    def of_child(self, key_id: str) -> KeyTerms:
        """Return the terms of a key that the key with this id and these terms creates.

        All keys that descend from one key with the same terms share one rate and one concurrency. Otherwise a
        key could have as many times its rate as it creates keys. The default rate is each key's own.
        """
        if self.rate is None and not self.concurrency:
            return self
        return replace(self, shared_with=self.shared_with or key_id)

    def counted_as(self, key_id: str) -> str:
        """Return the name that the requests of the key with this id and these terms are counted under.

        The limits are in the name of shared ones: keys that descend from one key, created before and after
        its rate was changed, share two rates, and neither takes the place of the other.
        """
        if not self.shared_with:
            return key_id
        return f"{self.shared_with}:{self.rate}:{self.burst}:{self.concurrency}"


NO_TERMS: Final = KeyTerms()


def read_rate(text: str) -> Rate:
    """Return the rate of `100/s`, `600/m` or `10000/h`. Raises ValueError, whose text says what to write."""
    match = _RATE.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= MOST:
        raise ValueError(f"write requests and a unit of time, as 100/s, 600/m or 10000/h; at most {MOST}")
    return Rate(int(match[1]), _SECONDS[match[2]])


def read_network(text: str) -> Network:
    """Return the network of an IP address or of CIDR. Raises ValueError, whose text says what to write."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("write an IP address or a network whose host bits are 0, as 10.0.0.0/8") from None


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks, each once. Raises ValueError, whose text says what to write."""
    networks = tuple(dict.fromkeys([read_network(text.strip()) for text in texts]))
    if not 0 < len(networks) <= MOST_NETWORKS:
        raise ValueError(f"write from 1 to {MOST_NETWORKS} networks")
    return networks


def read_certificate(text: str) -> str:
    """Return a SHA-256 in hexadecimal, from upper or lower case, with or without colons.

    Raises ValueError, whose text says what to write.
    """
    plain = text.replace(":", "").lower()
    if _CERTIFICATE.fullmatch(plain) is None:
        raise ValueError("write the certificate's SHA-256 fingerprint, 64 hexadecimal digits")
    return plain


def checked_count(number: int) -> int:
    """Return a burst or a concurrency. Raises ValueError, whose text says what to write."""
    if not 0 <= number <= MOST:
        raise ValueError(f"write a whole number from 0 to {MOST}")
    return number
