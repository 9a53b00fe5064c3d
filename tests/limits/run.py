"""Measure what a limit of 100/s lets through over three gateways; runs in the tests' environment.

Rules kept here:
- The first second is not counted: a key that was idle may send its burst.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.gateways import StartError
from tests.limits.stage import Passed, measured, staged
from tests.limits.verdict import SETTLED_SECONDS, TOLERANCE
from tests.sections import Section, paragraph

RATE = 100
LOADS = {"even": (100, 100, 100), "80/15/5": (240, 45, 15), "one gets all": (300, 0, 0)}
FAULTS = {"": 0.0, "Redis is away for 1 s": 1.0, "Redis is away for 4 s": 4.0}
SECTION = Section("limits", "Shared limits", "python3 -m tests.limits")


@dataclass(frozen=True, slots=True)
class Run:
    """One load with one fault: what passed in a second on average, in the least and in the most of them."""

    load: str
    fault: str
    rate: float
    least: float
    most: float

    @property
    def good(self) -> bool:
        return abs(self.rate - RATE) <= RATE * TOLERANCE


def judged(load: str, fault: str, passed: Passed, began: float, seconds: float) -> Run:
    """Return the figures of a run that began at `began` (monotonic seconds)."""
    settled = began + SETTLED_SECONDS
    whole = int(seconds - SETTLED_SECONDS)
    each = [passed.between(settled + second, settled + second + 1) for second in range(whole)]
    return Run(load, fault, passed.between(settled, began + seconds), min(each), max(each))


async def measure(seconds: float, folder: Path) -> list[Run]:
    """Play every load with every fault."""
    runs = []
    for number, (fault, pause) in enumerate(FAULTS.items()):
        for load, rates in LOADS.items():
            place = folder / f"{number}-{rates[0]}"
            place.mkdir()
            async with staged(place, {"LIMITS__RATE": f"{RATE}/s"}) as stage:
                restart = (lambda stage=stage, pause=pause: stage.restart_redis(pause)) if pause else None
                passed, began = await measured(stage, rates, seconds, restart)
            runs.append(judged(load, fault, passed, began, seconds))
            sys.stderr.write(f"{runs[-1]}\n")
    return runs


def table(runs: Sequence[Run], seconds: float) -> Iterator[str]:
    """Yield the section for the README, line by line."""
    yield paragraph(
        f"Three gateways as processes of their own share a limit of {RATE}/s through one real Redis, and get "
        f"300 requests a second with one key for {seconds:g} s. The table has the requests that passed in a "
        f"second, after the first {SETTLED_SECONDS:g} s, in which a new key sends its burst. Redis is killed "
        "in the middle, and comes back with its keys and without the buckets of the limits; `keys.grace` is "
        "30 s, and `limits.on_store_failure` is `local`."
    )
    yield ""
    yield "| load on the three | while | passed in a second | least and most of a second |"
    yield "|---|---|--:|--:|"
    for run in runs:
        fault = run.fault or "nothing fails"
        yield f"| {run.load} | {fault} | {run.rate:.1f} | {run.least:.0f}, {run.most:.0f} |"


def _say(text: str) -> None:
    sys.stderr.write(f"tests.limits: {text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="the time of each run")
    parser.add_argument("--write", action="store_true", help="write the table into tests/README.md")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="blnk-gateway-limits-") as folder:
        try:
            runs = asyncio.run(measure(given.seconds, Path(folder)))
        except StartError as problem:
            sys.stderr.write(f"tests.limits: {problem}\n")
            return 2
    text = "\n".join(table(runs, given.seconds))
    sys.stdout.write(text + "\n")
    if given.write:
        SECTION.write(text, _say)
    return 0 if all(run.good for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
