"""Compares keys with bcrypt hashes in threads, a bounded number at a time.

Rules kept here:
- bcrypt releases the interpreter's lock, so the event loop goes on meanwhile.
- Two hashes are computed at once, and never two for keys with the same prefix: knowing the prefix of a key
  does not suffice to occupy both threads.
- The networks of clients take turns (`FairQueue`), and within a network the prefixes of its keys: a flood
  from one network delays another network by one hash, and another key of its own network by one hash for each
  prefix.
- The number of keys that wait is bounded, for one network and prefix, and in total. Beyond the total, the
  newest key of the network with most keys is refused. A refusal says nothing about the key.
- A hash that is too expensive is not computed (`record.MAX_COST`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import bcrypt

from gateway.fairness.fair_queue import FairQueue
from gateway.fairness.futures import fail
from gateway.fairness.shares import Caller, network_of
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import is_bcrypt

THREADS: Final = 2
MAX_WAITING: Final = 128
"""Keys that wait in total; at 0.1 s for a hash, the last of as many networks waits for about 6 s."""
MAX_WAITING_PER_PREFIX: Final = 8
"""Keys of one network with the same prefix that wait."""


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """One key that waits to be compared; `prefix` is its beginning, which a row of Core has in clear."""

    claimant: Caller
    prefix: str
    key: str
    hashed: str
    outcome: asyncio.Future[bool]


def is_of(key: str, hashed: str) -> bool:
    """Return whether `hashed` is the hash of `key`; False if it is no hash or too expensive. Takes 0.1 s."""
    if not is_bcrypt(hashed):
        return False
    try:
        return bcrypt.checkpw(key.encode(), hashed.encode())
    except ValueError:
        return False


class Verifier:
    """Compares keys with hashes by `compare`, which is called in threads. `close` it."""

    def __init__(self, compare: Callable[[str, str], bool] = is_of) -> None:
        self._compare = compare
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt")
        self._waiting: FairQueue[_Comparison] = FairQueue(MAX_WAITING)
        self._compared: set[str] = set()

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        """Return whether `hashed` is the hash of `key`, which came from the address `client`.

        Raises:
            LookupOverloadError: too many keys wait already.
        """
        network, prefix = network_of(client), key[:PREFIX_LENGTH]
        # A prefix counts within its network only: whoever floods with it must not push out its owner.
        claimant = Caller(f"{network} {prefix}", network)
        if self._waiting.count_of(claimant) >= MAX_WAITING_PER_PREFIX:
            raise _overload()
        job = _Comparison(claimant, prefix, key, hashed, asyncio.get_running_loop().create_future())
        refused = self._waiting.add(job)
        if refused is not None:
            fail(refused.outcome, _overload())
        self._start()
        return await job.outcome

    def close(self) -> None:
        """Start nothing more; the keys that wait fail."""
        while self._waiting:
            fail(self._waiting.take().outcome, KeysUnavailableError())
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Compare the next keys while a thread is free."""
        loop = asyncio.get_running_loop()
        while len(self._compared) < THREADS:
            job = self._waiting.take_first(lambda job: job.prefix not in self._compared)
            if job is None:
                return
            self._compared.add(job.prefix)
            work = loop.run_in_executor(self._threads, self._compare, job.key, job.hashed)
            work.add_done_callback(partial(self._end, job))

    def _end(self, job: _Comparison, work: asyncio.Future[bool]) -> None:
        self._compared.discard(job.prefix)
        if work.cancelled():
            fail(job.outcome, KeysUnavailableError())
        elif fault := work.exception():
            fail(job.outcome, fault)
        elif not job.outcome.done():
            job.outcome.set_result(work.result())
        self._start()


def _overload() -> LookupOverloadError:
    return LookupOverloadError(reason="too many keys wait for their first use")
