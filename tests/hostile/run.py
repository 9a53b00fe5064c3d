"""Attack a gateway in every way in turn, or for long in many; write the tables into `tests/README.md`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.gateways import StartError
from tests.hostile import report, soak_report
from tests.hostile.attacks import ATTACKS, Attack
from tests.hostile.playing import RATE, play
from tests.hostile.soak import BURSTS, CHURN, ROTATED_SECONDS, soak
from tests.hostile.soak import RATE as SOAK_RATE
from tests.sections import paragraph

SECONDS = 12.0
MINUTES = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose name holds this; the table is only printed")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of each attack, {SECONDS:g}; if fewer, likewise"
    )
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help=f"soak instead; if fewer than {MINUTES:g}, likewise"
    )
    parser.add_argument("--list", action="store_true", help="name the attacks")
    given = parser.parse_args()
    chosen = [attack for attack in ATTACKS if given.only in attack.name]
    if not chosen:
        parser.error(f"no attack has {given.only!r} in its name; --list names them")
    if given.list:
        sys.stdout.write("".join(f"{attack.name}: {attack.what}\n" for attack in chosen))
        return 0
    try:
        if given.soak is not None:
            return soaked(given.soak)
        return attacked(chosen, given.seconds, keep=not given.only and given.seconds >= SECONDS)
    except StartError as problem:
        say(str(problem))
        return 2


def attacked(chosen: Sequence[Attack], seconds: float, *, keep: bool) -> int:
    """Attack and print the table; return 1 if a bound is broken. Raises StartError."""
    rows = []
    for attack in chosen:
        say(attack.name)
        with TemporaryDirectory(prefix="blnk-gateway-hostile-") as folder:
            row = report.Row(attack, asyncio.run(play(attack, seconds, Path(folder))))
        for text in row.broken:
            say(f"  {text}")
        rows.append(row)
    lines = "\n".join(report.table(rows))
    sys.stdout.write(lines + "\n")
    if keep:
        report.SECTION.write(f"{paragraph(_legend(seconds))}\n\n{lines}", say)
    return 1 if any(row.broken for row in rows) else 0


def soaked(minutes: float) -> int:
    """Soak and print the table; return 1 if something grows or a key lived on. Raises StartError."""
    say(f"{minutes:g} minutes")
    with TemporaryDirectory(prefix="blnk-gateway-hostile-") as folder:
        found = asyncio.run(soak(minutes, Path(folder)))
    lines = "\n".join(soak_report.table(found))
    text = f"{paragraph(_soak_legend(minutes))}\n\n{lines}\n\n{paragraph(soak_report.summary(found))}"
    broken = soak_report.broken(found)
    sys.stdout.write("\n".join([text, "", *broken]) + "\n")
    if minutes >= MINUTES:
        soak_report.SECTION.write(text, say)
    return 1 if broken else 0


def _legend(seconds: float) -> str:
    return (
        f"Each attack lasts {seconds:g} s, and comes from a process of its own and from addresses of its own."
        f" Meanwhile a well-behaved client with a key of its own sends {RATE:g} requests a second: a GET on "
        "a kept connection, a stamped POST and a streamed POST of 80 KiB on new connections, in turn. "
        "*Failed* are its requests that got no 2xx; a wait counts from the moment at which the request was "
        "due. Keys are made, used at the attacked gateway, and revoked there or at another gateway, in turn. "
        "*Revoked in* is the longest time from the first DELETE to the 204, *lag* the longest time from the "
        "204 to the last request with that key that reached Core. *MiB* is the resident memory before the "
        "attack and at its peak. The settings are the shipped ones, except where the attack names another. "
        "The verdict names each limit that is broken."
    )


def _soak_legend(minutes: float) -> str:
    return (
        f"{minutes:g} minutes of {SOAK_RATE:g} requests a second, as above, with six keys. 100 connections "
        "leave at any moment of a request. One further attack runs at a time, in bursts with a pause after "
        f"each: {', '.join(BURSTS)}. {CHURN:g} keys a second are made, used and revoked, and every "
        f"{ROTATED_SECONDS:g} s `blnk-gateway keys rotate` replaces one. A sample is taken at the end of "
        "each pause. Each kind of burst has come once when the first quarter ends. *Per minute* is the slope "
        "after that. The growth from the second quarter to the last is limited."
    )


def say(text: str) -> None:
    sys.stderr.write(f"tests.hostile: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
