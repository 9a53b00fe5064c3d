"""`blnk-gateway health` of a gateway whose private listeners speak TLS."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.config import Address
from gateway.config.sections.tls import TlsConfig
from tests.conftest import SHIPPED, Start
from tests.running import Running
from tests.tls import Authority, Issued


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def shown(authority: Authority) -> Issued:
    """The certificate of the gateway, which names no address."""
    return authority.issue("gateway", "gateway.example")


def variables(tls: TlsConfig, address: Address) -> dict[str, str]:
    """Return the environment of a command beside a gateway with these settings."""
    given = {
        "BLNK_GATEWAY_ADMIN": str(address),
        "BLNK_GATEWAY_TLS__CERTIFICATE": str(tls.certificate),
        "BLNK_GATEWAY_TLS__KEY": str(tls.key),
        "BLNK_GATEWAY_TLS__LISTENERS": "listen,admin",
    }
    return given if tls.client_ca is None else given | {"BLNK_GATEWAY_TLS__CLIENT_CA": str(tls.client_ca)}


async def ask(*arguments: str, **environ: str) -> tuple[int, str]:
    """Return the exit code of `health`, and what it prints."""
    command = ["health", "alive", "--config", SHIPPED, *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, env=environ)
    return result.exit_code, result.output


async def started(
    start_gateway: Start, shown: Issued, client_ca: Path | None = None
) -> tuple[Running, TlsConfig]:
    tls = TlsConfig(
        certificate=shown.certificate, key=shown.key, client_ca=client_ca, listeners=("listen", "admin")
    )
    return await start_gateway(tls=tls), tls


async def test_it_accepts_the_certificate_of_the_configuration_at_any_address(
    start_gateway: Start, shown: Issued
) -> None:
    running, tls = await started(start_gateway, shown)
    address = running.gateway.admin_address
    assert await ask(**variables(tls, address)) == (0, '{"status":"alive"}\n')
    url = f"https://localhost:{address.port}"
    assert await ask("--url", url, **variables(tls, address)) == (0, '{"status":"alive"}\n')


async def test_it_accepts_one_that_has_ended(start_gateway: Start, authority: Authority) -> None:
    """A probe does not stop a gateway because its certificate has ended."""
    running, tls = await started(start_gateway, authority.issue("ended", ends_in=timedelta(days=-1)))
    assert (await ask(**variables(tls, running.gateway.admin_address)))[0] == 0


async def test_it_tells_nothing_to_a_server_with_another_one(
    start_gateway: Start, shown: Issued, authority: Authority
) -> None:
    """Another server may hold a certificate of the same authority; the admin token is not for it."""
    running, tls = await started(start_gateway, authority.issue("another", "localhost"))
    files = TlsConfig(certificate=shown.certificate, key=shown.key)
    code, text = await ask(**variables(files, running.gateway.admin_address))
    assert (code, "shows another certificate than tls.certificate" in text) == (3, True)
    assert tls.certificate != shown.certificate


async def test_without_a_certificate_in_the_configuration_the_servers_is_verified(
    start_gateway: Start, shown: Issued, authority: Authority, tmp_path: Path
) -> None:
    running, _ = await started(start_gateway, shown)
    url = f"https://127.0.0.1:{running.gateway.admin_address.port}"
    code, text = await ask("--url", url, SSL_CERT_FILE=str(authority.certificate))
    assert (code, "IP address mismatch" in text) == (3, True)


async def test_it_shows_the_gateways_own_certificate_or_another_where_one_is_required(
    start_gateway: Start, shown: Issued, authority: Authority
) -> None:
    running, tls = await started(start_gateway, shown, authority.certificate)
    environ = variables(tls, running.gateway.admin_address)
    ops = authority.issue("ops")
    options = ("--certificate", str(ops.certificate), "--key", str(ops.key))
    found = [await ask(**environ), await ask(*options, **environ)]
    assert found == [(0, '{"status":"alive"}\n')] * 2


async def test_it_says_that_a_certificate_is_required(
    start_gateway: Start, shown: Issued, tmp_path: Path
) -> None:
    (tmp_path / "clients").mkdir()
    clients = Authority(tmp_path / "clients")
    running, tls = await started(start_gateway, shown, clients.certificate)
    files = TlsConfig(certificate=tls.certificate, key=tls.key)
    code, text = await ask(**variables(files, running.gateway.admin_address))
    assert code == 3
    assert text.endswith("name a certificate of tls.client_ca with --certificate and --key\n")


async def test_a_certificate_without_its_key_is_wrong_usage(shown: Issued) -> None:
    code, text = await ask("--certificate", str(shown.certificate))
    assert (code, text) == (2, "--certificate: write both --certificate and --key\n")
