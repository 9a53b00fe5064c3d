"""The failure of a start."""

from __future__ import annotations

from gateway.server.exit_codes import Exit


class StartError(Exception):
    """The gateway cannot run; `exit_code` says why in the table of exit codes."""

    def __init__(self, reason: str, exit_code: Exit) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
