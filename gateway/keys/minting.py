"""Make keys and their ids, check their shapes, and compute the digest under which a key is stored.

Rules kept here:
- A key is 32 random bytes in base64url, 44 characters with the padding, as Core mints them. With a prefix
  (`keys.prefix`) it has no padding, and a checksum at its end (`policy.key_checksum`).
- The id of a key is `api_key_` and a version 4 UUID.
- The store keeps SHA-256 of the key. A 256-bit random key cannot be guessed from its digest,
  so no salt and no slow hash is needed (bcrypt costs Core 107 ms on every request).
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable
from typing import Final

from gateway.policy.key_checksum import MAX_PREFIX, WITHOUT_PREFIX, checksum

KEY_BYTES: Final = 32
MAX_KEY_LENGTH: Final = MAX_PREFIX + WITHOUT_PREFIX
"""The most characters of a key; one without a prefix has 44."""
PREFIX_LENGTH: Final = 16
"""Characters at the beginning of a key, which Core keeps as its `key_prefix`."""
ID_PREFIX: Final = "api_key_"

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")
_ID: Final = re.compile(ID_PREFIX + r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def mint_key(random_bytes: Callable[[int], bytes], prefix: str = "") -> str:
    """Return a new key from 32 bytes of `random_bytes`, which must be a cryptographic source."""
    random = base64.urlsafe_b64encode(random_bytes(KEY_BYTES)).decode("ascii")
    if not prefix:
        return random
    text = prefix + random.rstrip("=")
    return text + checksum(text)


def mint_id(random_bytes: Callable[[int], bytes]) -> str:
    """Return a new key id, `api_key_<uuid4>`; it is public, ledger records carry it."""
    return f"{ID_PREFIX}{uuid.UUID(bytes=random_bytes(16), version=4)}"


def digest(key: str | bytes) -> str:
    """Return SHA-256 of a key in 64 hex digits, under which the store knows it."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def is_key(text: str) -> bool:
    """Return whether `text` has the shape of a key as Core mints them: without a prefix."""
    return _KEY.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Return whether `text` has the shape of a key id, in lower case as Core and the gateway write it."""
    return _ID.fullmatch(text) is not None
