"""Write the pictures of the documents into `deploy/pictures`; runs in the tests' environment.

python3 -m tests.pictures            # all of them: over a minute
python3 -m tests.pictures demo       # only the terminal
python3 -m tests.pictures console    # only the console
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from tests.pictures import console, demo
from tests.running import ROOT

PICTURES: Final = ROOT / "deploy" / "pictures"
DEMO: Final = PICTURES / "demo.svg"


async def write(what: str) -> None:
    """Write the pictures of the demo, of the console, or all."""
    if what != "console":
        DEMO.write_text(demo.picture(await demo.recorded()), encoding="utf-8")
    if what != "demo":
        await console.take(PICTURES)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.pictures", description="Write the pictures of the documents."
    )
    parser.add_argument("what", nargs="?", choices=["demo", "console", "all"], default="all")
    try:
        asyncio.run(write(parser.parse_args(arguments).what))
    except demo.DemoFailedError as failure:
        sys.stderr.write(f"tests.pictures: a step of the demo did not go as expected:\n{failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
