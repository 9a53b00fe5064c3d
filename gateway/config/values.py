"""Parses the value of one setting: text, a number or a list in, a checked value out.

Rules kept here:
- An error says what to write instead and never repeats the value: any value may be a secret.
- Durations and sizes carry their unit.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gateway.policy.key_checksum import MAX_PREFIX, is_prefix

Raw = str | int | float | bool | tuple[str | int | float | bool, ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

T = TypeVar("T")


class BadValueError(ValueError):
    """A value that a setting cannot take; the text says what to write instead."""


EMPTY = "this is empty"


def text(raw: Raw) -> str:
    """Return text that is not empty."""
    if raw == "":
        raise BadValueError(f"{EMPTY}: write a value, or remove the setting")
    if not isinstance(raw, str):
        raise BadValueError("write text here, in quotes where YAML would read something else")
    return raw


def duration(raw: Raw) -> float:
    """Return seconds, from `500ms`, `10s`, `2m` or `1h`; 0 needs no unit. At most a day."""
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
    """Return seconds above zero: without a deadline a peer could hold a connection for ever."""
    seconds = duration(raw)
    if not seconds:
        raise BadValueError("write a duration above 0, as 10s")
    return seconds


def size(raw: Raw) -> int:
    """Return bytes, from `512B`, `64KiB`, `5MiB` or `1GiB`; above zero, at most 64 GiB."""
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
    """Parses a whole number from `least` to `most`."""

    least: int
    most: int = 1_000_000

    def __call__(self, raw: Raw) -> int:
        """Return the parsed value."""
        if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,9}", raw, re.ASCII):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise BadValueError(f"write a whole number from {self.least} to {self.most}")
        return raw


@dataclass(frozen=True, slots=True, init=False)
class choice:  # noqa: N801 - as count
    """Parses one of the given words."""

    known: tuple[str, ...]

    def __init__(self, *known: str) -> None:
        object.__setattr__(self, "known", known)

    def __call__(self, raw: Raw) -> str:
        """Return the parsed value."""
        if not isinstance(raw, str) or raw not in self.known:
            raise BadValueError(f"write {' or '.join(self.known)}")
        return raw


@dataclass(frozen=True, slots=True)
class sequence(Generic[T]):  # noqa: N801 - as count
    """Parses a list of values, each with `parse`."""

    parse: Callable[[Raw], T]

    def __call__(self, raw: Raw) -> tuple[T, ...]:
        """Return the parsed values."""
        if not isinstance(raw, tuple):
            raise BadValueError("write a list, as [a, b]")
        return tuple(self.parse(item) for item in raw)


def flag(raw: Raw) -> bool:
    """Return True or False, from YAML's own or from the words of a variable."""
    if raw in ("true", "false"):
        return raw == "true"
    if not isinstance(raw, bool):
        raise BadValueError("write true or false")
    return raw


def ratio(raw: Raw) -> float:
    """Return a number from 0 to 1, as `0.01`."""
    if isinstance(raw, str) and re.fullmatch(r"[01](\.[0-9]{1,9})?", raw, re.ASCII):
        raw = float(raw)
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw <= 1:
        raise BadValueError("write a number from 0 to 1, as 0.01")
    return float(raw)


def network(raw: Raw) -> Network:
    """Return a network, from an IP address or CIDR form with host bits zero."""
    try:
        return ipaddress.ip_network(text(raw))
    except ValueError:
        raise BadValueError("write an IP address or a network whose host bits are 0, as 10.0.0.0/8") from None


def key_prefix(raw: Raw) -> str:
    """Return a prefix of keys, as `blnk_live_`; ids of keys begin otherwise."""
    prefix = raw if isinstance(raw, str) else ""
    if not is_prefix(prefix) or prefix.startswith("api_key_"):
        raise BadValueError(
            "write a lower-case letter, then lower-case letters, digits and _, with _ at the end, as "
            f"blnk_live_; at most {MAX_PREFIX} characters, and not api_key_, with which ids begin"
        )
    return prefix


def path(raw: Raw) -> Path:
    """Return a path in the file system; a relative path starts at the folder of gateway.yaml."""
    return Path(text(raw))
