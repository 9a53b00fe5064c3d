"""`GET /console/policy`: the policy that is live, and its differences from the one before it.

Rules kept here:
- Two policies are compared once, in a thread: the event loop does not wait for it.
- At most `MOST_CHANGES` changes are listed, the most dangerous first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.config import Config
from gateway.config.differences import differences
from gateway.config.presets import core_table
from gateway.policy.table_diff import PolicyChange, changes

MOST_CHANGES: Final = 200


class PolicyPage:
    """Shows the policy of one process.

    Args:
        live: returns the configuration that is live.
        before: returns the one that was live before it; None if there was none.
    """

    def __init__(self, live: Callable[[], Config], before: Callable[[], Config | None]) -> None:
        self._live = live
        self._before = before
        self._comparing = asyncio.Lock()
        self._compared: tuple[Config, Config] | None = None
        self._shown: dict[str, object] = {}

    async def page(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return the members of the page."""
        async with self._comparing:
            live, before = self._live(), self._before()
            members: dict[str, object] = {"sha256": live.sha256, "routes": len(live.routes.routes)}
            if before is None:
                return members | {"before": None}
            if self._compared != (before, live):
                self._shown = await asyncio.to_thread(_comparison, before, live)
                self._compared = before, live
            return members | self._shown


def _comparison(before: Config, live: Config) -> dict[str, object]:
    found = changes(before.routes, live.routes, core_table())
    return {
        "before": before.sha256,
        "changes": [_change(one) for one in found[:MOST_CHANGES]],
        "changes_left_out": max(0, len(found) - MOST_CHANGES),
        "settings": msgspec.to_builtins(differences(before, live)),
    }


def _change(change: PolicyChange) -> dict[str, object]:
    return {
        "request": f"{change.method} {change.path}",
        "kind": change.kind.value,
        "widens": change.widens,
        "opened": change.opened,
        "closed": change.closed,
    }
