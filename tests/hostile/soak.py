"""Minutes of mixed load, with floods in bursts, clients that leave and keys that come and go; what grows.

Rules kept here:
- A sample is taken at the end of the pause after each burst, so that what a burst holds does not count.
- Each kind of burst has come once by the end of the first quarter: what grows after it is a leak.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.hostile.attacks import ATTACKS, Attack, Gateway
from tests.hostile.bounds import Outcome, Revoked
from tests.hostile.callers import Entry, Key, Paced, Probe, Revocations, WellBehaved, mint
from tests.hostile.playing import SCOPES, attacked, target_of, watched
from tests.hostile.process import descriptors, memory, most_memory
from tests.hostile.stage import Stage, staged
from tests.running import MASTER_KEY, ROOT

RATE: Final = 60.0
BURSTS: Final = (
    "unknown keys",
    "refusals",
    "readers of nothing",
    "half sent uploads",
    "reconnects",
    "half sent heads",
)
CHURN: Final = 2.0
"""Keys that are made, used and revoked in a second."""
ROTATED_SECONDS: Final = 10.0

_KEYS: Final = 6
_PROBES: Final = 5.0
_LONGEST_TURN: Final = 20.0
_BURST_PART: Final = 0.3
_QUARTERS: Final = 4
_TROUBLE: Final = f'Traceback|never retrieved|"event": ?"fault"|{MASTER_KEY}'
_CONDITIONS: Final = Gateway(rate=5000)


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources at a moment, in seconds since the beginning; bytes, except for descriptors."""

    at: float
    memory: int
    descriptors: int
    redis: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """The results of a soak; `peak_` is of every moment, not only of samples."""

    samples: Sequence[Sample]
    peak_memory: int
    peak_descriptors: int
    asked: Sequence[Outcome]
    alive: Sequence[Outcome]
    revoked: Sequence[Revoked]
    rotated: int
    trouble: Sequence[str]


async def soak(minutes: float, folder: Path, bursts: Sequence[str] = BURSTS) -> Soaked:
    """Soak, with `bursts` by the names of attacks. Raises StartError."""
    seconds = 60 * minutes
    with _filtered(folder / "trouble.txt") as log:
        async with staged(_CONDITIONS, folder, log=log) as stage, AsyncExitStack() as stack:
            keys = [await mint(stage.entry, f"owner-{number}", *SCOPES) for number in range(_KEYS)]
            client = WellBehaved(stage.entry, keys, RATE)
            probe = Probe(stage.attacked.admin, _PROBES)
            revocations = Revocations(stage.entry, Entry(stage.other.listen), stage.core, CHURN)
            rotations = Rotations(stage, folder)
            for paced in (client, probe, revocations, rotations):
                paced.start()
                stack.push_async_callback(paced.stop)
            seen = await stack.enter_async_context(watched(stage.attacked.process.pid))
            samples = [sample async for sample in _sampled(stage, seconds, bursts)]
            for paced in (revocations, rotations, client, probe):
                await paced.stop()
            await client.close()
            trouble = [*revocations.trouble, *rotations.trouble, *stage.attacked.trouble()]
            most = most_memory(stage.attacked.process.pid)
    trouble += (folder / "trouble.txt").read_text().splitlines()
    return Soaked(
        samples,
        most,
        max(seen),
        client.outcomes,
        probe.outcomes,
        revocations.revoked,
        rotations.count,
        trouble,
    )


async def _sampled(stage: Stage, seconds: float, bursts: Sequence[str]) -> AsyncIterator[Sample]:
    """Send bursts in turn, pause after each, and take a sample."""
    turn = min(_LONGEST_TURN, seconds / _QUARTERS / len(bursts))
    began, target = time.monotonic(), await target_of(stage)
    async with attacked(_named("aborts"), target):
        for burst in itertools.cycle(bursts):
            async with attacked(_named(burst), target):
                await asyncio.sleep(turn * _BURST_PART)
            await asyncio.sleep(turn * (1 - _BURST_PART))
            pid, at = stage.attacked.process.pid, time.monotonic() - began
            yield Sample(at, memory(pid), descriptors(pid), _redis_memory(stage))
            if at >= seconds:
                return


def _named(name: str) -> Attack:
    return next(attack for attack in ATTACKS if attack.name == name)


def _redis_memory(stage: Stage) -> int:
    lines = stage.redis.command("INFO", "memory").splitlines()
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"used_memory:"))


class Rotations(Paced):
    """A key that is rotated by the command again and again, and must work at once."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        super().__init__(1 / ROTATED_SECONDS)
        self.count = 0
        self.trouble: list[str] = []
        self._stage = stage
        self._folder = folder
        self._key: Key | None = None

    async def act(self) -> None:
        if self._key is None:
            self._key = await mint(self._stage.entry, "rotated", "ledgers:read")
        new = self._folder / f"rotated-{self.count}"
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("blnk-gateway"), "keys", "rotate", self._key.id),
            *("--overlap", "5s", "--out", new, "--output", "json", "--config", ROOT / "gateway.yaml"),
            env=os.environ | {"BLNK_GATEWAY_KEYS__STORE": self._stage.redis.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, problem = await process.communicate()
        if process.returncode != 0:
            self.trouble.append(f"a key could not be rotated: {problem.decode().strip()}")
            return
        self.count += 1
        self._key = Key(new.read_text().strip(), json.loads(output)["id"], "rotated")
        async with await self._stage.entry.connect() as client:
            response = await client.ask("GET", "/ledgers", key=self._key.key)
        if response.status != 200:
            self.trouble.append(f"a rotated key got {response.status}")


@contextmanager
def _filtered(file: Path) -> Iterator[int]:
    """Open a descriptor to log to; lines that report trouble go into the file."""
    with file.open("wb") as kept:
        command = ["grep", "--line-buffered", "--extended-regexp", _TROUBLE]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=kept) as reader:
            assert reader.stdin is not None
            yield reader.stdin.fileno()
