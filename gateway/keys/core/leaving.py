"""The tasks before the gateway is taken out: keys whose records here and rows in Core's table differ.

Rules kept here:
- A key needs a task if Core, used directly, would refuse what is accepted here, or accept what is refused.
- With Core as the authority its row is the key, and a record adds only what makes a key stricter.
- Without Core's table, nothing is known to be in Core: keys that came from Core are counted as there.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from gateway.keys.core.records import BY_CORE, CoreRow
from gateway.keys.record import KeyRecord
from gateway.policy.principals import KeyState
from gateway.policy.terms import KeyTerms

SAME_END_SECONDS: Final = 1.0
"""Ends that differ by less are the same: Core and the gateway round them differently."""


class Task(enum.StrEnum):
    """A task for a key in Core: mint one in its place, revoke it, or decide about its wider use."""

    MINT = "mint"
    REVOKE = "revoke"
    DECIDE = "decide"


@dataclass(frozen=True, slots=True)
class LeavingTask:
    """A task for one key, and why."""

    task: Task
    key_id: str
    owner: str
    name: str
    why: str


def task_with_row(
    record: KeyRecord, row: CoreRow | None, now: float, *, row_is_key: bool
) -> LeavingTask | None:
    """Return the task for a key that is known here; None if it works in Core as it does here.

    Args:
        record: the record in the store.
        row: the key in Core's table, if it is there.
        now: Unix seconds.
        row_is_key: Core is the authority.
    """
    found = (
        _live_in_core(record, row, now, row_is_key=row_is_key)
        if row is not None and row.principal().state(now) is KeyState.LIVE
        else _not_live_in_core(record, row, now, row_is_key=row_is_key)
    )
    return None if found is None else LeavingTask(found[0], record.id, record.owner, record.name, found[1])


def task_without_table(record: KeyRecord, now: float) -> LeavingTask | None:
    """Return the task for a key, without Core's table; None if there seems to be none."""
    if record.created_by != BY_CORE:
        return task_with_row(record, None, now, row_is_key=False)
    stricter = _stricter_here(record)
    if stricter:
        task, why = Task.REVOKE, stricter
    elif _bounded(record.terms):
        task, why = Task.DECIDE, "it has terms only here"
    else:
        return None
    return LeavingTask(task, record.id, record.owner, record.name, f"{why}, and it came from Core")


def task_without_record(row: CoreRow, now: float) -> LeavingTask | None:
    """Return the task for a key of Core that no record here names; None if it is not live."""
    if row.principal().state(now) is not KeyState.LIVE:
        return None
    return LeavingTask(Task.DECIDE, row.id, row.owner, row.name, "Core accepts it, and it is unknown here")


def _not_live_in_core(
    record: KeyRecord, row: CoreRow | None, now: float, *, row_is_key: bool
) -> tuple[Task, str] | None:
    # The successor of a rotated key has a task of its own.
    if row_is_key or record.rotated or record.state(now) is not KeyState.LIVE:
        return None
    return Task.MINT, "it is unknown to Core" if row is None else "it has ended in Core, but not here"


def _live_in_core(
    record: KeyRecord, row: CoreRow, now: float, *, row_is_key: bool
) -> tuple[Task, str] | None:
    stricter = _stricter_here(record)
    if stricter:
        return Task.REVOKE, stricter
    if not row_is_key and record.state(now) is not KeyState.LIVE:
        return Task.REVOKE, "it has expired here"
    differences = ["it has terms only here"] if _bounded(record.terms) else []
    if not row_is_key:
        if set(record.scopes) != set(row.scopes):
            differences.append(f"its scopes in Core are {', '.join(row.scopes) or 'none'}")
        if abs(record.expires_at.unix - row.expires_at) >= SAME_END_SECONDS:
            differences.append("it ends at another time in Core")
    return (Task.DECIDE, "; ".join(differences)) if differences else None


def _stricter_here(record: KeyRecord) -> str:
    if record.revoked:
        return "it is revoked here"
    if record.disabled:
        return "it is disabled here"
    return "it was rotated here" if record.rotated else ""


def _bounded(terms: KeyTerms) -> bool:
    return bool(terms.rate or terms.concurrency or terms.allow_from or terms.certificate)
