"""What one setting may say: text, number or list in, a checked value out.

Rules kept here:
- A text of an error says what to write instead and never repeats the value: any value may be a secret.
- Durations and sizes carry their unit; addresses their host and port.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

from gateway.keys.redis.url import read_url

Raw = str | int | bool | tuple[str | int | bool, ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

T = TypeVar("T")


class BadValueError(ValueError):
    """A value that a setting cannot take; the text says what to write instead."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Text that no repr, log or format shows."""

    _text: str = ""

    def reveal(self) -> str:
        """The text itself, for the one place that sends or compares it."""
        return self._text

    def __bool__(self) -> bool:
        """False where there is none."""
        return bool(self._text)

    def __repr__(self) -> str:
        """Three stars, whatever the length."""
        return "***"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or IP address and a TCP port; port 0 asks the system for a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can connect: `localhost` and loopback addresses."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def clashes(self, other: Address) -> bool:
        """True where both cannot listen at once: the same port on the same host, or on all of IPv4 or IPv6.

        `::` is all of both.
        """
        hosts = {self.host, other.host}
        all_of_ipv4 = "0.0.0.0" in hosts and not any(":" in host for host in hosts)  # noqa: S104 - compared
        shared = len(hosts) == 1 or "::" in hosts or all_of_ipv4
        return self.port == other.port != 0 and shared

    def __str__(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_reached_at(self, host: str, port: int) -> bool:
        """True where what this machine sends to `host` and `port` arrives at this listener."""
        if port != self.port:
            return False
        sent_here = Address(host, port).is_loopback
        by_name = "localhost" in (host, self.host) and sent_here and self.is_loopback
        return host == self.host or by_name or (sent_here and self.host in ("0.0.0.0", "::"))  # noqa: S104 - compared


_EMPTY = "this is empty"


def text(raw: Raw) -> str:
    """Text that is not empty."""
    if raw == "":
        raise BadValueError(f"{_EMPTY}: write a value, or take the setting out")
    if not isinstance(raw, str):
        raise BadValueError("write text here, in quotes where YAML would read something else")
    return raw


def address(raw: Raw) -> Address:
    """`host:port`; an IPv6 host in brackets."""
    match = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
    if not match:
        raise BadValueError(_no_address(raw))
    if len(match["port"]) > len(str(_MOST_PORT)) or int(match["port"]) > _MOST_PORT:
        raise BadValueError(f"the port is too large: write one from 0 to {_MOST_PORT}")
    if match["v6"] is not None and not _is_ipv6(match["v6"]):
        raise BadValueError('this is no IPv6 address: write it as "[::1]:5001", in quotes')
    return Address(match["v6"] or match["host"], int(match["port"]))


def addresses(raw: Raw) -> tuple[Address, ...]:
    """One address, or a list of them."""
    found = tuple(map(address, raw)) if isinstance(raw, tuple) else (address(raw),)
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
    (re.compile(r"unix:.*|.*\.sock|[./@].*"), f"Unix sockets are not supported: {_FORM}"),
    (re.compile(r"[A-Za-z]+://.*"), f"this is a URL: {_FORM}"),
    (re.compile(r"\*:.*"), f"'*' is no host: {_FORM}"),
    (re.compile(r"[^\[]*:[^\[]*:.*"), 'an IPv6 address needs brackets: write "[::1]:5001", in quotes'),
    (re.compile(r".+:.*"), f"the host or the port is malformed: {_FORM}"),
)
"""What is written in place of an address -> what to say of it; the first that matches counts."""


def _no_address(raw: Raw) -> str:
    if isinstance(raw, bool | tuple):
        return _FORM
    return next((told for form, told in _NO_ADDRESS if form.fullmatch(str(raw))), _FORM)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def duration(raw: Raw) -> float:
    """Seconds, from `500ms`, `10s`, `2m` or `1h`; 0 needs no unit. At most a day."""
    if raw == 0 and not isinstance(raw, bool):
        return 0.0
    match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
    if not match:
        raise BadValueError("write a whole number and its unit, as 10s, 500ms, 2m or 1h")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > 86400:
        raise BadValueError("write at most 24h")
    return seconds


_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def deadline(raw: Raw) -> float:
    """A duration in seconds that is not zero: without a deadline a peer could hold a connection for ever."""
    seconds = duration(raw)
    if not seconds:
        raise BadValueError("write a duration above 0, as 10s")
    return seconds


