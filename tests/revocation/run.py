"""Revoke keys during each failure, and print how long they lived; runs in the tests' environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.gateways import StartError
from tests.revocation.report import table
from tests.revocation.scenarios import FAILOVERS, SCENARIOS, Failover, Play, single
from tests.revocation.stage import BOUND


async def measure(
    rounds: int,
    failovers: int,
    folder: Path,
    plays: Sequence[Play] = SCENARIOS,
    kinds: Sequence[Failover] = FAILOVERS,
) -> dict[str, list[float]]:
    """Return the lags of every scenario by its name, in seconds, one for each revocation and replica."""
    lags: dict[str, list[float]] = {}
    async with single(folder / "single") as playing:
        for play in plays:
            name = str(play.__doc__)
            for _ in range(rounds):
                lags.setdefault(name, []).extend(await play(playing))
    for kind, failover in enumerate(kinds):
        for number in range(failovers):
            async with failover.open(folder / f"failover-{kind}-{number}") as playing:
                lags.setdefault(str(failover), []).extend(await failover.play(playing))
    return lags


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.revocation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="revocations in each scenario")
    parser.add_argument("--failovers", type=int, default=5, help="failovers of each kind")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="blnk-gateway-revocation-") as folder:
        try:
            lags = asyncio.run(measure(given.rounds, given.failovers, Path(folder)))
        except StartError as problem:
            sys.stderr.write(f"tests.revocation: {problem}\n")
            return 2
    sys.stdout.write("\n".join(table(lags)) + "\n")
    return 1 if max(map(max, lags.values())) > BOUND else 0


if __name__ == "__main__":
    sys.exit(main())
