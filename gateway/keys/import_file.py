"""Import records into the store, from a file or from elsewhere.

Rules kept here:
- A file is read whole before anything is stored, and every problem in it is reported with its line.
- No text repeats a value of the file, in which someone may have left a key. The name of an unknown term is
  repeated if no key has its form.
- Each batch is stored whole or not at all, and a record that is there already is never overwritten. So an
  import that was cut short is finished by repeating it.
- An import changes one thing in a record that is there: a key that is revoked in the import is revoked.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from gateway.gocompat.times import read_instant
from gateway.keys.minting import PREFIX_LENGTH, is_key_id
from gateway.keys.record import EVENTS, MAX_COST, PENDING, KeyRecord, is_bcrypt
from gateway.keys.record_json import RecordJson, TermsError, TermsJson, from_members
from gateway.keys.revocation import revoke_key
from gateway.keys.store import BatchAdder, RecordReviser
from gateway.policy.principals import KeyState
from gateway.policy.problems import Problem
from gateway.policy.verdicts import HOLDABLE, HOLDABLE_FORM

BATCH: Final = 500
MAX_LINE: Final = 1 << 18
"""Bytes of a line: enough for a body of POST /api-keys, and a long history."""
NEEDED: Final = ("digest", "id", "name", "owner", "scopes", "expires_at", "created_at")

_MEMBERS: Final = frozenset(RecordJson.__struct_fields__)
_TERMS: Final = frozenset(TermsJson.__struct_fields__)
_TERM: Final = re.compile(r"[a-z_]{1,32}")
_TIMES: Final = ("expires_at", "created_at", "last_used_at", "revoked_at")
_WRITE_TIME: Final = "{}: write RFC 3339, as 2027-01-31T00:00:00Z"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


class ImportStore(BatchAdder, RecordReviser, Protocol):
    """The store that records are imported into."""


@dataclass(slots=True)
class ImportResult:
    """The effect of an import, or of a dry run: numbers, and ids where an operator may need them."""

    added: int = 0
    there: int = 0
    revoked: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


class BadRecordError(ValueError):
    """A record cannot be kept; the text says why, without quoting it."""


def read_records(
    lines: Iterable[bytes], by: str, *, now: float | None = None
) -> tuple[list[KeyRecord], list[Problem]]:
    """Return the records of a file with one JSON object a line, and every problem in it.

    Args:
        lines: of the file.
        by: named as who created or revoked a key, where its line does not say.
        now: Unix seconds; the scopes of keys that are live then must be such as a route can accept. None: any
            scopes are accepted.
    """
    records: list[KeyRecord] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            record = _read_record(text, by)
            _check_scopes(record, now)
        except BadRecordError as error:
            problems.append(Problem(number, str(error)))
            continue
        twins = {seen.setdefault(name, number) for name in (record.id, record.digest)} - {number}
        if twins:
            problems.append(Problem(number, f"its id or its digest is on line {min(twins)} too"))
        records.append(record)
    return records, problems


def _read_record(line: bytes, by: str) -> KeyRecord:
    if len(line) > MAX_LINE:
        raise BadRecordError(f"write at most {MAX_LINE // 1024} KiB")
    try:
        members = _OBJECT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRecordError("write one JSON object") from None
    if "key" in members:
        raise BadRecordError("a key does not belong here: write its digest, SHA-256 in hexadecimal")
    unknown = members.keys() - _MEMBERS
    if unknown:
        raise BadRecordError(f"unknown member; known are {', '.join(sorted(_MEMBERS))}")
    missing = [name for name in NEEDED if name not in members]
    if missing:
        raise BadRecordError(f"{', '.join(missing)} is missing")
    _check_terms(members.get("terms"))
    _check_times(members)
    # Whoever imports a record is named where it does not say.
    members["created_by"] = members.get("created_by") or by
    if members.get("revoked_at") is not None:
        members["revoked_by"] = members.get("revoked_by") or by
    try:
        record = from_members(members)
    except msgspec.ValidationError as error:
        raise BadRecordError(str(error)) from None
    except TermsError as error:
        raise BadRecordError(f"terms: {error}") from None
    except ValueError:
        # The other times were checked above.
        raise BadRecordError(_WRITE_TIME.format("history")) from None
    check_record(record)
    return record


def _check_scopes(record: KeyRecord, now: float | None) -> None:
    # The scopes of a dead key grant nothing.
    if now is None or record.state(now) in (KeyState.REVOKED, KeyState.EXPIRED):
        return
    wrong = [number for number, scope in enumerate(record.scopes, 1) if scope not in HOLDABLE]
    if wrong:
        which = ", ".join(map(str, wrong))
        raise BadRecordError(f"scopes, item {which}: {HOLDABLE_FORM}; --any-scopes takes it all the same")


def _check_terms(terms: object) -> None:
    if not isinstance(terms, dict) or not (unknown := terms.keys() - _TERMS):
        return
    named = ", ".join(sorted(filter(_TERM.fullmatch, unknown)))
    which = f"unknown member {named}" if named else "unknown member"
    raise BadRecordError(f"terms: {which}; known are {', '.join(sorted(_TERMS))}")


def _check_times(members: dict[str, Any]) -> None:
    for name in _TIMES:
        # Of a revocation nobody may know when it was.
        if isinstance(text := members.get(name), str) and (text or name != "revoked_at"):
            _check_time(name, text)


def _check_time(name: str, text: str) -> None:
    try:
        read_instant(text)
    except ValueError:
        raise BadRecordError(_WRITE_TIME.format(name)) from None


def check_record(record: KeyRecord) -> None:
    """Return if the record can be kept. Raises BadRecordError."""
    if not is_key_id(record.id):
        raise BadRecordError("id: write api_key_ and a UUID in lower case")
    if record.digest == PENDING + record.id:
        if not is_bcrypt(record.bcrypt) or len(record.prefix) != PREFIX_LENGTH:
            raise BadRecordError(
                f"a pending record needs its prefix of {PREFIX_LENGTH} characters, and its bcrypt hash of at "
                f"most 2^{MAX_COST} rounds"
            )
    elif not _DIGEST.fullmatch(record.digest):
        raise BadRecordError("digest: write SHA-256 of the key in 64 hexadecimal digits, lower case")
    if not record.owner:
        raise BadRecordError("owner is empty")
    for event in record.history:
        if event.what not in EVENTS:
            raise BadRecordError(f"history: write what as {' or '.join(EVENTS)}")


async def import_records(
    store: ImportStore,
    records: Iterable[KeyRecord],
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> ImportResult:
    """Store the records that are new; `progress` gets the size of each batch that is done.

    Raises:
        GatewayError: the store failed; whole batches may be stored by then.
    """
    outcome = ImportResult()
    rest = iter(records)
    while batch := list(islice(rest, BATCH)):
        await _import_batch(store, batch, outcome, dry_run=dry_run)
        progress(len(batch))
    return outcome


async def _import_batch(
    store: ImportStore, batch: Sequence[KeyRecord], outcome: ImportResult, *, dry_run: bool
) -> None:
    found = await store.add_all(batch, dry_run=dry_run)
    for record, there in zip(batch, found, strict=True):
        if there is None:
            outcome.added += 1
        elif there.id != record.id or _is_another(record, there):
            outcome.conflicts.append(record.id)
        else:
            outcome.there += 1
            if record.revocation is not None and not there.revoked:
                outcome.revoked.append(record.id)
                if not dry_run:
                    await revoke_key(store, record.id, record.revocation)


def _is_another(record: KeyRecord, there: KeyRecord) -> bool:
    """Return whether two records of one id are of two keys; of a pending one nobody knows."""
    return not record.pending and not there.pending and record.digest != there.digest