def size(raw: Raw) -> int:
    """Bytes, from `512B`, `64KiB`, `5MiB` or `1GiB`; above zero, at most 64 GiB."""
    match = _SIZE.fullmatch(raw) if isinstance(raw, str) else None
    if not match:
        raise BadValueError("write a whole number and its unit, as 64KiB, 5MiB or 1GiB")
    count = int(match[1]) * _BYTES[match[2]]
    if not 0 < count <= 64 * 1024**3:
        raise BadValueError("write a size above 0 and at most 64GiB")
    return count


_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True, slots=True)
class count:  # noqa: N801 - read as a function where settings are listed
    """A whole number from `least` to `most`."""

    least: int
    most: int = 1_000_000

    def __call__(self, raw: Raw) -> int:
        """Parse one."""
        if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,9}", raw, re.ASCII):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise BadValueError(f"write a whole number from {self.least} to {self.most}")
        return raw


@dataclass(frozen=True, slots=True, init=False)
class choice:  # noqa: N801 - as count
    """One of the given words."""

    known: tuple[str, ...]

    def __init__(self, *known: str) -> None:
        object.__setattr__(self, "known", known)

    def __call__(self, raw: Raw) -> str:
        """Parse one."""
        if not isinstance(raw, str) or raw not in self.known:
            raise BadValueError(f"write {' or '.join(self.known)}")
        return raw


@dataclass(frozen=True, slots=True)
class sequence(Generic[T]):  # noqa: N801 - as count
    """A list of values, each parsed by `parse`."""

    parse: Callable[[Raw], T]

    def __call__(self, raw: Raw) -> tuple[T, ...]:
        """Parse all of them."""
        if not isinstance(raw, tuple):
            raise BadValueError("write a list, as [a, b]")
        return tuple(self.parse(item) for item in raw)


def network(raw: Raw) -> Network:
    """An IP address or a network in CIDR form, host bits zero."""
    try:
        return ipaddress.ip_network(text(raw))
    except ValueError:
        raise BadValueError("write an IP address or a network whose host bits are 0, as 10.0.0.0/8") from None


def path(raw: Raw) -> Path:
    """A path in the file system; a relative one starts at the folder of gateway.yaml."""
    return Path(text(raw))


def secret(raw: Raw) -> Secret:
    """Text that can stand in an HTTP header: visible ASCII."""
    if raw == "":
        raise BadValueError(f"{_EMPTY}: write visible ASCII characters")
    if not isinstance(raw, str) or not re.fullmatch(r"[!-~]+", raw):
        raise BadValueError("write visible ASCII characters without blanks; put a number in quotes")
    return Secret(raw)


def read_secret(file: Path) -> Secret:
    """The secret that a file holds, without the line break at its end; read again to follow a rotation.

    Raises:
        BadValueError: the file cannot be read, is larger than 64 KiB, or holds no secret.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(64 * 1024 + 1)
    except (OSError, ValueError):
        raise BadValueError("the file cannot be read: check the path and who may read it") from None
    if not data.strip():
        raise BadValueError("the file is empty: write the secret into it, on one line")
    try:
        return secret(data.decode("ascii").removesuffix("\n").removesuffix("\r"))
    except ValueError:
        raise BadValueError("the file must hold visible ASCII characters, on one line") from None


def upstream_url(raw: Raw) -> str:
    """`http://host:port` or `https://host:port` and nothing after it: targets are forwarded as they came."""
    url = _url(raw)
    if (
        url is None
        or url.scheme not in ("http", "https")
        or not url.hostname
        or url.port == 0
        or "@" in url.netloc
        or url.path not in ("", "/")
        or url.query
        or url.fragment
    ):
        raise BadValueError("write http://host:port or https://host:port, without a path or a password")
    return text(raw)


def store_url(raw: Raw) -> str:
    """`memory://`, or the URL of a Redis, of its Sentinels or of a Cluster."""
    url = text(raw)
    if url == "memory://":
        return url
    try:
        read_url(url)
    except ValueError as problem:
        raise BadValueError(f"{problem}; or memory:// for a trial") from None
    return url


def database_url(raw: Raw) -> str:
    """The URL of a PostgreSQL, as libpq reads it, with several hosts or with parameters such as sslmode."""
    if isinstance(raw, str) and _DATABASE.fullmatch(raw):
        return raw
    raise BadValueError("write postgres://user:password@host:5432/database")


_DATABASE = re.compile(r"postgres(?:ql)?://[!-.0->A-~]+@[!-.0->A-~]+/[!->@-~]+(?:\?[!-~]*)?")


def _url(raw: Raw) -> SplitResult | None:
    try:
        url = urlsplit(text(raw))
        url.port  # noqa: B018 - raises ValueError unless it is a port
    except ValueError:
        return None
    return url if re.fullmatch(r"[!-~]+", text(raw)) else None
