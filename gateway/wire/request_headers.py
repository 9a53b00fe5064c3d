"""The headers of one request, in their order and by their names. Pure."""

from __future__ import annotations

from gateway.wire.headers import Header


class RequestHeaders:
    """The headers of one request; `lines` has them as they came.

    Names to look up are lower case. A value as text is UTF-8, and a byte that is none is a lone surrogate
    (PEP 383), so that it becomes the same byte again.
    """

    __slots__ = ("_by_name", "_repeated", "lines")

    def __init__(self, lines: list[Header]) -> None:
        self.lines = lines
        self._by_name = {name.lower(): value for name, value in lines}
        self._repeated = len(self._by_name) != len(lines)

    def count(self, name: bytes) -> int:
        """Return how many headers have this name."""
        if self._repeated:
            return len(self.values(name))
        return 1 if name in self._by_name else 0

    def value(self, name: bytes) -> bytes:
        """Return the first value of this name; empty if there is none."""
        if self._repeated:
            values = self.values(name)
            return values[0] if values else b""
        return self._by_name.get(name, b"")

    def values(self, name: bytes) -> list[bytes]:
        """Return all values of this name, in their order."""
        if self._repeated:
            return [value for given, value in self.lines if len(given) == len(name) and given.lower() == name]
        value = self._by_name.get(name)
        return [] if value is None else [value]

    def text(self, name: bytes) -> str:
        """Return the first value of this name as text; empty if there is none."""
        return self.value(name).decode("utf-8", "surrogateescape")

    def texts(self, name: bytes) -> list[str]:
        """Return all values of this name as text."""
        return [value.decode("utf-8", "surrogateescape") for value in self.values(name)]
