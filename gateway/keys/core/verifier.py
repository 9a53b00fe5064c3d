"""Is a key the one that a bcrypt hash was made from? Computed in threads, and never for many at once.

Rules kept here:
- bcrypt releases the interpreter's lock, so the event loop goes on meanwhile.
- Two hashes are computed at once, and of keys that begin alike one: whoever knows how a key begins cannot
  occupy both threads.
- The clients' addresses take turns (`shares.network_of`), and of one address the beginnings of its keys: a
  flood from one address delays another address by one hash, and another key of its own by one for each
  beginning.
- How many wait is bounded: of one address for keys that begin alike, and of all; beyond the latter the newest
  of the address that has the most is refused. Nothing is concluded about a key that is refused so.
- A hash that is too dear is not computed (`record.MAX_COST`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import bcrypt

from gateway.fairness.shares import network_of
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import is_bcrypt

THREADS: Final = 2
MAX_WAITING: Final = 128
"""Of all; with one hash at 0.1 s the last of so many addresses waits for about 6 s."""
MAX_WAITING_ALIKE: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One key of a party that waits to be compared."""

    party: str
    key: str
    hashed: str
    outcome: asyncio.Future[bool]

    @property
    def beginning(self) -> str:
        return self.key[:PREFIX_LENGTH]

    def fail(self, failure: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(failure)


def is_of(key: str, hashed: str) -> bool:
    """Whether `hashed` is the hash of `key`; False of what is no hash, or too dear a one. Takes 0.1 s."""
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
        # By party, then by beginning, each in the order of their turns.
        self._waiting: dict[str, dict[str, deque[_Job]]] = {}
        self._compared: set[str] = set()

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        """Whether `hashed` is the hash of `key`, which came from the address `client`.

        Raises:
            LookupOverloadError: too many wait already (KEY_STORE_UNAVAILABLE).
        """
        job = _Job(network_of(client), key, hashed, asyncio.get_running_loop().create_future())
        alike = self._waiting.setdefault(job.party, {}).setdefault(job.beginning, deque())
        if len(alike) >= MAX_WAITING_ALIKE:
            raise _overload()
        alike.append(job)
        if sum(map(_size, self._waiting.values())) > MAX_WAITING:
            self._shed()
        self._start()
        return await job.outcome

    def close(self) -> None:
        """Start nothing more; those who wait fail."""
        while job := next(self._jobs(), None):
            self._take(job)
            job.fail(KeysUnavailableError())
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Compare the next, as long as a thread is free."""
        loop = asyncio.get_running_loop()
        while len(self._compared) < THREADS:
            job = next((job for job in self._jobs() if job.beginning not in self._compared), None)
            if job is None:
                return
            self._take(job)
            self._compared.add(job.beginning)
            work = loop.run_in_executor(self._threads, self._compare, job.key, job.hashed)
            work.add_done_callback(partial(self._ended, job))

    def _ended(self, job: _Job, work: asyncio.Future[bool]) -> None:
        self._compared.discard(job.beginning)
        if work.cancelled():
            job.fail(KeysUnavailableError())
        elif fault := work.exception():
            job.fail(fault)
        elif not job.outcome.done():
            job.outcome.set_result(work.result())
        self._start()

    def _jobs(self) -> Iterator[_Job]:
        """The oldest job of each party and beginning, in the order of their turns."""
        for party in self._waiting.values():
            for alike in party.values():
                yield alike[0]

    def _take(self, job: _Job) -> None:
        """Take an oldest job out; its party and its beginning have their next turn after all others."""
        party = self._waiting.pop(job.party)
        alike = party.pop(job.beginning)
        alike.popleft()
        if alike:
            party[job.beginning] = alike
        if party:
            self._waiting[job.party] = party

    def _shed(self) -> None:
        """Refuse the newest job of the party that has the most, of the beginning of which it has the most."""
        # Of several that have as many the one that came last.
        party = max(reversed(self._waiting.values()), key=_size)
        job = max(reversed(party.values()), key=len)[-1]
        party[job.beginning].pop()
        if not party[job.beginning]:
            del party[job.beginning]
        if not party:
            del self._waiting[job.party]
        job.fail(_overload())


def _size(party: dict[str, deque[_Job]]) -> int:
    return sum(map(len, party.values()))


def _overload() -> LookupOverloadError:
    return LookupOverloadError(reason="too many keys wait for their first use")
