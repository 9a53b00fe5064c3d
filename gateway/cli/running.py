"""The commands of a running gateway: serve, health, demo."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click

from gateway.cli.console import EXIT_CODES, config_option, load, say
from gateway.config import BadValueError, Config, read_secret
from gateway.server.exit_codes import Exit

ASK_SECONDS = 5.0
"""How long `health` waits for one step of an answer."""
ANSWER_BYTES = 64 * 1024


@click.command(epilog=EXIT_CODES)
@config_option
@click.option(
    "--observe", is_flag=True, help="Pass every request to Core as it came; log what would be done."
)
def serve(path: Path, *, observe: bool) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain; a second one ends it at once.

    Follows its configuration: routes, limits and modes that change in the file are live a second later, and
    at once on SIGHUP; a file with a problem is refused whole. With --observe Core decides, by the client's
    own key and body; the log, and `denials` from it, tell what the gateway would have refused or rewritten.

    Any setting but the routes can come from the environment: BLNK_GATEWAY_<PATH>, with __ between levels.

    \b
    Examples:
      BLNK_MASTER_KEY=... blnk-gateway serve
      blnk-gateway serve --config /etc/blnk/gateway.yaml
      blnk-gateway serve --observe | tee access.log
      BLNK_GATEWAY_KEYS__STORE=memory:// BLNK_MASTER_KEY=... blnk-gateway serve
    """
    config = load(path, secrets=True)
    from gateway.server.process import run
    from gateway.server.reload import Source

    sys.exit(run(config, Source(path, os.environ), observe=observe))


@click.command(epilog=EXIT_CODES)
@click.argument("what", type=click.Choice(["alive", "ready"]))
@config_option
@click.option("--url", help="Ask this address instead, as http://127.0.0.1:5003.")
def health(what: str, path: Path, url: str | None) -> None:
    """Ask a running gateway whether it is alive, or ready for requests.

    Asks the health listener of the configuration, or its admin listener. Prints the JSON of the answer;
    exits 0 for yes, 1 for no, 3 if nobody answers.

    \b
    Examples:
      blnk-gateway health alive
      blnk-gateway health ready --url http://10.0.0.7:5003
    """
    headers: dict[str, str] = {}
    if url is None:
        url, headers = _private_listener(load(path, secrets=False))
    code, text = _ask(url, f"/health/{what}", headers)
    say(text, err=code is Exit.DEPENDENCY)
    sys.exit(code)


@click.command(epilog=EXIT_CODES)
@click.option("--once", is_flag=True, help="Exit after the walk; 1 if any step came out otherwise.")
def demo(*, once: bool) -> None:
    """Show the whole gateway in one process, in front of a stand-in ledger.

    Needs no Core, no Redis and no configuration. Stays up, with curl lines to paste, until Ctrl-C.

    \b
    Examples:
      blnk-gateway demo
      blnk-gateway demo --once
    """
    from gateway.demo import run

    sys.exit(run(once))


def _private_listener(config: Config) -> tuple[str, dict[str, str]]:
    """The URL of the health listener, or else of admin, and the headers that it asks for."""
    address = config.health or config.admin
    # Who listens on every interface is asked on this machine's own.
    address = replace(address, host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host))  # noqa: S104
    headers = {}
    if config.health is None and config.admin_token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {read_secret(config.admin_token_file).reveal()}"
        except BadValueError as error:
            say(f"admin_token_file: {error}", err=True)
            sys.exit(Exit.USAGE)
    return f"http://{address}", headers


def _ask(url: str, path: str, headers: dict[str, str]) -> tuple[Exit, str]:
    """Yes for a 200, no for any other answer, DEPENDENCY for none; with the answer's text or the reason.

    No proxy of the environment is asked and no redirect followed: the question is about this address.
    """
    connection = _connection(url)
    try:
        with closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            text = answer.read(ANSWER_BYTES).decode("utf-8", "replace").strip()
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Exit.DEPENDENCY, f"{url}{path}: nobody answers: {reason}"
    if answer.status == HTTPStatus.OK:
        return Exit.OK, text
    return Exit.FAILED, text or f"{url}{path}: answered {answer.status}"


def _connection(url: str) -> http.client.HTTPConnection:
    try:
        base = urlsplit(url)
        port = base.port
    except ValueError:
        base, port = urlsplit(""), None
    if base.scheme not in ("http", "https") or not base.hostname:
        message = "write http://host:port"
        raise click.BadParameter(message, param_hint="--url")
    if base.scheme == "https":
        return http.client.HTTPSConnection(base.hostname, port or 443, timeout=ASK_SECONDS)
    return http.client.HTTPConnection(base.hostname, port or 80, timeout=ASK_SECONDS)
