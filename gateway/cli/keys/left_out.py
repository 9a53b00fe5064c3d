"""Reports the keys that a command has left out, because their records cannot be read.

Rules kept here:
- The command does the others first. Then each key that was left out is named, and the exit code is 3.
"""

from __future__ import annotations

from typing import Final

from gateway.cli.console import fail, say
from gateway.keys.store import UnreadableKey
from gateway.server.exit_codes import Exit

_ADVICE: Final = (
    "use the blnk-gateway of the newest version that uses this store; if it cannot read them either, they "
    "are damaged: remove what these names hold with 'redis-cli DEL NAME', and import the keys anew"
)


class LeftOutKeys:
    """The keys that one command has left out.

    Attributes:
        ids: their ids, as far as they are known.
    """

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._found: dict[UnreadableKey, None] = {}

    def add(self, key: UnreadableKey) -> None:
        """Take note of a key; once is enough."""
        self._found[key] = None
        self.ids.add(key.key_id)

    def fail_if_any(self, what: str) -> None:
        """Exit with 3 if there are some; say `what` of each, such as `not revoked`."""
        if not self._found:
            return
        for key in self._found:
            say(f"{key.key_id or 'an unknown key'}: {what}: {key.reason}", err=True)
        fail(f"records that cannot be read: {len(self._found)}; {_ADVICE}", Exit.DEPENDENCY)
