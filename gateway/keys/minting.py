"""Make keys and their ids, check their shapes, and compute the digest under which a key is stored.

Rules kept here:
- A key is 32 random bytes in base64url, 44 characters with the padding, as Core mints them;
  its id is `api_key_` and a version 4 UUID.
- The store keeps SHA-256 of the key. A 256-bit random key cannot be guessed from its digest,
  so no salt and no slow hash is needed (bcrypt costs Core 107 ms on every request).
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable

KEY_BYTES = 32
KEY_LENGTH = 44
"""Characters of a key."""
PREFIX_LENGTH = 16
"""Characters at the beginning of a key, which Core keeps as its `key_prefix`."""
ID_PREFIX = "api_key_"

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_ID = re.compile(ID_PREFIX + r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def mint_key(random_bytes: Callable[[int], bytes]) -> str:
    """Return a new key from 32 bytes of `random_bytes`, which must be a cryptographic source."""
    return base64.urlsafe_b64encode(random_bytes(KEY_BYTES)).decode("ascii")


def mint_id(random_bytes: Callable[[int], bytes]) -> str:
    """Return a new key id, `api_key_<uuid4>`; it is public, ledger records carry it."""
    return f"{ID_PREFIX}{uuid.UUID(bytes=random_bytes(16), version=4)}"


def digest(key: str | bytes) -> str:
    """Return SHA-256 of a key in 64 hex digits, under which the store knows it."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def is_key(text: str) -> bool:
    """Return whether `text` has the shape of a key; anything else need not be looked up."""
    return _KEY.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Return whether `text` has the shape of a key id, in lower case as Core and the gateway write it."""
    return _ID.fullmatch(text) is not None
