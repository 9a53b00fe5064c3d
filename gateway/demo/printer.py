"""Prints the walk: in colours on a terminal, as plain text on a pipe.

Rules kept here:
- A request is shown as a person would type it, with keys in shell variables that are defined before it.
- On a terminal, lines are broken between words, and a command so that it can be pasted. On a pipe lines are
  never broken.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from gateway.config import Secret
from gateway.demo.steps import DemoRequest, DemoStep, Key, Variable
from gateway.demo.wrapping import command_lines, json_lines

_CONTENT: Final = "-H 'Content-Type: application/json'"
_STATUS: Final = "-w ' %{http_code}\\n'"
_INDENT: Final = "    "
_WHOLE: Final = 1_000_000
"""More characters than any line has."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs for clients and for operators."""

    clients: str
    admin: str


class DemoPrinter:
    """Prints the walk on a console.

    `program` is the name of the program in the commands that are shown.
    """

    def __init__(self, console: Console, program: str = "blnk-gateway") -> None:
        self._console = console
        self._program = program
        self._number = 0
        self._width = console.width if console.is_terminal else _WHOLE
        self._yes, self._no = ("✓", "✗") if _can_encode(console, "✓✗") else ("ok", "NOT AS EXPECTED")

    def print_beginning(self, at: Addresses, master: Secret, taken: int | None) -> None:
        """Print the addresses; `taken` is the port for clients if another program has it."""
        self._say(Text("Blnk Gateway, in front of a stand-in ledger in this process", style="bold"))
        self._say(Text("Keys in memory, the routes that ship."))
        self._say(Text(f"  clients   {at.clients}"))
        self._say(Text(f"  admin     {at.admin}   health, metrics, explain, console"))
        if taken is not None:
            self._say(Text(f"Port {taken} is taken by another program, so clients get a free one.", "yellow"))
        self._say(Text("\nEach command uses the variables that are set above it:\n"))
        self._define(Variable("MASTER_KEY", master))
        self._say(Text(""))

    def print_step(self, base: str, step: DemoStep) -> None:
        """Print the title, the request and the response of a step."""
        self._number += 1
        mark, style = (self._yes, "green") if step.as_expected else (self._no, "bold red")
        self._say(Text(f"{self._number:2}  {step.title}", style="bold"))
        self._command(curl(base, step.request), "    $ ")
        status = str(step.response.status or "no status")
        first, *more = json_lines(step.excerpt, self._width - len(f"    {mark} {status} "))
        self._line(Text(f"    {mark} ", style).append(status, "bold").append(f" {first}".rstrip(), "default"))
        for line in more:
            self._line(Text(_INDENT + line))
        for variable in step.variables:
            self._define(variable)
        self._say(Text(""))

    def print_result(self, failed: int) -> None:
        """Print how many steps went as expected."""
        total = self._number
        if failed:
            self._say(Text(f"{failed} of {total} steps did not go as expected.", style="bold red"))
        else:
            self._say(Text(f"All {total} steps went as expected.", style="bold green"))

    def print_commands_to_try(self, at: Addresses, master: Secret, key: Secret, log: str) -> None:
        """Print lines to paste while the gateway keeps running."""
        self._say(Text("\nThe gateway keeps running. Paste into another terminal:\n", style="bold"))
        for variable in (Variable("MASTER_KEY", master), Variable("KEY", key)):
            self._line(Text(_definition(variable)))
        pasted, by_master = Key("KEY", key), Key("MASTER_KEY", master)
        mint = '{"name":"mine","owner":"me","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}'
        question = '{"method":"POST","path":"/ledgers","scopes":["ledgers:read"]}'
        for title, base, request in (
            ("write", at.clients, DemoRequest("POST", "/ledgers", pasted, '{"name":"Customers"}')),
            ("read", at.clients, DemoRequest("GET", "/ledgers", pasted)),
            (
                "what alice has",
                at.clients,
                DemoRequest("GET", "/balances/indicator/@alice/currency/USD", pasted),
            ),
            ("not in this key's scopes", at.clients, DemoRequest("GET", "/accounts", pasted)),
            ("mint a key of your own", at.clients, DemoRequest("POST", "/api-keys", by_master, mint)),
            ("why a request is refused", at.admin, DemoRequest("POST", "/explain", None, question)),
        ):
            self._titled(title, curl(base, request, _STATUS))
        self._titled("metrics, for Prometheus", ["curl", f"{at.admin}/metrics"])
        self._titled("the console, in a browser", [f"{at.admin}/console"])
        self._titled("one line for each request", ["tail", "-f", shlex.quote(log)])

    def print_next_steps(self) -> None:
        """Print commands that need no running gateway."""
        file = "--config new.yaml"
        self._say(Text("\nNext, a policy of your own:\n", style="bold"))
        self._titled("a commented file to begin with", [self._program, "init", file])
        self._titled(
            "what a request gets under it, and why",
            [self._program, "explain", "POST", "/transactions/bulk", "--scopes transactions:read", file],
        )
        self._titled(
            "what another policy opens and closes",
            [self._program, "diff", "--preset core", "--preset recommended"],
        )

    def print_how_to_end(self) -> None:
        """Print how to end the demo."""
        self._say(Text("\nCtrl-C ends the demo, and every key with it.", style="bold"))

    def print_problem(self, text: str) -> None:
        """Print why the walk was not possible."""
        self._say(Text(text, style="bold red"))

    def _define(self, variable: Variable) -> None:
        if variable.value:
            self._line(Text(f"    $ {_definition(variable)}", "dim"))

    def _titled(self, title: str, words: list[str]) -> None:
        self._say(Text(f"# {title}", style="dim"))
        self._command(words, "")

    def _command(self, words: list[str], prompt: str) -> None:
        first, *more = command_lines(words, self._width - len(_INDENT))
        style = "dim" if prompt else ""
        self._line(Text(prompt + first, style))
        for line in more:
            self._line(Text(_INDENT + line, style))

    def _say(self, text: Text) -> None:
        """Print prose; on a terminal it is broken between words."""
        self._console.print(text, soft_wrap=not self._console.is_terminal, highlight=False)

    def _line(self, text: Text) -> None:
        """Print a line unbroken."""
        self._console.print(text, soft_wrap=True, highlight=False)


def curl(base: str, request: DemoRequest, *more: str) -> list[str]:
    """Return the words of the request as a shell command; a key with a name is written as $NAME."""
    words = ["curl"]
    if request.method != ("POST" if request.body else "GET"):  # the method that curl uses by itself
        words.append(f"-X {request.method}")
    if request.key is not None:
        words.append(_key_header(request.key))
    if request.body:
        words += [_CONTENT, f"-d {shlex.quote(request.body)}"]
    # In double quotes, so that the shell replaces variables.
    url = f'"{base}{request.shown}"' if request.shown else shlex.quote(base + request.target)
    return [*words, *more, url]


def _key_header(key: Key) -> str:
    return f'-H "X-Blnk-Key: ${key.name}"' if key.name else f"-H 'X-Blnk-Key: {key.secret.reveal()}'"


def _definition(variable: Variable) -> str:
    return f"{variable.name}={shlex.quote(variable.value.reveal())}"


def _can_encode(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
