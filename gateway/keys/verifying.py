"""Is a key the one that a bcrypt hash was made from? Asked in threads, and never for many at once.

Rules kept here:
- bcrypt releases the interpreter's lock, so the event loop goes on meanwhile.
- Two hashes are computed at once, and of keys with the same first characters one: whoever knows how a
  key begins can keep that key's look-ups waiting, and of every other key delay the first by one hash.
- Who would wait in too long a line is turned away, and so is who would open a line too many; nothing is
  concluded about the key.
- A hash that is too dear is not computed (`record.MAX_COST`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import bcrypt

from gateway.errors import Code, GatewayError
from gateway.keys.record import is_bcrypt

THREADS: Final = 2
MAX_LINES: Final = 64
"""Each has one hash in turn, so that the last of them waits for about 3 s."""
MAX_WAITING_ALIKE: Final = 8


@dataclass(slots=True)
class _Line:
    """Those who wait for keys that begin alike."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Verifier:
    """Compares keys with hashes. `close` it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt")
        self._lines: dict[str, _Line] = {}

    async def matches(self, key: str, hashed: str, *, line: str) -> bool:
        """Whether `hashed` is the hash of `key`; those with the same `line` take turns.

        Raises:
            GatewayError: too many wait already (KEY_STORE_UNAVAILABLE).
        """
        queue = self._lines.get(line) or _Line()
        if queue.length >= MAX_WAITING_ALIKE or (line not in self._lines and len(self._lines) >= MAX_LINES):
            raise GatewayError(Code.KEY_STORE_UNAVAILABLE, reason="too many keys wait for their first use")
        self._lines[line] = queue
        queue.length += 1
        try:
            async with queue.lock:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, is_of, key, hashed)
        finally:
            queue.length -= 1
            if not queue.length:
                del self._lines[line]

    def close(self) -> None:
        """Start nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_of(key: str, hashed: str) -> bool:
    """Whether `hashed` is the hash of `key`; False of what is no hash, or too dear a one. Takes 0.1 s."""
    if not is_bcrypt(hashed):
        return False
    try:
        return bcrypt.checkpw(key.encode(), hashed.encode())
    except ValueError:
        return False
