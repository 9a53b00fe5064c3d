"""Read the changes of a key store for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.keys.store import ChangeFeed, KeyChangeBatch

READ_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 0.1


class ChangeSubscriber(Protocol):
    """Gets what is read."""

    def start_over(self) -> None:
        """Forget everything: nothing is known of the changes before this moment."""

    def apply_batch(self, batch: KeyChangeBatch, sent: float, *, after_failure: bool) -> None:
        """Apply changes, which were read by a request sent at `sent` (monotonic seconds).

        `after_failure`: the read before this one failed.
        """


class ChangeFollower:
    """Follows one feed from where it ends when it is first read. `clock` gives monotonic seconds."""

    def __init__(self, feed: ChangeFeed, clock: Callable[[], float], subscriber: ChangeSubscriber) -> None:
        self._feed = feed
        self._clock = clock
        self._subscriber = subscriber
        self._position: str | None = None
        self.failure: GatewayError | None = None
        """The failure of the last read; None if it succeeded."""

    async def follow(self) -> None:
        """Read for ever; returns only by cancellation."""
        while True:
            try:
                if self._position is None:
                    self._position = await self._feed.last_position()
                    self._subscriber.start_over()
                sent = self._clock()
                batch = await self._feed.changes(self._position, READ_SECONDS)
            except GatewayError as failure:
                self.failure = failure
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._position = batch.position
                after_failure, self.failure = self.failure is not None, None
                self._subscriber.apply_batch(batch, sent, after_failure=after_failure)
