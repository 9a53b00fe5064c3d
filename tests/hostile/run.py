"""Attack a gateway in every way in turn and write the table into `tests/README.md`; in the tests' environment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.gateways import StartError
from tests.hostile.attacks import ATTACKS
from tests.hostile.playing import RATE, play
from tests.hostile.report import SECTION, Row, table
from tests.running import ROOT
from tests.sections import paragraph

README = ROOT / "tests" / "README.md"
SECONDS = 12.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose name holds this; the table is only printed")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each attack; if less, likewise")
    given = parser.parse_args()
    rows = []
    for attack in ATTACKS:
        if given.only not in attack.name:
            continue
        say(attack.name)
        with TemporaryDirectory(prefix="blnk-gateway-hostile-") as folder:
            try:
                row = Row(attack, asyncio.run(play(attack, given.seconds, Path(folder))))
            except StartError as problem:
                say(str(problem))
                return 2
        rows.append(row)
        for text in row.broken:
            say(f"  {text}")
    sys.stdout.write("\n".join(table(rows)) + "\n")
    return 1 if any(row.broken for row in rows) else 0


def say(text: str) -> None:
    sys.stderr.write(f"tests.hostile: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
