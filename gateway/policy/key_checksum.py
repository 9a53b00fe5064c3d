"""The form of a key with a prefix: the prefix, 43 random characters, and a checksum for secret scanners.

Rules kept here:
- The checksum is CRC-32 of everything before it, in six digits of base62, as in GitHub's tokens. Anyone can
  compute it: it tells whether a text is whole, and nothing about which keys there are.
- The random part is 32 bytes in base64url without the padding, as in Core's keys.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

MAX_PREFIX: Final = 20
"""Characters of a prefix."""
CHECKSUM_LENGTH: Final = 6
WITHOUT_PREFIX: Final = 43 + CHECKSUM_LENGTH
"""Characters of a key with a prefix, after the prefix."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX: Final = re.compile(r"[a-z][a-z0-9_]*_")
_FORM: Final = re.compile(r"[a-z][a-z0-9_]*_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}")
_WORDS: Final = re.compile(rf"[A-Za-z0-9_-]{{{WITHOUT_PREFIX + 2},{WITHOUT_PREFIX + MAX_PREFIX}}}")


def is_prefix(text: str) -> bool:
    """Return whether keys may begin with this text."""
    return len(text) <= MAX_PREFIX and _PREFIX.fullmatch(text) is not None


def checksum(text: str) -> str:
    """Return the checksum of a text in ASCII."""
    number = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def has_checksum(key: str) -> bool:
    """Return whether a text has the form of a key with a prefix, and its checksum is right."""
    return _FORM.fullmatch(key) is not None and checksum(key[:-CHECKSUM_LENGTH]) == key[-CHECKSUM_LENGTH:]


def is_damaged(key: str, prefix: str) -> bool:
    """Return whether a text begins with this prefix, but is no whole key with a prefix.

    A whole one may have a longer prefix, which was configured before. A key of Core, which ends with its
    padding, may begin with the same characters.
    """
    return key.startswith(prefix) and not key.endswith("=") and not has_checksum(key)


def holds_prefixed_key(text: str) -> bool:
    """Return whether a text holds a key with any prefix, between characters that no key has."""
    return any(has_checksum(word) for word in _WORDS.findall(text))
