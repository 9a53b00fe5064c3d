"""Parses and reads secrets, and keeps them out of logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gateway.config.values import EMPTY, BadValueError, Raw


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Text that no repr, log or format shows."""

    _text: str = ""

    def reveal(self) -> str:
        """Return the text itself, for the code that sends or compares it."""
        return self._text

    def __bool__(self) -> bool:
        """Return False if the text is empty."""
        return bool(self._text)

    def __repr__(self) -> str:
        """Return three stars, whatever the length."""
        return "***"

    __str__ = __repr__


def secret(raw: Raw) -> Secret:
    """Return text that an HTTP header can hold: visible ASCII."""
    if raw == "":
        raise BadValueError(f"{EMPTY}: write visible ASCII characters")
    if not isinstance(raw, str) or not re.fullmatch(r"[!-~]+", raw):
        raise BadValueError("write visible ASCII characters without blanks; put a number in quotes")
    return Secret(raw)


def read_secret(file: Path) -> Secret:
    """Return the secret in a file, without the line break at its end. To follow a rotation, read it again.

    Raises:
        BadValueError: the file cannot be read, is larger than 64 KiB, or holds no secret.
    """
    data = _content(file)
    if not data.strip():
        raise BadValueError("the file is empty: write the secret into it, on one line")
    return _secret_of(data)


def read_optional_secret(file: Path) -> Secret | None:
    """Return the secret in a file, None if the file is absent or empty; raises as `read_secret`."""
    try:
        data = _content(file)
    except BadValueError:
        if not file.exists():
            return None
        raise
    return _secret_of(data) if data.strip() else None


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(64 * 1024 + 1)
    except (OSError, ValueError):
        raise BadValueError("the file cannot be read: check the path and who may read it") from None


def _secret_of(data: bytes) -> Secret:
    try:
        return secret(data.decode("ascii").removesuffix("\n").removesuffix("\r"))
    except ValueError:
        raise BadValueError("the file must hold visible ASCII characters, on one line") from None
