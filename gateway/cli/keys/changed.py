"""Reads changed records back, and says what to do about a change that is not complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.cli.dependency_failures import UnfinishedError, unfinished
from gateway.errors import GatewayError
from gateway.keys.record import KeyRecord
from gateway.keys.store import ManyKeysById

NOT_SHOWN: Final = "the change was applied, but its result cannot be shown"
_REPEAT: Final = "some of the keys are revoked, others are not: run the command again"


async def read_changed(store: ManyKeysById, changed: Sequence[KeyRecord]) -> list[KeyRecord]:
    """Return the changed records with their last uses. Raises UnfinishedError."""
    with unfinished(NOT_SHOWN):
        return await store.get_many([record.id for record in changed])


@contextlib.contextmanager
def advise_to_repeat(revoked: Sequence[KeyRecord]) -> Iterator[None]:
    """Raise UnfinishedError for a dependency that fails inside once some keys are revoked."""
    try:
        yield
    except GatewayError as failure:
        if not revoked:
            raise
        raise UnfinishedError(failure, _REPEAT) from failure
