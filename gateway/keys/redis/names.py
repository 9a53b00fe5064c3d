"""The names that the gateway uses in Redis, all under one prefix, and the value under each.

Rules kept here:
- The braces put every name into one slot of a Cluster, so that one script can write records, indexes and the
  stream.
- `key:DIGEST` holds a record as JSON and is authoritative.
- Indexes: `id:KEY_ID` (a digest), `owner:OWNER` (digests by creation), `ends:OWNER` (digests by when the key
  ends, 0 once it is revoked; it may be deleted at any time and is made anew then), `offspring:KEY_ID` (the
  ids of the keys that a key created, and of those that it was rotated into), `prefix:PREFIX` (the ids of
  records that were pending at first).
- `changes` is the stream of changes. `last-used` holds key ids by the time of their last use, `retiring`
  the ids of keys that Core is still to revoke by when they end. `lease:NAME` is there while a replica has it.
- `audit` is the audit stream. `audit-counts` holds how many entries were ever written (`written`), and up to
  which of them each shipper has printed (`shipped:NAME`); `audit-position:NAME` the id of that one.
- `limit:KEY_ID` is the bucket of a key's limit, which expires. `limit-replicas` holds the replicas that lease
  from these buckets, by when they did so last.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.keys.record import PENDING

PREFIX: Final = "{blnk-gateway}:"
CHANGES: Final = f"{PREFIX}changes".encode()
LAST_USED: Final = f"{PREFIX}last-used".encode()
RETIRING: Final = f"{PREFIX}retiring".encode()
AUDIT: Final = f"{PREFIX}audit".encode()
AUDIT_COUNTS: Final = f"{PREFIX}audit-counts".encode()
LIMIT_REPLICAS: Final = f"{PREFIX}limit-replicas".encode()
EVERY_KEY: Final = f"{PREFIX}key:*"
EVERY_ENDS: Final = f"{PREFIX}ends:*"

_KEY: Final = f"{PREFIX}key:"
_DIGEST: Final = re.compile(rf"[0-9a-f]{{64}}|{PENDING}.+")


def read_text(word: bytes) -> str:
    """Return an id or a digest that Redis holds; bytes that are no UTF-8 lead back to the same name."""
    return word.decode("utf-8", "surrogateescape")


def is_digest(text: str) -> bool:
    """Return whether a text can be a digest, under which a record stands."""
    return _DIGEST.fullmatch(text) is not None


def shown(name: bytes) -> str:
    """Return a name as operators see it; bytes that are no UTF-8 are written as `\\xNN`."""
    return name.decode("utf-8", "backslashreplace")


def key_name(digest: str) -> bytes:
    """Return the name of the record of a digest."""
    return _name("key", digest)


def digest_in(name: bytes) -> str:
    """Return the digest in the name of a record."""
    return read_text(name).removeprefix(_KEY)


def id_name(key_id: str) -> bytes:
    """Return the name of the digest of a key id."""
    return _name("id", key_id)


def owner_name(owner: str) -> bytes:
    """Return the name of the digests of an owner.

    An owner from a query may hold bytes that are no UTF-8; nobody owns keys under such a name.
    """
    return _name("owner", owner)


def ends_name(owner: str) -> bytes:
    """Return the name of the times when the keys of an owner end."""
    return _name("ends", owner)


def children_name(key_id: str) -> bytes:
    """Return the name of the ids of the keys that a key created, and of those that it was rotated into."""
    return _name("offspring", key_id)


def prefix_name(prefix: str) -> bytes:
    """Return the name of the ids of pending records by the prefix of their keys, which may be any text."""
    return _name("prefix", prefix)


def lease_name(name: str) -> bytes:
    """Return the name that is there while a replica has this lease."""
    return _name("lease", name)


def audit_position_name(shipper: str) -> bytes:
    """Return the name of the id of the entry that a shipper has printed last."""
    return _name("audit-position", shipper)


def limit_name(key_id: str) -> bytes:
    """Return the name of the bucket of a key's limit; of the master key, `key_id` is `master`."""
    return _name("limit", key_id)


def _name(kind: str, text: str) -> bytes:
    return f"{PREFIX}{kind}:{text}".encode("utf-8", "surrogateescape")
