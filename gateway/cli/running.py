"""The commands that run a gateway, or ask one for its health: serve, health, demo."""

from __future__ import annotations

import http.client
import os
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click

from gateway.cli.arguments import refuse_option
from gateway.cli.console import EXIT_CODES, config_option, fail, load, say
from gateway.cli.http_get import get
from gateway.cli.private_connection import STEP_SECONDS, private_connection, shown_pair
from gateway.cli.signals import run_until_signal
from gateway.config import BadValueError, Config, ConfigError, read_secret
from gateway.config.certificates import CertificateError, KeyPair
from gateway.config.environment import variable
from gateway.server.exit_codes import Exit


@click.command(epilog=EXIT_CODES)
@config_option
@click.option("--observe", is_flag=True, help="Forward every request unchanged; log what would be done.")
@click.option(
    "--reuse-port",
    is_flag=True,
    help="Share the port for clients with other processes.",
)
def serve(path: Path, *, observe: bool, reuse_port: bool) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain; a second signal ends it at once.

    The gateway reads its configuration again when the file changes: new routes, limits and modes take effect
    within a second, or at once on SIGHUP. A file with a problem changes nothing. With --observe Core decides
    about the client's own key and body, and the log shows what the gateway would have refused or rewritten;
    `denials` ranks it.

    With --reuse-port several processes on one machine share the port of listen, and Linux spreads new
    connections over them. A process listens once it is ready. Each needs an admin address of its own, and
    they need one Redis.

    Every setting but the routes can come from the environment: BLNK_GATEWAY_<PATH>, with __ between levels.

    \b
    Examples:
      BLNK_MASTER_KEY=... blnk-gateway serve
      blnk-gateway serve --config /etc/blnk/gateway.yaml
      blnk-gateway serve --observe | tee access.log
      BLNK_GATEWAY_ADMIN=127.0.0.1:0 blnk-gateway serve --reuse-port
      BLNK_GATEWAY_KEYS__STORE=memory:// BLNK_MASTER_KEY=... blnk-gateway serve
    """
    config = load(path, secrets=True, refused=_audit_refusal)
    from gateway.server.parts import Options
    from gateway.server.process import run
    from gateway.server.reload import Source
    from gateway.server.sharing import why_not_shared
    from gateway.server.systemd import NotifySocket

    if reuse_port and (problem := why_not_shared(config, sys.platform)):
        refuse_option("--reuse-port", problem)
    options = Options(
        source=Source(path, os.environ),
        observe=observe,
        reuse_port=reuse_port,
        notify=NotifySocket.of(os.environ, os.getpid()),
    )
    sys.exit(run(config, options))


def _audit_refusal(refused: ConfigError) -> None:
    """Append the refused configuration to the audit stream, if it is known where that is."""
    from gateway.server.audit_recorder import AuditRecorder, replica_name
    from gateway.server.clocks import utc_now
    from gateway.server.refused_start import audit_refusal

    store = refused.store or os.environ.get(variable("keys.store"), "")
    if store:
        run_until_signal(audit_refusal(refused, store, AuditRecorder(replica_name(), utc_now)))


@click.command(epilog=EXIT_CODES)
@click.argument("what", type=click.Choice(["alive", "ready"]))
@config_option
@click.option("--url", help="The address to ask instead, such as http://127.0.0.1:5003.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="A certificate (PEM) to show where tls.client_ca asks for one; by default the gateway's own.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The private key of that certificate.")
def health(what: str, path: Path, url: str | None, certificate: Path | None, key: Path | None) -> None:
    """Ask a running gateway whether it is alive, or ready for requests.

    The command asks the health listener of the configuration, or else the admin listener, and prints the JSON
    of the response. It exits with 0 for yes, 1 for no, 3 if there is no response.

    Over TLS the gateway has to show the very certificate that tls.certificate of the configuration names.
    Without one, its certificate is verified as that of any server.

    \b
    Examples:
      blnk-gateway health alive
      blnk-gateway health ready --url http://10.0.0.7:5003
      blnk-gateway health ready --url https://127.0.0.1:5002 --certificate ops.pem --key ops.key
    """
    headers: dict[str, str] = {}
    config = load(path, secrets=False) if url is None or _names_a_certificate(url, path) else None
    if url is None and config is not None:
        url, headers = _health_listener(config)
    try:
        connection = _connection(url or "", config, shown_pair(certificate, key))
    except CertificateError as error:
        fail(f"{error.setting}: {error}", Exit.USAGE)
    code, text = _get(connection, url or "", f"/health/{what}", headers)
    say(text, err=code is Exit.DEPENDENCY)
    sys.exit(code)


@click.command(epilog=EXIT_CODES)
@click.option("--once", is_flag=True, help="Exit after the tour; with 1 if a step had an unexpected result.")
def demo(*, once: bool) -> None:
    """Show the whole gateway in one process, in front of a stand-in ledger.

    The demo needs no Core, no Redis and no configuration. It keeps running until Ctrl-C, with curl commands
    to paste.

    \b
    Examples:
      blnk-gateway demo
      blnk-gateway demo --once
    """
    from gateway.demo import run

    sys.exit(run(once))


def _health_listener(config: Config) -> tuple[str, dict[str, str]]:
    """Return the URL of the health listener, or else of the admin listener, and the headers it requires."""
    address = (config.health or config.admin).from_this_machine()
    scheme = "https" if config.tls.speaks("admin" if config.health is None else "health") else "http"
    headers = {}
    if config.health is None and config.admin_token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {read_secret(config.admin_token_file).reveal()}"
        except BadValueError as error:
            fail(f"admin_token_file: {error}", Exit.USAGE)
    return f"{scheme}://{address}", headers


def _names_a_certificate(url: str, path: Path) -> bool:
    """Return True if a gateway at this URL may have to show the certificate of the configuration."""
    return url.startswith("https:") and path.is_file()


def _get(
    connection: http.client.HTTPConnection, url: str, path: str, headers: dict[str, str]
) -> tuple[Exit, str]:
    """Return OK for a 200, FAILED for any other response, DEPENDENCY for none; and the body or the reason.

    No proxy is used and no redirect followed, because the result must be about this address.
    """
    try:
        response = get(connection, path, headers, STEP_SECONDS)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return (
            Exit.DEPENDENCY,
            f"{url}{path}: no response: {reason}; {_advice(error)}",
        )
    text = response.body.decode("utf-8", "replace").strip()
    if response.status == HTTPStatus.OK:
        return Exit.OK, text
    return Exit.FAILED, text or f"{url}{path}: response {response.status} without a body"


def _advice(error: Exception) -> str:
    if "CERTIFICATE_REQUIRED" in (getattr(error, "reason", None) or ""):
        return "name a certificate of tls.client_ca with --certificate and --key"
    return "start the gateway, or name its address with --url"


def _connection(url: str, config: Config | None, shown: KeyPair | None) -> http.client.HTTPConnection:
    try:
        base = urlsplit(url)
        port = base.port
    except ValueError:
        base, port = urlsplit(""), None
    if base.scheme not in ("http", "https") or not base.hostname:
        refuse_option("--url", "write http://host:port")
    return private_connection(base.scheme, base.hostname, port, config, shown)
