"""Checks the key that creates another one, as it is stored when the new record is.

Rules kept here:
- A request is accepted by what was known of its key. What a new key may have is decided once more by what is
  stored, in the write that stores it: the creator may have been revoked or narrowed in between.
"""

from __future__ import annotations

from gateway.keys.record import KeyRecord
from gateway.keys.store import CreatorNarrowedError, CreatorRevokedError
from gateway.policy.scopes import grantable


def check_creator(creator: KeyRecord | None, record: KeyRecord, *, terms_only: bool = False) -> None:
    """Return if a key may create this record; None is a creator that is not stored.

    With `terms_only` the scopes of the creator are not compared.

    Raises:
        CreatorRevokedError: the creator is revoked or disabled.
        CreatorNarrowedError: the creator does not hold the scopes of the record, or its terms are others.
    """
    if creator is None:
        return
    if creator.revoked or creator.disabled:
        raise CreatorRevokedError(record.id)
    granted = terms_only or grantable(creator.scopes, record.scopes)
    if not granted or record.terms != creator.terms.of_child(creator.id):
        raise CreatorNarrowedError(record.id)
