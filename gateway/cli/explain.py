"""The command that explains which response a request gets, and why: explain."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from gateway.cli.arguments import KeyId, ScopeList, refuse_option
from gateway.cli.console import EXIT_CODES, config_option, load, output_option, write_json
from gateway.cli.keys.reader import open_key_reader
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.cli.printing import Part, Printer
from gateway.config import Config
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.explanation import EACH_KIND, Explanation, explain, members, name_of, needs, printable
from gateway.policy.principals import ApiKey
from gateway.policy.routes import Route, Stamp
from gateway.policy.values import Allow, Ambiguous
from gateway.policy.verdicts import (
    PolicyRequest,
    Unreadable,
    Verdict,
    body_of,
    key_with,
    read_request,
)
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit


@click.command("explain", epilog=EXIT_CODES)
@click.argument("method")
@click.argument("target", metavar="PATH")
@click.option(
    "--scopes",
    type=ScopeList(empty=True),
    help="The scopes of the calling key, separated by commas; '' for none.",
)
@click.option("--key-id", type=KeyId(), help="The id of the calling key, api_key_..., to be looked up.")
@output_option
@config_option
def explain_request(
    method: str, target: str, scopes: tuple[str, ...] | None, key_id: str | None, output: str, path: Path
) -> None:
    """Explain which response METHOD PATH gets, and why.

    The code that decides about requests reads the target, matches the route and decides. The output shows the
    target as it is read, the matching route with its line in the file, the routes that lost and why, the
    required scope, the stamp, and the decision with the exact response. Nothing is sent to Core. Only
    --key-id reads the key store, and no option takes a key.

    Without --scopes and --key-id it explains what a key without scopes, the master key, and a request without
    a key get. The exit code is that of the first. Exit codes here: 0 allowed, 1 refused (or the configuration
    is refused), 2 wrong usage, 3 the key store or Core's database is unreachable.

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
        raise click.UsageError("use --scopes or --key-id, not both")
    given = None if scopes is None else key_with(scopes)
    if key_id is None:
        config = load(path, secrets=False)
    else:
        config = load_for_keys(path, changing=False)
        given = _look_up(config, key_id)
    callers = (given,) if given else EACH_KIND
    policy = config.policy
    explanation = explain(request, callers, policy, time.time())
    if output == "json":
        write_json(members(explanation) | {"policy_sha256": config.sha256}, indent=2)
    else:
        _print_explanation(explanation, path)
    allowed = isinstance(explanation.verdicts[0].decision, Allow)
    sys.exit(Exit.OK if allowed else Exit.FAILED)


def _look_up(config: Config, key_id: str) -> ApiKey:
    """Return the principal of a key; exit with 3 if a dependency is unreachable, with 2 for an unknown id."""

    async def read(store: KeyStore) -> KeyRecord | None:
        async with open_key_reader(config, store, utc_now()) as reader:
            return await reader.get(key_id)

    record = run_with_store(config, read)
    if record is None:
        refuse_option("--key-id", "no key has this id")
    return record.principal()


def _print_explanation(explanation: Explanation, file: Path) -> None:
    request, route = explanation.request, explanation.route
    printer = Printer()
    printer.line((str(request), "bold"))
    _print_target(printer, request)
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
        _print_verdict(printer, one, explanation)


def _label(text: str) -> Part:
    return f"{text:10}", "dim"


def _place(file: Path, route: Route) -> Part:
    return f"  {file}:{route.line}", "cyan"


def _print_target(printer: Printer, request: PolicyRequest) -> None:
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
        return "none: the gateway responds itself, from its key store, and checks owner and scopes there"
    optional = "; an empty body becomes one with the stamp" if route.body_optional else ""
    return route.stamp.value + optional


def _print_verdict(printer: Printer, one: Verdict, explanation: Explanation) -> None:
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
