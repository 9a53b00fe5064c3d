"""Run every scenario in turn and write the table into `tests/README.md`; runs in the tests' environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.gateways import StartError
from tests.faults.report import SECTION, Row, table, violations
from tests.faults.scenarios import RECOVERY_SECONDS, SCENARIOS, play
from tests.faults.stage import FULL, SHORT, Pace
from tests.sections import paragraph


def legend(pace: Pace) -> str:
    """Return the text above the table."""
    return paragraph(
        f"{pace.rate:.0f} requests a second, a mix of reads, creates, streamed uploads and new keys: "
        f"{pace.calm:g} s without a fault, the fault, then again without. The verdict is ok if: every "
        "request got exactly one response, its own; no POST reached Core twice; every acknowledged create is "
        "in Core's record with its key's stamp, and every acknowledged key in the store; and requests failed "
        f"only as shown, not before the fault, and not later than {RECOVERY_SECONDS:g} s after its end. "
        "*In doubt* are creates that Core recorded although the client was told of a failure; the client can "
        "only find out with a reference of its own. `cut` is a connection that ended within the response, "
        f"`lost` one that ended before it. The balancer ignores for {pace.ignores:g} s that a replica is not "
        f"ready; `drain.delay` is {pace.drain_delay:g} s."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.faults", description=__doc__)
    parser.add_argument(
        "--only", default="", help="only scenarios whose name contains this text; prints only"
    )
    parser.add_argument("--short", action="store_true", help="short faults, as in the tests; prints only")
    given = parser.parse_args()
    pace = SHORT if given.short else FULL
    rows: list[Row] = []
    for scenario in SCENARIOS:
        if given.only not in scenario.name:
            continue
        say(scenario.name)
        with TemporaryDirectory(prefix="blnk-gateway-faults-") as folder:
            try:
                rows.append(Row(scenario, asyncio.run(play(scenario, pace, Path(folder)))))
            except StartError as problem:
                say(str(problem))
                return 2
    lines = "\n".join(table(rows))
    found = list(violations(rows))
    sys.stdout.write("\n".join([lines, "", *found]) + "\n")
    if not given.only and not given.short:
        SECTION.write(f"{legend(pace)}\n\n{lines}", say)
    return 1 if found else 0


def say(text: str) -> None:
    sys.stderr.write(f"tests.faults: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
