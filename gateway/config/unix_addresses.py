"""Parses the addresses of Unix sockets, as `unix:/run/gateway.sock`, and the mode of their files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from gateway.config.values import BadValueError, Raw

PREFIX: Final = "unix:"
MOST_BYTES: Final = 107
"""Bytes of a path: Linux has room for 108, with the zero byte at its end (unix(7))."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix socket."""

    path: str

    def clashes(self, other: object) -> bool:
        """Return True if both cannot listen at once: the same path."""
        return self == other

    def is_reached_at(self, host: str, port: int) -> bool:
        """Return False: a connection to a host and a port does not come here."""
        return False

    def __str__(self) -> str:
        """Return the address as the file has it."""
        return f"{PREFIX}{self.path}"


def unix_address(raw: str) -> UnixAddress:
    """Return the address of text that begins with `unix:`."""
    path = raw.removeprefix(PREFIX)
    if not path.startswith("/"):
        raise BadValueError("write the whole path of the Unix socket, as unix:/run/blnk-gateway/gateway.sock")
    if not path.isprintable() or path.endswith("/"):
        raise BadValueError("write the path of a file for the Unix socket, without control characters")
    if len(os.fsencode(path)) > MOST_BYTES:
        raise BadValueError(f"the path of a Unix socket has at most {MOST_BYTES} bytes: write a shorter one")
    return UnixAddress(os.path.normpath(path))


def mode(raw: Raw) -> str:
    """Return the mode of a file as chmod(1) takes it, without suid, sgid and sticky bits: `0660`."""
    if not isinstance(raw, str) or not _MODE.fullmatch(raw):
        raise BadValueError('write the mode of a file in quotes, as "0660"; who connects has to write to it')
    return raw.rjust(4, "0")


_MODE: Final = re.compile(r"0?[0-7]{3}", re.ASCII)
