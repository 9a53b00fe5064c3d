"""The configuration that is live, fitted to the limit of open files, and all that follows it.

Rules kept here:
- Another configuration is adopted in one turn of the event loop: no request sees half of two.
- A number of connections that cannot be had is logged, with the one that can.
"""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from gateway.config import Config
from gateway.server.descriptors import fit


class LiveConfig:
    """Holds the live configuration. `open_files` is the limit that connections are kept below."""

    def __init__(self, config: Config, open_files: int, log: FilteringBoundLogger) -> None:
        self._open_files = open_files
        self._log = log
        self._adopters: list[Callable[[Config], None]] = []
        self.fitted = fit(config, open_files)
        self._warn()

    @property
    def config(self) -> Config:
        """The live configuration."""
        return self.fitted.config

    def followed_by(self, *adopters: Callable[[Config], None]) -> None:
        """Call `adopters` with each configuration that is adopted from now on, after `fitted` changed."""
        self._adopters.extend(adopters)

    def adopt(self, config: Config) -> None:
        """Make another configuration live, for everything that follows."""
        self.fitted = fit(config, self._open_files)
        for adopt in self._adopters:
            adopt(self.config)
        self._warn()

    def _warn(self) -> None:
        for shortfall in self.fitted.shortfalls:
            self._log.warning(
                "fewer connections than configured",
                setting=shortfall.setting,
                configured=shortfall.configured,
                possible=shortfall.possible,
                open_files=shortfall.limit,
                needed=shortfall.needed,
                reason=str(shortfall),
            )
