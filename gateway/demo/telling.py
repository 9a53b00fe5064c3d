"""How the walk is told: for people on a terminal in colours, on a pipe as plain text.

Rules kept here:
- A request stands there as a person would type it, with the key in a shell variable.
- Lines are never broken: what is shown can be copied and pasted.
"""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.text import Text

from gateway.config import Secret
from gateway.demo.story import Key, Request, Step

_CONTENT = "-H 'Content-Type: application/json'"


class Teller:
    """Tells the walk on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._yes, self._no = ("✓", "✗") if _shows(console, "✓✗") else ("ok", "NOT AS EXPECTED")

    def beginning(self, base: str) -> None:
        """Say what stands where."""
        self._say(Text("Blnk Gateway, in front of a stand-in ledger in this process", style="bold"))
        self._say(Text(f"Keys in memory, the routes that ship, clients at {base}\n"))

    def step(self, base: str, step: Step) -> None:
        """What was done, the request, and what came of it."""
        self._number += 1
        mark, style = (self._yes, "green") if step.holds else (self._no, "bold red")
        self._say(Text(f"{self._number:2}  {step.title}", style="bold"))
        self._say(Text(f"    $ {curl(base, step.request)}", style="dim"))
        came = Text(f"    {mark} ", style=style).append(f"{step.reply.status or 'no status'}", style="bold")
        self._say(came.append(f" {step.telling}".rstrip(), style="default"))
        self._say(Text(""))

    def ending(self, failed: int) -> None:
        """How many steps came out as they should."""
        total = self._number
        if failed:
            self._say(Text(f"{failed} of {total} steps came out otherwise.", style="bold red"))
        else:
            self._say(Text(f"All {total} steps came out as they should.", style="bold green"))

    def invitation(self, base: str, master: Secret, key: Secret, log: str) -> None:
        """Lines to paste while the gateway stays up."""
        pasted = Key("", key)
        by_master = Key("", master)
        mint = '{"name":"mine","owner":"me","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}'
        lines = (
            ("write", Request("POST", "/ledgers", pasted, '{"name":"Customers"}')),
            ("read", Request("GET", "/ledgers", pasted)),
            ("what alice has", Request("GET", "/balances/indicator/@alice/currency/USD", pasted)),
            ("not in this key's scopes", Request("GET", "/accounts", pasted)),
            ("mint a key of your own", Request("POST", "/api-keys", by_master, mint)),
        )
        self._say(Text("\nIt stays up. Paste into another terminal:\n", style="bold"))
        for title, request in lines:
            self._say(Text(f"# {title}", style="dim"))
            self._say(Text(curl(base, request, after=" -w ' %{http_code}\\n'")))
        self._say(Text("# one line for each request", style="dim"))
        self._say(Text(f"tail -f {shlex.quote(log)}"))
        self._say(Text("\nCtrl-C ends it, and every key with it.", style="bold"))

    def problem(self, text: str) -> None:
        """Why the walk could not be made."""
        self._say(Text(text, style="bold red"))

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)


def curl(base: str, request: Request, *, after: str = "") -> str:
    """The request as a shell command; a key with a name stands there as $NAME."""
    words = ["curl"]
    if request.method != ("POST" if request.body else "GET"):  # what curl takes of itself
        words.append(f"-X {request.method}")
    words.append(shlex.quote(base + request.target))
    if request.key is not None:
        words.append(_key_header(request.key))
    if request.body:
        words += [_CONTENT, f"-d {shlex.quote(request.body)}"]
    return " ".join(words) + after


def _key_header(key: Key) -> str:
    # Double quotes, for the shell to put the variable in.
    return f'-H "X-Blnk-Key: ${key.name}"' if key.name else f"-H 'X-Blnk-Key: {key.secret.reveal()}'"


def _shows(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
