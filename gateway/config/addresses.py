"""Parses the addresses of listeners: a host name or an IP address, and a TCP port; or a Unix socket."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from gateway.config.unix_addresses import PREFIX, UnixAddress, unix_address
from gateway.config.values import BadValueError, Raw


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or IP address and a TCP port; port 0 asks the system for a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Return True if only this machine can connect: `localhost` and loopback addresses."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def from_this_machine(self) -> Address:
        """Return where this machine connects to the listener: all interfaces include the loopback one."""
        return replace(self, host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104 - compared

    def clashes(self, other: ListenAddress) -> bool:
        """Return True if both cannot listen at once: the same port on the same host or on all interfaces.

        `0.0.0.0` is all interfaces of IPv4, `::` all interfaces of both IPv4 and IPv6.
        """
        if isinstance(other, UnixAddress):
            return False
        hosts = {self.host, other.host}
        all_of_ipv4 = "0.0.0.0" in hosts and not any(":" in host for host in hosts)  # noqa: S104 - compared
        shared = len(hosts) == 1 or "::" in hosts or all_of_ipv4
        return self.port == other.port != 0 and shared

    def __str__(self) -> str:
        """Return `host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_reached_at(self, host: str, port: int) -> bool:
        """Return True if a connection from this machine to `host` and `port` reaches this listener."""
        if port != self.port:
            return False
        sent_here = Address(host, port).is_loopback
        by_name = "localhost" in (host, self.host) and sent_here and self.is_loopback
        return host == self.host or by_name or (sent_here and self.host in ("0.0.0.0", "::"))  # noqa: S104 - compared


ListenAddress = Address | UnixAddress
"""The place where a listener for clients listens."""


def address(raw: Raw) -> Address:
    """Return the address of `host:port`; an IPv6 host is in brackets."""
    match = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
    if not match:
        raise BadValueError(_no_address(raw))
    if len(match["port"]) > len(str(_MOST_PORT)) or int(match["port"]) > _MOST_PORT:
        raise BadValueError(f"the port is too large: write one from 0 to {_MOST_PORT}")
    if match["v6"] is not None and not _is_ipv6(match["v6"]):
        raise BadValueError('this is not an IPv6 address: write it as "[::1]:5001", in quotes')
    return Address(match["v6"] or match["host"], int(match["port"]))


def listen_address(raw: Raw) -> ListenAddress:
    """Return the address of `host:port`, or of `unix:/path`."""
    return unix_address(raw) if isinstance(raw, str) and raw.startswith(PREFIX) else address(raw)


def addresses(raw: Raw) -> tuple[ListenAddress, ...]:
    """Return the addresses of a list, or the one address."""
    found = tuple(map(listen_address, raw)) if isinstance(raw, tuple) else (listen_address(raw),)
    if not found:
        raise BadValueError("write host:port, as 127.0.0.1:5001, or a list of them")
    return found


_MOST_PORT = 65535
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"(?:\[(?P<v6>[0-9A-Fa-f:.]{{2,45}})\]|(?P<host>{_HOST})):(?P<port>[0-9]{{1,9}})", re.ASCII
)
_FORM = 'write host:port, as 127.0.0.1:5001, or "[::1]:5001" in quotes; 0.0.0.0 is every interface'
_NO_ADDRESS = (
    (re.compile(r":?[0-9]{1,9}", re.ASCII), f"the host is missing: {_FORM}"),
    (re.compile(rf"(?:\[[0-9A-Fa-f:.]*\]|{_HOST}):?", re.ASCII), f"the port is missing: {_FORM}"),
    (
        re.compile(r"unix:.*|.*\.sock|[./@].*"),
        f"only listen takes Unix sockets, as unix:/run/x.sock: {_FORM}",
    ),
    (re.compile(r"[A-Za-z]+://.*"), f"this is a URL: {_FORM}"),
    (re.compile(r"\*:.*"), f"'*' is not a host: {_FORM}"),
    (re.compile(r"[^\[]*:[^\[]*:.*"), 'an IPv6 address needs brackets: write "[::1]:5001", in quotes'),
    (re.compile(r".+:.*"), f"the host or the port is malformed: {_FORM}"),
)
"""Forms of text that are no address, each with its problem; the first that matches counts."""


def _no_address(raw: Raw) -> str:
    if isinstance(raw, bool | tuple):
        return _FORM
    return next((problem for form, problem in _NO_ADDRESS if form.fullmatch(str(raw))), _FORM)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
