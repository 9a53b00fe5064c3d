"""The failures of the dependencies that know keys: the key store, Core's database, Core."""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class KeysUnavailableError(GatewayError):
    """A key cannot be identified, or cannot be changed."""

    summary: ClassVar[str] = "Key store unavailable"


class StoreUnavailableError(KeysUnavailableError):
    """The key store has failed."""


class UnreadableKeyError(StoreUnavailableError):
    """The record of one key cannot be read, such as one of a newer version; the store itself responds."""


class UnacknowledgedError(StoreUnavailableError):
    """A change stands, but too few replicas of the store have acknowledged it."""


class UncertainError(StoreUnavailableError):
    """A change was sent, and it is not known whether the store made it."""


class DatabaseUnavailableError(KeysUnavailableError):
    """Core's database has failed."""


class LookupOverloadError(KeysUnavailableError):
    """Too many callers look up keys at once, so this one was refused; the dependency itself works."""


class UnreadableListError(GatewayError):
    """Core's list of keys cannot be read."""

    summary: ClassVar[str] = "Upstream gave no list of keys"
