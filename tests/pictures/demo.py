"""Records the demo on a terminal, and draws the part that a stranger should see first.

Rules kept here:
- The gateway, its ledger and the printer are those of `blnk-gateway demo`; only the terminal is not real.
- What differs from one run to the next, as ids and ports, becomes the same each time.
"""

from __future__ import annotations

import io
import re
from typing import Final

from rich.console import Console
from rich.text import Text

from gateway.demo import demo
from gateway.server.exit_codes import Exit
from tests.pictures.terminal import drawn, lines_of

TITLE: Final = (
    "A terminal with a part of the demo of Blnk Gateway: a request without a key gets 401, a key that may "
    "only read gets 403 for a write, a forged stamp is replaced by the id of the key that wrote, an amount "
    "of 20 digits is stored unchanged, and a revoked key gets 401."
)
_COMMAND: Final = ".venv/bin/blnk-gateway demo"
_WIDTH: Final = 104
_SHOWN_STEPS: Final = frozenset({3, 5, 6, 9, 10, 11, 12})
_CLIENTS, _ADMIN = "127.0.0.1:5001", "127.0.0.1:40001"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PORT: Final = re.compile(r"127\.0\.0\.1:(\d+)")
_STEP: Final = re.compile(r" ?(\d+)  \S")


class DemoFailedError(Exception):
    """A step of the demo was not as expected; the text is what the demo printed."""


async def recorded() -> str:
    """Return what the demo prints on a terminal. Raises DemoFailedError."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=_WIDTH, color_system="standard")
    if await demo(console, once=True, port=0, program=".venv/bin/blnk-gateway") != Exit.OK:
        raise DemoFailedError(out.getvalue())
    return repeatable(out.getvalue())


def repeatable(printed: str) -> str:
    """Return the text with numbered ids, the usual port for clients, and one free port for operators."""
    ids: dict[str, str] = {}
    ports: dict[str, str] = {}

    def id_of(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"00000000-0000-4000-8000-{len(ids) + 1:012}")

    def port_of(found: re.Match[str]) -> str:
        # The first address is that for clients.
        return ports.setdefault(found[1], _ADMIN if ports else _CLIENTS)

    return _PORT.sub(port_of, _UUID.sub(id_of, printed))


def picture(printed: str) -> str:
    """Return the picture of what the demo has printed."""
    return drawn(shown(lines_of(printed)), TITLE)


def shown(lines: list[Text]) -> list[Text]:
    """Return the beginning, some steps and the result, with a mark where steps are left out."""
    kept = [Text.assemble(("$ ", "dim"), _COMMAND), *_beginning(lines)]
    step, is_left_out = 0, True
    for line in lines:
        found = _STEP.match(line.plain)
        if found is not None:
            step = int(found[1])
            if step not in _SHOWN_STEPS:
                is_left_out = True
            elif is_left_out:
                kept[-1:] = [Text.assemble(("⋮", "dim"))]
                is_left_out = False
        if line.plain.startswith("All "):
            return [*kept, line]
        if step in _SHOWN_STEPS:
            kept.append(line)
    return kept


def _beginning(lines: list[Text]) -> list[Text]:
    """Return the lines up to the first blank one, and that one."""
    blank = next(number for number, line in enumerate(lines) if not line.plain)
    return lines[: blank + 1]
