"""Reads changed records back, shows them, and says what to do about a change that is not complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from gateway.cli.console import fail, say, write_json
from gateway.cli.dependency_failures import UnfinishedError, unfinished
from gateway.cli.keys.display import public
from gateway.errors import GatewayError
from gateway.keys.record import KeyRecord
from gateway.keys.store import ManyKeysById
from gateway.policy.explanation import printable
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

NOT_SHOWN: Final = "the change was applied, but its result cannot be shown"
_REPEAT: Final = "some of the keys are revoked, others are not: run the command again"


async def read_changed(store: ManyKeysById, changed: Sequence[KeyRecord]) -> list[KeyRecord]:
    """Return the changed records with their last uses. Raises UnfinishedError."""
    with unfinished(NOT_SHOWN):
        return await store.get_many([record.id for record in changed])


def show_changed(key_id: str, records: Sequence[KeyRecord], output: str) -> None:
    """Print the changed records; without any, exit with 1, because the key is unknown."""
    if not records:
        fail_unknown(key_id)
    show_states(records, output)


def show_states(records: Sequence[KeyRecord], output: str) -> None:
    """Print the id and the state of each record, or all of it as JSON."""
    at = utc_now()
    if output == "json":
        write_json([public(record, at) for record in records])
        return
    for record in records:
        say(f"{record.id}\t{record.state(at.timestamp()).value}")


def fail_unknown(key_id: str) -> NoReturn:
    """Exit with 1, because no record has this id."""
    fail(f"{printable(key_id)}: no such key", Exit.FAILED)


@contextlib.contextmanager
def advise_to_repeat(revoked: Sequence[KeyRecord]) -> Iterator[None]:
    """Raise UnfinishedError for a dependency that fails inside once some keys are revoked."""
    try:
        yield
    except GatewayError as failure:
        if not revoked:
            raise
        raise UnfinishedError(failure, _REPEAT) from failure
