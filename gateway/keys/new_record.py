"""Make the record of a new key, in one place for every way to create one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.gocompat.times import Instant
from gateway.keys.minting import digest, mint_id, mint_key
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord
from gateway.policy.terms import NO_TERMS, KeyTerms


@dataclass(frozen=True, slots=True)
class Creation:
    """The properties that somebody wants a new key to have."""

    name: str
    scopes: tuple[str, ...]
    owner: str
    expires_at: Instant
    terms: KeyTerms = NO_TERMS


@dataclass(frozen=True, slots=True)
class Origin:
    """The time and the creator of a key, and the id of the key that it replaces, if any."""

    at: Instant
    by: str
    replaces: str = ""


def new_record(creation: Creation, origin: Origin, key_id: str, key: str) -> KeyRecord:
    """Return the record of a new key."""
    return KeyRecord(
        id=key_id,
        digest=digest(key),
        name=creation.name,
        owner=creation.owner,
        scopes=creation.scopes,
        expires_at=creation.expires_at,
        created_at=origin.at,
        created_by=origin.by,
        replaces=origin.replaces,
        terms=creation.terms,
    )


@dataclass(frozen=True, slots=True)
class NewKeyRules:
    """How many keys an owner may have, and the prefix of new keys, empty for none."""

    quota: Quota = NO_QUOTA
    prefix: str = ""


def mint(
    creation: Creation, origin: Origin, random_bytes: Callable[[int], bytes], prefix: str = ""
) -> tuple[KeyRecord, str]:
    """Return the record of a new key and the key itself; `random_bytes` must be a cryptographic source."""
    key = mint_key(random_bytes, prefix)
    return new_record(creation, origin, mint_id(random_bytes), key), key
