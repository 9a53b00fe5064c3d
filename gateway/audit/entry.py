"""An entry of the audit stream, and its JSON.

Rules kept here:
- An entry says what its kind needs; members that it does not need are left out of the JSON.
- An entry is bounded, however long the texts are that a client chose: the record of a key has them whole.
- Nothing secret is in an entry: neither a key, nor its digest, prefix or hash.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

MAX_TEXT: Final = 256
"""The most bytes of one text, as JSON."""
MAX_LISTED: Final = 512
"""The most bytes of all items of a list, as JSON."""
_MOST_OF_A_CHARACTER: Final = 6
"""The most bytes of one character as JSON: `\\u0001`."""


class Kind(enum.StrEnum):
    """The kind of an entry."""

    KEY_CREATED = "key_created"
    KEY_UPDATED = "key_updated"
    KEY_ROTATED = "key_rotated"
    KEY_DISABLED = "key_disabled"
    KEY_ENABLED = "key_enabled"
    KEY_REVOKED = "key_revoked"
    KEY_BOUND = "key_bound"
    KEY_REMOVED = "key_removed"
    ACCESS_DENIED = "access_denied"
    POLICY_LIVE = "policy_live"
    POLICY_REFUSED = "policy_refused"
    GATEWAY_STARTED = "gateway_started"
    GATEWAY_STOPPED = "gateway_stopped"
    ENTRIES_LOST = "entries_lost"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry.

    Attributes:
        kind: the kind of event.
        at: when it happened, in RFC 3339; "" for the moment of writing, which the id of the entry has.
        replica: the process that wrote the entry, as `host:pid`; "" for a change of a key.
        by: who did it, as `Author.by`.
        way: how, as `Author.way`.
        reason: why, if that was given.
        request_id: the request that did it, or of several the first one.
        client: the address of that request's client.
        key_id: the key that was changed; of a denied attempt, the key that was sent, if it is known.
        owner: the owner of that key.
        before: what the change replaced, by member of the record.
        after: what it put there.
        route: the method and path of denied attempts, as the policy lists them.
        code: the error code of denied attempts.
        status: their HTTP status.
        count: how many attempts, or lost entries, this entry stands for.
        until: when the last of them was, in RFC 3339.
        policy_sha256: the SHA-256 of the configuration that is live.
        refused_sha256: the SHA-256 of a file that was refused; "" if it could not be read.
        problems: why it was refused; the first few.
        version: the version of the gateway.
        cut: how many requests were cut when it stopped.
    """

    kind: Kind
    at: str = ""
    replica: str = ""
    by: str = ""
    way: str = ""
    reason: str = ""
    request_id: str = ""
    client: str = ""
    key_id: str = ""
    owner: str = ""
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    route: str = ""
    code: str = ""
    status: int = 0
    count: int = 0
    until: str = ""
    policy_sha256: str = ""
    refused_sha256: str = ""
    problems: tuple[str, ...] = ()
    version: str = ""
    cut: int = 0


_OF_KEYS: Final = ("by", "way", "reason", "request_id", "client", "key_id", "owner")
MEMBERS: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        Kind.KEY_CREATED: (*_OF_KEYS, "after"),
        Kind.KEY_UPDATED: (*_OF_KEYS, "before", "after"),
        Kind.KEY_ROTATED: (*_OF_KEYS, "before", "after"),
        Kind.KEY_DISABLED: (*_OF_KEYS, "before", "after"),
        Kind.KEY_ENABLED: (*_OF_KEYS, "before", "after"),
        Kind.KEY_REVOKED: (*_OF_KEYS, "before", "after"),
        Kind.KEY_BOUND: _OF_KEYS,
        Kind.KEY_REMOVED: (*_OF_KEYS, "before"),
        Kind.ACCESS_DENIED: (
            "replica", "client", "key_id", "owner", "route", "code", "status", "count", "until", "request_id",
        ),
        Kind.POLICY_LIVE: ("replica", "policy_sha256"),
        Kind.POLICY_REFUSED: ("replica", "policy_sha256", "refused_sha256", "problems"),
        Kind.GATEWAY_STARTED: ("replica", "policy_sha256", "version"),
        Kind.GATEWAY_STOPPED: ("replica", "cut"),
        Kind.ENTRIES_LOST: ("replica", "count", "until"),
    }
)  # fmt: skip
"""The members that an entry of each kind may have, besides `kind` and `at`."""

_DECODER: Final = msgspec.json.Decoder(AuditEntry)
_ENCODER: Final = msgspec.json.Encoder()


def encode_entry(entry: AuditEntry) -> bytes:
    """Return an entry as a JSON text."""
    return _ENCODER.encode(entry)


def decode_entry(text: bytes) -> AuditEntry:
    """Return the entry in a JSON text. Raises msgspec.DecodeError for a text of another shape."""
    return _DECODER.decode(text)


def shortened(value: object) -> object:
    """Return a value of JSON, with long texts and long lists cut."""
    if isinstance(value, str):
        return shortened_text(value)
    if isinstance(value, list | tuple):
        return _shortened_list([shortened(item) for item in value])
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    return value


def shortened_text(text: str) -> str:
    """Return a text as UTF-8 can write it, cut if it is too long for an entry."""
    if not text.isascii():
        # Bytes of a client that are no UTF-8 are lone surrogates here.
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) * _MOST_OF_A_CHARACTER <= MAX_TEXT:
        return text
    room = MAX_TEXT
    for place, character in enumerate(text):
        room -= len(_ENCODER.encode(character)) - len('""')
        if room < 0:
            return f"{text[:place]}..."
    return text


def _shortened_list(items: Iterable[object]) -> list[object]:
    kept, whole, room = [], list(items), MAX_LISTED
    for item in whole:
        room -= len(_ENCODER.encode(item))
        if room < 0:
            break
        kept.append(item)
    return kept if len(kept) == len(whole) else [*kept, f"and {len(whole) - len(kept)} more"]
