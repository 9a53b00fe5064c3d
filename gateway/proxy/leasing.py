"""Leases tokens in the background for the allowances of this replica.

Rules kept here:
- No request waits for the store, and none causes a call of its own: allowances that were used are collected,
  and the store is asked for all of them together, at most once in a tick.
- An allowance that has nothing to report, and needs nothing, is not asked for. Until there is a key with a
  limit, nothing is sent; from then on a call every 2 s, so that the replicas know how many they are.
- While the store does not respond, the allowances go on with what flows in, each at its last share, and one
  call tries again every quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.leases import LeaseRequest, TokenLeases
from gateway.proxy.allowance import TICK_SECONDS, Allowance

RETRY_SECONDS: Final = 0.25
PRESENCE_SECONDS: Final = 2.0
"""How often the store hears of a replica whose keys are idle."""
_BATCH: Final = 128
"""The keys of one call: Redis works on it for less than 2 ms."""
_RESULTS: Final = ("granted", "empty", "failed")


class Leasing:
    """Asks for the leases of one replica.

    Args:
        store: gives leases.
        replica: a name that no other replica has.
        monotonic: gives seconds.
        observed: is called with the failure when the store begins to fail, and with None once it responds.

    Attributes:
        failing: True if the store did not respond to the last call.
        used: True if some key has a limit, as far as is known.
        even: an even share of the replicas that lease.
    """

    def __init__(
        self,
        store: TokenLeases,
        replica: str,
        monotonic: Callable[[], float],
        observed: Callable[[GatewayError | None], None],
    ) -> None:
        self.failing = False
        self.used = False
        self.even = 1.0
        self._store = store
        self._replica = replica
        self._monotonic = monotonic
        self._observed = observed
        self._results = Counter(dict.fromkeys(_RESULTS, 0))
        self._waiting: dict[str, Allowance] = {}
        self._wake = asyncio.Event()
        self._asked_at = float("-inf")

    @property
    def results(self) -> Mapping[str, int]:
        """The number of leases by result: `granted`, `empty` (no token was left), `failed`."""
        return self._results

    def expect(self) -> None:
        """Take note that keys have limits."""
        self.used = True
        self._wake.set()

    def note(self, key_id: str, allowance: Allowance, now: float) -> None:
        """Take note that an allowance was used; the store is asked when it is due."""
        allowance.note(now)
        if not self._waiting:
            self.used = True
            self._wake.set()
        self._waiting[key_id] = allowance

    async def run(self) -> None:
        """Ask the store whenever something is due, for ever; returns only by cancellation."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause() if self.used else None):
                    await self._wake.wait()
            await self.lease_due()
            if not self._waiting:
                self._wake.clear()
            await asyncio.sleep(RETRY_SECONDS if self.failing else TICK_SECONDS)

    def _pause(self) -> float:
        """Return after how many seconds the store is asked although no key is waiting."""
        return RETRY_SECONDS if self.failing else PRESENCE_SECONDS

    async def lease_due(self) -> None:
        """Ask for what is due now."""
        now = self._monotonic()
        due = [each for each in self._waiting.items() if each[1].is_due(now)]
        if not due and now >= self._asked_at + self._pause():
            # The others count this replica, and its first lease is not that of a single one.
            await self._lease([])
        for start in range(0, len(due), _BATCH):
            if not await self._lease(due[start : start + _BATCH]):
                return

    async def _lease(self, batch: Sequence[tuple[str, Allowance]]) -> bool:
        """Ask for the leases of some keys; return False if the store fails."""
        sent_at = self._asked_at = self._monotonic()
        requests = [allowance.request(key_id, sent_at) for key_id, allowance in batch]
        try:
            found = await self._store.lease(self._replica, requests)
        except GatewayError as failure:
            self._results["failed"] += len(requests)
            self._note_outcome(failure)
            return False
        self._note_outcome(None)
        self.even = 1.0 / found.replicas
        now = self._monotonic()
        for (key_id, allowance), request, lease in zip(batch, requests, found.leases, strict=True):
            allowance.settle(request, lease, found, now)
            self._count(request, lease.granted)
            if not allowance.settled:
                allowance.note(now)
            elif self._waiting.get(key_id) is allowance:
                del self._waiting[key_id]
        return True

    def _count(self, request: LeaseRequest, granted: float) -> None:
        self._results["empty" if request.wanted and not granted else "granted"] += 1

    def _note_outcome(self, failure: GatewayError | None) -> None:
        if self.failing != (failure is not None):
            self.failing = failure is not None
            self._observed(failure)
