"""The command that tells why a request gets the answer it gets: explain."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from gateway.cli.console import EXIT_CODES, config_option, load, output_option, say
from gateway.cli.key_reader import key_reader_of
from gateway.cli.key_store import load_for_keys, now, with_store
from gateway.cli.printing import Part, Printer
from gateway.config import Config
from gateway.config.suggestions import nearest
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.decisions import Allow
from gateway.policy.explanation import EACH_KIND, Explanation, explain, members, name_of, needs, printable
from gateway.policy.principals import ApiKey
from gateway.policy.routes import Route, Stamp
from gateway.policy.targets import Ambiguous
from gateway.policy.verdicts import (
    HOLDABLE,
    HOLDABLE_FORM,
    PolicyRequest,
    Unreadable,
    Verdict,
    body_of,
    holds_key,
    key_with,
    read_request,
)
from gateway.server.exit_codes import Exit


@click.command("explain", epilog=EXIT_CODES)
@click.argument("method")
@click.argument("target", metavar="PATH")
@click.option("--scopes", help="Scopes of the calling key, with commas between them; '' for none.")
@click.option("--key-id", help="Id of the calling key, api_key_...; it is looked up.")
@output_option
@config_option
def explain_request(
    method: str, target: str, scopes: str | None, key_id: str | None, output: str, path: Path
) -> None:
    """Tell what the gateway would answer to METHOD PATH, and why.

    The engine of the data path reads the target, matches the route and decides. The output has the target as
    it is read, the route that won with its line in the file, those that lost and why, the scope that is
    needed, the stamp, and the decision with the exact answer. Nothing is sent to Core; only --key-id asks the
    key store, and no option takes a key.

    Without --scopes and --key-id it tells what a key without any scope, the master key, and a request without
    a key would get. The exit code is that of the first. Exit codes here: 0 allowed, 1 refused (or the
    configuration is), 2 usage, 3 the key store is down.

    \b
    Examples:
      blnk-gateway explain POST /transactions/bulk
      blnk-gateway explain GET '/ledgers/x?limit=1' --scopes ledgers:read,balances:read
      blnk-gateway explain DELETE /identities/x --key-id api_key_00000000-0000-4000-8000-000000000001
      blnk-gateway explain GET /hooks --scopes '*:*' --output json
    """
    request = read_request(method, target)
    if isinstance(request, Unreadable):
        raise click.UsageError(request.text)
    if scopes is not None and key_id is not None:
        raise click.UsageError("give --scopes or --key-id, not both")
    if key_id is not None and holds_key(key_id):
        raise click.BadParameter("this looks like a key: give its id, api_key_...", param_hint="--key-id")
    given = None if scopes is None else key_with(_scopes(scopes))
    if key_id is None:
        config = load(path, secrets=False)
    else:
        config = load_for_keys(path, changing=False)
        given = _known_key(config, key_id)
    callers = (given,) if given else EACH_KIND
    policy = config.policy
    explanation = explain(request, callers, policy, time.time())
    if output == "json":
        text = msgspec.json.encode(members(explanation) | {"policy_sha256": config.sha256})
        say(msgspec.json.format(text, indent=2).decode())
    else:
        _tell(explanation, path)
    allowed = isinstance(explanation.verdicts[0].decision, Allow)
    sys.exit(Exit.OK if allowed else Exit.FAILED)


def _scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(scope.strip() for scope in text.split(",") if scope.strip())
    for scope in scopes:
        if scope not in HOLDABLE:
            raise click.BadParameter(f"{HOLDABLE_FORM}{nearest(scope, HOLDABLE)}", param_hint="--scopes")
    return scopes


def _known_key(config: Config, key_id: str) -> ApiKey:
    """The principal of a key; exits if the store or Core's database is down, or nobody knows the key."""

    async def read(store: KeyStore) -> KeyRecord | None:
        async with key_reader_of(config, store, now()) as readings:
            return await readings.get(key_id)

    record = with_store(config, read)
    if record is None:
        raise click.BadParameter("nobody knows a key of this id", param_hint="--key-id")
    return record.principal()


def _tell(explanation: Explanation, file: Path) -> None:
    request, route = explanation.request, explanation.route
    printer = Printer()
    printer.line((str(request), "bold"))
    _tell_target(printer, request)
    if route is None:
        printer.line(_label("route"), ("none", "bold red"))
    else:
        printer.line(_label("route"), (route.name, "bold"), _place(file, route))
    for lost in explanation.lost:
        printer.line(
            _label("lost"), (lost.route.name, ""), _place(file, lost.route), (f"  {lost.reason}", "dim")
        )
    printer.line(_label("needs"), (needs(explanation), ""))
    if route is not None:
        printer.line(_label("stamp"), (_stamp(route), ""))
    printer.line()
    for one in explanation.verdicts:
        _tell_verdict(printer, one, explanation)


def _label(text: str) -> Part:
    return f"{text:10}", "dim"


def _place(file: Path, route: Route) -> Part:
    return f"  {file}:{route.line}", "cyan"


def _tell_target(printer: Printer, request: PolicyRequest) -> None:
    target = request.target
    if isinstance(target, Ambiguous):
        printer.line(_label("target"), (f"ambiguous: {target.reason}", "red"))
        return
    printer.line(
        _label("segments"), (", ".join(f"'{printable(segment)}'" for segment in target.segments), "")
    )
    if target.query:
        printer.line(_label("query"), (f"{target.query}, which decides nothing", "dim"))


def _stamp(route: Route) -> str:
    if route.served:
        return "none: the gateway answers this itself, from its key store, and checks owner and scopes there"
    optional = ", and an empty body becomes one with the stamp" if route.body_optional else ""
    return route.stamp.value + optional


def _tell_verdict(printer: Printer, one: Verdict, explanation: Explanation) -> None:
    decision, name = one.decision, name_of(one.caller, explanation.now)
    if isinstance(decision, Allow):
        stamped = f", stamp {one.stamp.value}" if one.stamp is not Stamp.NONE else ""
        excused = decision.would_deny
        passed = f", report-only: without it {excused.code.status} {excused.code.code}" if excused else ""
        printer.line(("allow     ", "bold green"), (f"{name}{stamped}{passed}", ""))
        return
    printer.line(("deny      ", "bold red"), (name, ""))
    printer.line(
        _label(""), (f"{decision.code.status} {decision.code.code}", "bold"), (f"  {decision.message}", "")
    )
    if body := body_of(explanation.request, decision).decode():
        printer.line(_label(""), (body, "dim"))
