"""The failures of whoever is asked about keys: the key store, Core's database, Core."""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class KeysUnavailableError(GatewayError):
    """Nobody can tell whose key it is, or a key cannot be changed."""

    summary: ClassVar[str] = "Key store unavailable"


class StoreUnavailableError(KeysUnavailableError):
    """The key store has failed."""


class UnacknowledgedError(StoreUnavailableError):
    """A change stands, and too few replicas of the store have said that they have it."""


class UncertainError(StoreUnavailableError):
    """A change was asked for, and the store has not said whether it made it."""


class DatabaseUnavailableError(KeysUnavailableError):
    """Core's database has failed."""


class LookupOverloadError(KeysUnavailableError):
    """Too many ask at once, so that this one was refused; nothing is said of the dependency, which works."""


class UnreadableListError(GatewayError):
    """Core's list of keys cannot be read."""

    summary: ClassVar[str] = "Upstream gave no list of keys"
