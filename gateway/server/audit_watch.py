"""The watch over the audit stream: are entries trimmed that no shipper has printed?

Rules kept here:
- The warning begins while there is room for a fifth of the entries, and is shown in health until it is over.
- It is logged when it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.admin.health import Health
from gateway.audit.shipping import NEARLY, Unshipped, nearly_trimmed
from gateway.config.sections.operation import AuditConfig
from gateway.errors import GatewayError
from gateway.keys.store import AuditStream

LOOK_SECONDS: Final = 10.0
EVENT: Final = "audit entries will be trimmed before they are shipped"
NOTHING: Final = Unshipped("", 0, None)

_STALE: Final = (
    "audit: the shipper {} is behind by more than {:.0%} of audit.kept, and entries that it has not printed "
    "will be trimmed: start it again, raise audit.kept, or run 'blnk-gateway audit --forget {}'"
)
_NO_SHIPPER: Final = (
    "audit: no shipper prints the audit stream, which has more than {:.0%} of audit.kept, and the oldest "
    "entries will be trimmed: run 'blnk-gateway audit --follow >> FILE', raise audit.kept, or set "
    "audit.unshipped to drop"
)


class AuditWatch:
    """Looks at one stream.

    Args:
        stream: is looked at.
        settings: returns how many entries are kept, and whether unshipped ones matter.
        log: takes the warning.
        health: shows the warning.

    Attributes:
        unshipped: what no shipper had printed at the last look.
    """

    def __init__(
        self,
        stream: AuditStream,
        settings: Callable[[], AuditConfig],
        log: FilteringBoundLogger,
        health: Health,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._log = log
        self._health = health
        self._said: tuple[str, ...] = ()
        self.unshipped = NOTHING

    @property
    def late(self) -> bool:
        """True if unshipped entries will soon be trimmed, and that matters."""
        return bool(self._said)

    async def run(self, every: float = LOOK_SECONDS) -> None:
        """Look every so many seconds for ever; returns only by cancellation."""
        while True:
            try:
                self.unshipped = await self._stream.unshipped()
            except GatewayError:
                # The store watch reports it.
                pass
            else:
                self._show()
            await asyncio.sleep(every)

    def _show(self) -> None:
        settings = self._settings()
        late = settings.unshipped == "warn" and nearly_trimmed(
            self.unshipped, settings.kept, before=bool(self._said)
        )
        before, self._said = self._said, (_warning(self.unshipped),) if late else ()
        self._health.replace_warnings(before, self._said)
        if late and not before:
            self._log.warning(
                EVENT,
                shipper=self.unshipped.shipper,
                unshipped=self.unshipped.entries,
                kept=settings.kept,
            )


def _warning(unshipped: Unshipped) -> str:
    name = unshipped.shipper
    return _STALE.format(name, NEARLY, name) if name else _NO_SHIPPER.format(NEARLY)
