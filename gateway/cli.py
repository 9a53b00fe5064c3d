"""The verbs of `blnk-gateway`.

Rules kept here:
- Every verb exits by one table, `gateway.exits.Exit`; bad input is a text on stderr, never a traceback.
- A verb imports what it runs inside itself, so that `serve` carries nothing of the others.
- The process environment is read here and handed on.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import os
import sys
from contextlib import closing
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click

from gateway.config import (
    BadValueError,
    Config,
    ConfigError,
    UnreadableConfigError,
    load_config,
    read_secret,
)
from gateway.exits import Exit

EXIT_CODES = """\b
Exit codes of every verb:
  0  yes
  1  no
  2  usage, or a file that cannot be read
  3  a neighbour is unreachable or unsafe
"""

ASK_SECONDS = 5.0
"""How long `health` waits for one step of an answer."""
ANSWER_BYTES = 64 * 1024

_config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("gateway.yaml"),
    show_default=True,
    help="The configuration.",
)


def _version() -> str:
    try:
        return importlib.metadata.version("blnk-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(_version(), prog_name="blnk-gateway")
def cli() -> None:
    """An auth gateway for Blnk Core: keys, scopes and lossless attribution in front of the ledger.

    \b
    First look, with nothing else installed:  blnk-gateway demo
    In front of a Core:                       blnk-gateway check && blnk-gateway serve
    """


@cli.command(epilog=EXIT_CODES)
@_config_option
def serve(path: Path) -> None:
    """Run the gateway until SIGTERM, then drain.

    Any setting but the routes can come from the environment: BLNK_GATEWAY_<PATH>, with __ between levels.

    \b
    Examples:
      BLNK_MASTER_KEY=... blnk-gateway serve
      blnk-gateway serve --config /etc/blnk/gateway.yaml
      BLNK_GATEWAY_KEYS__STORE=memory:// BLNK_MASTER_KEY=... blnk-gateway serve
    """
    config = _load(path, secrets=True)
    from gateway.server import run

    sys.exit(run(config))


@cli.command(epilog=EXIT_CODES)
@_config_option
def check(path: Path) -> None:
    """Print every problem of a configuration, each with its line.

    Needs no secret, no Redis and no Core.

    \b
    Examples:
      blnk-gateway check
      blnk-gateway check --config deploy/gateway.yaml
    """
    config = _load(path, secrets=False, err=False)
    _say(f"{path}: ok, {len(config.routes.routes)} routes")


@cli.command(epilog=EXIT_CODES)
@click.argument("what", type=click.Choice(["alive", "ready"]))
@_config_option
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
        url, headers = _private_listener(_load(path, secrets=False))
    code, text = _ask(url, f"/health/{what}", headers)
    _say(text, err=code is Exit.NEIGHBOUR)
    sys.exit(code)


@cli.command(epilog=EXIT_CODES)
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


def _load(path: Path, *, secrets: bool, err: bool = True) -> Config:
    try:
        return load_config(path, os.environ, secrets=secrets)
    except UnreadableConfigError as error:
        _say(str(error), err=True)
        sys.exit(Exit.USAGE)
    except ConfigError as error:
        _say(str(error), err=err)
        sys.exit(Exit.NO)


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
            _say(f"admin_token_file: {error}", err=True)
            sys.exit(Exit.USAGE)
    return f"http://{address}", headers


def _ask(url: str, path: str, headers: dict[str, str]) -> tuple[Exit, str]:
    """Yes for a 200, no for any other answer, NEIGHBOUR for none; with the answer's text or the reason.

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
        return Exit.NEIGHBOUR, f"{url}{path}: nobody answers: {reason}"
    if answer.status == HTTPStatus.OK:
        return Exit.YES, text
    return Exit.NO, text or f"{url}{path}: answered {answer.status}"


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


def _say(text: str, *, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "utf-8"
    # A path of the file system or an answer may hold what the terminal cannot show.
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)


def main() -> None:
    """The entry point of the `blnk-gateway` command."""
    cli()
