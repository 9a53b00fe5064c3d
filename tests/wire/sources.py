"""Connections to Core that nothing is asked of."""

from __future__ import annotations

import asyncio
from types import TracebackType


class SilentSource:
    """A connection that a response is read from by hand; leaving it closes its loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> SilentSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.close()

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...
