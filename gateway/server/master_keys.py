"""The master keys that the settings name: read at the start, and again while the gateway runs.

Rules kept here:
- A key file that cannot be read while the gateway runs changes nothing; an absent or empty file of the next
  key means that there is none.
- A log line says that there is a next key, and never which.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.config import Config, Secret, read_optional_secret, read_secret
from gateway.proxy.core_access import CoreAccess, MasterKey
from gateway.server.live_config import LiveConfig

LOOK_SECONDS: Final = 1.0

Pair = tuple[MasterKey, MasterKey | None]
"""The master key and the next one."""


def read_master_keys(config: Config) -> Pair:
    """Return the master key and the next one, from their files. Raises ValueError if one cannot be read."""
    upstream = config.upstream
    file, next_file = upstream.master_key_file, upstream.master_key_next_file
    current: Secret = upstream.master_key if file is None else read_secret(file)
    following = None if next_file is None else read_optional_secret(next_file)
    return MasterKey(current.reveal()), None if following is None else MasterKey(following.reveal())


class MasterKeys:
    """Follows the files of the master keys."""

    def __init__(self, live: LiveConfig, core: CoreAccess, log: FilteringBoundLogger) -> None:
        self._live = live
        self._core = core
        self._log = log
        self._two = core.other is not None

    def read_again(self) -> None:
        """Take the keys that the files hold now."""
        with contextlib.suppress(ValueError):
            self._hold(read_master_keys(self._live.config))

    async def follow(self) -> None:
        """Read the files, if there are any, every second, for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            upstream = self._live.config.upstream
            files = upstream.master_key_file, upstream.master_key_next_file
            if files == (None, None) and not self._two:
                continue
            with contextlib.suppress(ValueError):
                self._hold(await asyncio.to_thread(read_master_keys, self._live.config))

    def _hold(self, keys: Pair) -> None:
        self._core.hold(*keys)
        two = self._core.other is not None
        if two != self._two:
            self._two = two
            self._log.info("two master keys are known" if two else "one master key is known")
