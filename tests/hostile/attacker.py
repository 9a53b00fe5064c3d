"""An attacker in a process of its own: `python -m tests.hostile.attacker NAME TARGET`.

Rules kept here:
- It keeps as many connections as the attack says, and begins each anew when it is over, until standard
  input ends.
- Responses are counted by status, and printed at the end as JSON.
- It has a low priority, since real attackers would use processors of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections import Counter

import uvloop

from tests.hostile.attacks import ATTACKS, Attack
from tests.hostile.lines import Line, Target

_NICE = 5
_AT_ONCE = 50
_PAUSE = 0.02
_AGAIN_SECONDS = 0.05


async def carry_out(attack: Attack, target: Target, counts: Counter[str]) -> None:
    """Attack until cancelled."""
    async with asyncio.TaskGroup() as group:
        for number in range(attack.connections):
            group.create_task(_again(attack, target, number, counts))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(_PAUSE)


async def _again(attack: Attack, target: Target, number: int, counts: Counter[str]) -> None:
    address = target.address(number % attack.addresses)
    port = target.ports[attack.listeners[number % len(attack.listeners)]]
    while True:
        try:
            async with Line(target, counts, receive_buffer=attack.receive_buffer) as line:
                await line.connect(address, port)
                await attack.behave(line)
        except (OSError, EOFError):
            counts["cut"] += 1
            await asyncio.sleep(_AGAIN_SECONDS)


async def _main(name: str, target: Target) -> Counter[str]:
    counts: Counter[str] = Counter()
    attack = next(attack for attack in ATTACKS if attack.name == name)
    carrying = asyncio.ensure_future(carry_out(attack, target, counts))
    ending = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({carrying, ending}, return_when=asyncio.FIRST_COMPLETED)
    carrying.cancel()
    # An attack that ended before its time has a fault, which is raised.
    await asyncio.gather(carrying, return_exceptions=not carrying.done())
    return counts


def main() -> None:
    os.nice(_NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    name, target = sys.argv[1:]
    counts = uvloop.run(_main(name, Target(**json.loads(target))))
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()
