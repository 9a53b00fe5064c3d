"""A transport on top of another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any


class StackedTransport(asyncio.Transport):
    """A transport that adds `extra` to the extra info of the transport below; subclasses write and close.

    The bytes that its buffer counts are those of the transport below.
    """

    def __init__(self, below: asyncio.Transport, extra: Mapping[str, Any]) -> None:
        super().__init__(extra)
        self._below = below

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what was added under this name, else what the transport below has."""
        found = super().get_extra_info(name)
        return self._below.get_extra_info(name, default) if found is None else found

    def abort(self) -> None:
        """Close at once."""
        self._below.abort()

    def is_closing(self) -> bool:
        """Return True if it is closed, or about to be."""
        return self._below.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._below.resume_reading()

    def is_reading(self) -> bool:
        """Return True while it reads."""
        return self._below.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes beyond which the connection above is held back."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are not sent yet."""
        return self._below.get_write_buffer_size()
