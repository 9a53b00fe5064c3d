"""A dictionary of a bounded size."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """Keeps the `size` items that were put last; read it like any dictionary, and change it by `put`."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def put(self, key: K, value: V) -> None:
        """Set an item, which is the newest then; of too many, drop the oldest."""
        self.pop(key, None)
        if len(self) >= self._size:
            del self[next(iter(self))]
        self[key] = value
