"""Reads the header by which a proxy names the client of a connection (haproxy's PROXY protocol, 1 and 2).

Rules kept here:
- Nothing is guessed: what begins with neither signature is refused with its first byte.
- Only the lengths that the header states are trusted, and at most `MOST_BYTES` in all.
- A client that the proxy does not name is no proxy: it gets UNKNOWN_PEER, and not the proxy's own address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from gateway.ip_addresses import unmapped

UNKNOWN_PEER: Final = "unknown"
"""The address of a client that its proxy does not name (RFC 7239 section 6.2)."""
MOST_BYTES: Final = 4096
"""Bytes of a header, with the extensions (TLV) of version 2, which are skipped."""

_TEXT: Final = b"PROXY "
_MOST_TEXT: Final = 107
"""Bytes of a header of version 1, with its line break."""
_BINARY: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_BINARY_HEAD: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES: Final = {0x11: 4, 0x21: 16}
"""The bytes of an address, by the family and transport that are TCP over IPv4 and IPv6."""
_UNNAMED: Final = (0x00, 0x12, 0x22, 0x31, 0x32)
"""Unspecified, UDP and Unix sockets: valid, and no address of a TCP client."""
_NAMED: Final = re.compile(
    rb"TCP(?P<version>[46]) (?P<source>[0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)


class BadProxyHeaderError(Exception):
    """What a connection began with is no header of the PROXY protocol; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header of `length` bytes. `client` is "" if the proxy itself is the client, as for its own checks."""

    client: str
    length: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Return the header that `data` begins with, None while it is not whole. Raises BadProxyHeaderError."""
    if data[: len(_TEXT)] == _TEXT[: len(data)]:
        return _read_text(data)
    if data[: len(_BINARY)] == _BINARY[: len(data)]:
        return _read_binary(data)
    raise BadProxyHeaderError("it does not begin with a PROXY header")


def _read_text(data: bytes) -> ProxyHeader | None:
    line, found, _ = data[:_MOST_TEXT].partition(b"\r\n")
    if not found:
        if len(data) >= _MOST_TEXT:
            raise BadProxyHeaderError("the line of its PROXY header is too long")
        return None
    words, length = line[len(_TEXT) :], len(line) + 2
    if words == b"UNKNOWN" or words.startswith(b"UNKNOWN "):
        return ProxyHeader(UNKNOWN_PEER, length)
    named = _NAMED.fullmatch(words)
    if named is None or any(int(port) > 0xFFFF for port in named.groups()[2:]):
        raise BadProxyHeaderError("the line of its PROXY header is malformed")
    try:
        source = ip_address(named["source"].decode("ascii"))
    except ValueError:
        raise BadProxyHeaderError("its PROXY header names no IP address") from None
    if source.version != int(named["version"]):
        raise BadProxyHeaderError("its PROXY header names an address of another family")
    return ProxyHeader(str(unmapped(source)), length)


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _BINARY_HEAD:
        return None
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    length = _BINARY_HEAD + size
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeaderError("the version or command of its PROXY header is unknown")
    if length > MOST_BYTES:
        raise BadProxyHeaderError("its PROXY header is too large")
    address = _ADDRESSES.get(family, 0)
    if command == _PROXY and not address and family not in _UNNAMED:
        raise BadProxyHeaderError("the address family of its PROXY header is unknown")
    if command == _PROXY and address and size < 2 * address + 4:
        raise BadProxyHeaderError("its PROXY header is too short for its addresses")
    if len(data) < length:
        return None
    if command == _LOCAL:
        return ProxyHeader("", length)
    if not address:
        return ProxyHeader(UNKNOWN_PEER, length)
    source = data[_BINARY_HEAD : _BINARY_HEAD + address]
    return ProxyHeader(str(unmapped(ip_address(source))), length)
