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
    "where nothing else is said, use the blnk-gateway of the newest version that uses this store; if it "
    "cannot read them either, they are damaged, and 'redis-cli DEL NAME' removes what a name holds. A key is "
    "lost with its record: mint a new one. Where keys.authority is core, the old key works again without its "
    "revocation and its terms, until you revoke it"
)


class LeftOutKeys:
    """The keys that one command has left out."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def add(self, key: UnreadableKey) -> None:
        """Take note of a key; once is enough. One list may know its id where another one does not."""
        self._ids[key.reason] = self._ids.get(key.reason) or key.key_id

    def fail_if_any(self, what: str) -> None:
        """Exit with 3 if there are some; say `what` of each, such as `not revoked`."""
        if not self._ids:
            return
        for reason, key_id in self._ids.items():
            say(f"{key_id or 'an unknown key'}: {what}: {reason}", err=True)
        fail(f"records that cannot be read: {len(self._ids)}; {_ADVICE}", Exit.DEPENDENCY)
