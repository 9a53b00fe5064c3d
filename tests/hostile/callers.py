"""Clients that an attack must not affect: a well-behaved one, a probe of health, and keys that are revoked.

Rules kept here:
- Each request is sent when it is due, whatever became of those before: a wait counts from when it was due.
- They call from an address that no attacker has.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from collections import deque
from dataclasses import dataclass

from gateway.config import Address
from tests.hostile.bounds import Outcome, Revoked
from tests.hostile.core import NOTED
from tests.raw_client import PATIENCE, BrokenResponse, RawClient, request
from tests.running import MASTER_KEY

LOCAL = "127.0.0.2"
LINGERS = 1.2
"""Seconds that requests with a key go on after its revocation, so that a key that lives longer is seen."""

_STREAMED = 80 * 1024
_PAUSE = 0.01
_AGAIN_SECONDS = 0.05
_OWNERS = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A listener for clients as these reach it: over TLS with a context."""

    address: Address
    tls: ssl.SSLContext | None = None

    async def connect(self) -> RawClient:
        return await RawClient.connect(self.address, keep=False, local=LOCAL, tls=self.tls)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the gateway, and its id."""

    key: str
    id: str
    owner: str


class Paced:
    """A task that acts `rate` times a second, from `start` to `stop`."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._pacing: asyncio.Task[None] | None = None
        self._acting: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def act(self) -> None:
        """Act once."""
        raise NotImplementedError

    def start(self) -> None:
        self._pacing = asyncio.ensure_future(self._pace())

    async def stop(self) -> None:
        """Begin nothing more, and wait for what was begun. Raises its failures."""
        if self._pacing is not None:
            self._pacing.cancel()
            await asyncio.gather(self._pacing, return_exceptions=True)
        await asyncio.gather(*self._acting, return_exceptions=True)
        for failure in self._failures:
            raise failure

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            task = loop.create_task(self.act())
            self._acting.add(task)
            task.add_done_callback(self._acted)
            due += self._gap
            await asyncio.sleep(due - loop.time())

    def _acted(self, task: asyncio.Task[None]) -> None:
        self._acting.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)


class Caller(Paced):
    """A client that keeps its outcomes; `take` begins them anew."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.outcomes: list[Outcome] = []

    def take(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        taken, self.outcomes = self.outcomes, []
        return taken

    async def ask(self) -> str:
        """Return the status of one response."""
        raise NotImplementedError

    async def act(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                result = await self.ask()
        except TimeoutError:
            result = "no response"
        except BrokenResponse as broken:
            result = "cut" if broken.received else "lost"
        except OSError:
            result = "refused"
        self.outcomes.append(Outcome(time.monotonic() - began, result))


class WellBehaved(Caller):
    """A client that sends reads on a kept connection, and stamped creates and uploads on new ones."""

    def __init__(self, entry: Entry, keys: list[Key], rate: float) -> None:
        super().__init__(rate)
        self._entry = entry
        self._keys = itertools.cycle(keys)
        self._turns = itertools.cycle([self._read, self._create, self._upload])
        # The connection that has rested longest goes first, so that none rests until the gateway closes it.
        self._kept: deque[RawClient] = deque()

    async def ask(self) -> str:
        turn = next(self._turns)
        return await turn(next(self._keys).key)

    async def _read(self, key: str) -> str:
        client = self._kept.popleft() if self._kept else await self._entry.connect()
        response = await client.ask("GET", "/ledgers?limit=1", key=key)
        self._kept.append(client)
        return str(response.status)

    async def _create(self, key: str) -> str:
        body = json.dumps({"precise_amount": 10**30, "reference": "r"}).encode()
        return await self._once(request("POST", "/transactions", key=key, body=body))

    async def _upload(self, key: str) -> str:
        data = request("POST", "/transactions/filter", key=key, body=b" " * _STREAMED)
        return await self._once(data[: _STREAMED // 2], data[_STREAMED // 2 :])

    async def _once(self, *parts: bytes) -> str:
        async with await self._entry.connect() as client:
            for part in parts[:-1]:
                await client.send(part)
                await asyncio.sleep(_PAUSE)
            return str((await client.call(parts[-1])).status)

    async def close(self) -> None:
        for client in self._kept:
            await client.close()


class Probe(Caller):
    """A probe of whether the process is alive, on a new connection each time."""

    def __init__(self, address: Address, rate: float) -> None:
        super().__init__(rate)
        self._address = address

    async def ask(self) -> str:
        async with await RawClient.connect(self._address, keep=False, local=LOCAL) as client:
            return str((await client.ask("GET", "/health/alive", host=str(self._address))).status)


async def mint(entry: Entry, owner: str, *scopes: str) -> Key:
    """Mint a key. Raises AssertionError if it is refused."""
    wanted = {"name": "n", "owner": owner, "scopes": scopes, "expires_at": "2099-01-01T00:00:00Z"}
    async with await entry.connect() as client:
        response = await client.ask("POST", "/api-keys", key=MASTER_KEY, body=json.dumps(wanted).encode())
    assert response.status == 201, response
    made = response.json()
    return Key(made["key"], made["api_key_id"], owner)


class Revocations(Paced):
    """Keys that are made, used at the attacked gateway, and revoked there or at the other one, in turn."""

    def __init__(self, attacked: Entry, other: Entry, core: Address, rate: float) -> None:
        super().__init__(rate)
        self.revoked: list[Revoked] = []
        self.trouble: list[str] = []
        self._attacked = attacked
        self._at = itertools.cycle([other, attacked])
        self._other = other
        self._core = core
        self._numbers = itertools.count()

    async def act(self) -> None:
        number, at = next(self._numbers), next(self._at)
        name, began = f"round{number}", time.monotonic()
        try:
            # Several owners, since each may have only so many records.
            key = await mint(self._other, f"revoked-{number % _OWNERS}", "ledgers:read")
        except (OSError, TimeoutError, BrokenResponse, AssertionError) as problem:
            self.trouble.append(f"no key was made: {problem}")
            return
        used = asyncio.Event()
        using = asyncio.ensure_future(self._use(key, name, used))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await used.wait()
            first = time.monotonic()
            refused = await self._revoke(key, at)
            dead = time.monotonic()
            await asyncio.sleep(LINGERS)
        finally:
            using.cancel()
            await asyncio.gather(using, return_exceptions=True)
        lag = max(0.0, await self._last_arrival(name) - dead)
        self.revoked.append(Revoked(first - began, dead - first, refused, lag))

    async def _use(self, key: Key, name: str, used: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, BrokenResponse):
                async with await self._attacked.connect() as client:
                    while True:
                        response = await client.ask("GET", f"/ledgers?mark={name}", key=key.key)
                        if response.status == 200:
                            used.set()
                        await asyncio.sleep(_PAUSE)
            await asyncio.sleep(_PAUSE)

    async def _revoke(self, key: Key, at: Entry) -> int:
        """Revoke a key until a 204 comes; return how often the DELETE was refused before."""
        for refused in itertools.count():
            with contextlib.suppress(OSError, TimeoutError, BrokenResponse):
                async with await at.connect() as client:
                    target = f"/api-keys/{key.id}?owner={key.owner}"
                    if (await client.ask("DELETE", target, key=MASTER_KEY)).status == 204:
                        return refused
            if refused * _AGAIN_SECONDS > PATIENCE:
                break
            await asyncio.sleep(_AGAIN_SECONDS)
        return refused

    async def _last_arrival(self, name: str) -> float:
        async with await RawClient.connect(self._core, keep=False) as client:
            return float((await client.ask("GET", f"{NOTED}?mark={name}", key=MASTER_KEY)).body)
