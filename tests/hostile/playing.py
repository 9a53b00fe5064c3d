"""One attack from its beginning to its end, and what is measured during it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from tests.hostile.attacks import Attack
from tests.hostile.bounds import Measured, Usage
from tests.hostile.callers import LINGERS, Entry, Probe, Revocations, WellBehaved, mint
from tests.hostile.lines import Target
from tests.hostile.process import descriptors, memory, module, most_memory
from tests.hostile.stage import Stage, staged

RATE = 18.0
_PROBES = 10.0
_REVOCATIONS = 1.5
_CALM = 0.5
_WATCH_SECONDS = 0.1
_IDLE_PATIENCE = 3.0
SCOPES = ("ledgers:*", "transactions:*", "reconciliation:*")


async def play(attack: Attack, seconds: float, folder: Path) -> Measured:
    """Attack for so many seconds. Raises StartError."""
    async with staged(attack.gateway, folder) as stage:
        good = await mint(stage.entry, "good", *SCOPES)
        target = await target_of(stage)
        client = WellBehaved(stage.entry, [good], RATE)
        probe = Probe(stage.attacked.admin, _PROBES)
        revocations = Revocations(stage.entry, Entry(stage.other.listen), stage.core, _REVOCATIONS)
        client.start()
        probe.start()
        await asyncio.sleep(_CALM)
        pid = stage.attacked.process.pid
        at_rest = memory(pid)
        async with watched(pid) as seen, attacked(attack, target) as counts:
            client.take(), probe.take()
            revocations.start()
            await asyncio.sleep(max(0.0, seconds - LINGERS))
            revoking = asyncio.ensure_future(revocations.stop())
            await asyncio.sleep(min(seconds, LINGERS))
            await client.stop()
            await probe.stop()
            await revoking
        await client.close()
        usage = Usage(at_rest, most_memory(pid), max(seen))
        held = await stage.attacked.held(_IDLE_PATIENCE)
        left = [f"{held} connections or requests were held behind the attack's end"] if held else []
        trouble = (*revocations.trouble, *stage.attacked.trouble(), *left)
    return Measured(client.outcomes, probe.outcomes, revocations.revoked, usage, counts, trouble)


async def target_of(stage: Stage) -> Target:
    """Return the gateway as an attacker knows it, with keys of its own."""
    key = await mint(stage.entry, "mallory", *SCOPES)
    minter = await mint(stage.entry, "mallory", "api-keys:*", "ledgers:read")
    return Target(stage.ports, key.key, minter.key)


@asynccontextmanager
async def attacked(attack: Attack, target: Target) -> AsyncIterator[Counter[str]]:
    """Attack inside the block; the counter is filled at its end."""
    counts: Counter[str] = Counter()
    async with module("tests.hostile.attacker", attack.name, json.dumps(asdict(target))) as attacker:
        yield counts
        counted, _ = await attacker.communicate(b"")
    counts.update(json.loads(counted))


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[list[int]]:
    """Record now and then how many descriptors the process has."""
    seen = [descriptors(pid)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            seen.append(descriptors(pid))

    watching = asyncio.ensure_future(watch())
    try:
        yield seen
    finally:
        watching.cancel()
