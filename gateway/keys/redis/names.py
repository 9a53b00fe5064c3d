"""The names that the gateway uses in Redis, all under one prefix, and what stands under each.

Rules kept here:
- The braces put every name into one slot of a Cluster, so that records, indexes and the stream can be
  written in one transaction.
- `key:DIGEST` holds a record as JSON and is authoritative.
- Indexes: `id:KEY_ID` (a digest), `owner:OWNER` (digests by creation), `ends:OWNER` (digests by when the key
  ends, 0 once it is revoked; may be deleted at any time, for it is made anew), `offspring:KEY_ID` (the ids of
  what a key created, and of what it was rotated into), `prefix:PREFIX` (the ids of records that were pending
  at first).
- `changes` is the stream of changes; `last-used` holds key ids by the time of their last use, `retiring`
  those that Core is still to revoke by when; `lease:NAME` is there while one replica has it.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "{blnk-gateway}:"
CHANGES: Final = f"{PREFIX}changes"
LAST_USED: Final = f"{PREFIX}last-used"
RETIRING: Final = f"{PREFIX}retiring"
EVERY_KEY: Final = f"{PREFIX}key:*"

_KEY: Final = f"{PREFIX}key:"


def key_name(digest: str) -> str:
    """Where the record of a digest is."""
    return _KEY + digest


def digest_in(name: bytes) -> str:
    """The digest in the name of a record."""
    return name.decode().removeprefix(_KEY)


def id_name(key_id: str) -> bytes:
    """Where the digest of a key id is."""
    return f"{PREFIX}id:{key_id}".encode("utf-8", "surrogateescape")


def owner_name(owner: str) -> bytes:
    """Where the digests of an owner are.

    An owner from a query may hold bytes that are no UTF-8; nobody owns keys under such a name.
    """
    return f"{PREFIX}owner:{owner}".encode("utf-8", "surrogateescape")


def ends_name(owner: str) -> bytes:
    """Where it is known when each key of an owner ends."""
    return f"{PREFIX}ends:{owner}".encode("utf-8", "surrogateescape")


def offspring_name(key_id: str) -> str:
    """Where the ids of the keys that a key created are, and of what it was rotated into."""
    return f"{PREFIX}offspring:{key_id}"


def prefix_name(prefix: str) -> bytes:
    """Where the ids of records by their keys' prefix are; a client's key may begin with anything."""
    return f"{PREFIX}prefix:{prefix}".encode("utf-8", "surrogateescape")


def lease_name(name: str) -> str:
    """What stands while one replica has the lease of this name."""
    return f"{PREFIX}lease:{name}"
