"""TLS by the values of the chart: Secrets become settings, and whatever connects follows the scheme."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.config import Address
from tests.core_stand_in import StandInCore
from tests.deploy.containers import SECRET, environment
from tests.deploy.helm import Helm, Manifest, Values, container_of, only
from tests.deploy.values import BUNDLED, EVERYTHING, INGRESS, SIDECAR_WITH_BOTH, TLS
from tests.deploy.volumes import projected, update
from tests.raw_client import BrokenResponse, RawClient
from tests.redis_server import free_port
from tests.running import MASTER_KEY
from tests.serving import Serving, serving
from tests.tls import Authority, Issued

pytestmark = pytest.mark.helm

FOLDER = "/run/secrets/blnk-gateway"
VOLUME = "blnk-gateway-secrets"
IN_FILE = "tls: {certificate: /a.crt, key: /a.key}\nroutes: {GET /health: public}"


def variables(container: Manifest) -> dict[str, str]:
    """Return the variables of TLS without the prefix that all settings have."""
    found = {name.removeprefix("BLNK_GATEWAY_"): text for name, text in environment(container).items()}
    return {
        name: text
        for name, text in found.items()
        if name.startswith("TLS__") or name.endswith(("CA_FILE", "UPSTREAM__CERTIFICATE", "UPSTREAM__KEY"))
    }


def test_each_secret_of_the_values_is_the_file_of_its_setting(helm: Helm) -> None:
    manifests = helm.render(TLS)
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    [sources] = [one["projected"]["sources"] for one in pod["volumes"] if one["name"] == VOLUME]
    files = {
        f"{FOLDER}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in sources
        for item in source["secret"]["items"]
    }
    named = variables(container_of(manifests, "Deployment"))
    assert named.pop("TLS__LISTENERS") == "listen,admin,health"
    assert {name: files[path] for name, path in named.items()} == {
        "TLS__CERTIFICATE": ("gateway-tls", "tls.crt"),
        "TLS__KEY": ("gateway-tls", "tls.key"),
        "TLS__CLIENT_CA": ("clients", "ca.crt"),
        "UPSTREAM__CA_FILE": ("core-ca", "root.pem"),
        "UPSTREAM__CERTIFICATE": ("gateway-at-core", "tls.crt"),
        "UPSTREAM__KEY": ("gateway-at-core", "tls.key"),
    }


def test_without_these_values_no_setting_of_tls_is_given(helm: Helm) -> None:
    assert variables(container_of(helm.render(INGRESS), "Deployment")) == {}


@pytest.mark.parametrize(
    ("values", "schemes"),
    [
        (INGRESS, ("http", "http")),
        (INGRESS | {"tls": {"secret": "gateway-tls"}}, ("https", "http")),
        (INGRESS | {"tls": {"secret": "gateway-tls", "listeners": ["admin"]}}, ("http", "http")),
        (INGRESS | {"gatewayYaml": IN_FILE}, ("https", "http")),
        (SIDECAR_WITH_BOTH, ("https", "http")),
        (TLS, ("https", "https")),
    ],
)
def test_the_services_say_which_protocol_each_port_speaks(
    helm: Helm, values: Values, schemes: tuple[str, str]
) -> None:
    """A load balancer that reads `appProtocol` speaks TLS to a gateway that has a certificate."""
    manifests = helm.render(values)
    names = ("gw-blnk-gateway", "gw-blnk-gateway-health")
    ports = [port for name in names for port in only(manifests, "Service", name)["spec"]["ports"]]
    assert tuple(port["appProtocol"] for port in ports) == schemes


def test_prometheus_verifies_a_health_port_that_speaks_tls(helm: Helm) -> None:
    [endpoint] = only(helm.render(TLS), "ServiceMonitor")["spec"]["endpoints"]
    given = TLS["monitoring"]["serviceMonitor"]["tlsConfig"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", given)
    [plain] = only(helm.render(EVERYTHING), "ServiceMonitor", "front")["spec"]["endpoints"]
    assert (plain["scheme"], "tlsConfig" in plain) == ("http", False)


def test_the_shipped_form_asks_over_plain_http(helm: Helm) -> None:
    [reach] = [one for one in helm.render(BUNDLED) if one["kind"] == "Pod"]
    assert "volumes" not in reach["spec"]
    assert [one for one in reach["spec"]["containers"] if "env" in one or "volumeMounts" in one] == []


# Run on this machine.


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def secrets(authority: Authority, shown: Issued) -> dict[tuple[str, str], bytes]:
    """Return the Secrets that the values name, all of one authority."""
    ca, at_core = authority.certificate.read_bytes(), authority.issue("gateway-at-core")
    return {
        ("blnk-gateway", "master-key"): MASTER_KEY.encode(),
        ("blnk-gateway", "admin-token"): SECRET["admin-token"].encode(),
        ("gateway-tls", "tls.crt"): shown.certificate.read_bytes(),
        ("gateway-tls", "tls.key"): shown.key.read_bytes(),
        ("clients", "ca.crt"): ca,
        ("core-ca", "root.pem"): ca,
        ("gateway-at-core", "tls.crt"): at_core.certificate.read_bytes(),
        ("gateway-at-core", "tls.key"): at_core.key.read_bytes(),
    }


def demanding(shown: Issued, authority: Authority) -> ssl.SSLContext:
    """Return the context of a Core that asks for a certificate."""
    context = shown.listener()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    return context


@pytest.fixture
async def core(authority: Authority) -> AsyncIterator[StandInCore]:
    shown = authority.issue("core", "localhost")
    async with StandInCore(MASTER_KEY, demanding(shown, authority)) as running:
        yield running


@pytest.fixture
def manifests(helm: Helm) -> list[Manifest]:
    return helm.render(TLS | {"redis": {"kind": "memory"}, "replicas": 1})


@pytest.fixture
def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def health() -> Address:
    return Address("127.0.0.1", free_port())


@pytest.fixture
async def running(
    core: StandInCore, pod: Manifest, authority: Authority, volume: Path, health: Address
) -> AsyncIterator[Serving]:
    first = authority.issue("gateway", "localhost", file="first")
    update(volume, projected(pod, VOLUME, secrets(authority, first)))
    [container] = pod["containers"]
    given = {
        name.removeprefix("BLNK_GATEWAY_"): text.replace(FOLDER, str(volume))
        for name, text in environment(container).items()
    }
    here = {"LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "HEALTH": str(health)}
    async with serving(core.url, given | here | {"UPSTREAM__URL": core.url}) as process:
        yield process


async def shown_at(address: Address) -> bytes:
    """Return the certificate of a listener, as the kubelet sees it: it accepts any and shows none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with await RawClient.connect(address, tls=context) as client:
        response = await client.ask("GET", "/health/ready", host=str(address))
        certificate = client.tls_object.getpeercert(binary_form=True)
    assert (response.status, certificate is None) == (200, False)
    return certificate or b""


async def test_a_client_with_a_certificate_writes_to_a_core_that_asks_for_one(
    running: Serving, core: StandInCore, authority: Authority, health: Address
) -> None:
    """The master key stands for a client's key here; the probes pass meanwhile, without a certificate."""
    clients, _ = await running.listening()
    await running.event("ready")
    client_shows = authority.trusting(authority.issue("client"))
    async with await RawClient.connect(clients, tls=client_shows) as client:
        response = await client.ask("POST", "/ledgers", key=MASTER_KEY, body=b'{"name":"main"}')
    assert (response.status, len(core.requests)) == (200, 1)
    with pytest.raises((OSError, BrokenResponse)):
        async with await RawClient.connect(clients, tls=authority.trusting()) as client:
            await client.ask("GET", "/ledgers", key=MASTER_KEY)
    assert await shown_at(health)


async def test_a_renewed_secret_is_live_without_a_restart(
    running: Serving, pod: Manifest, authority: Authority, volume: Path, health: Address
) -> None:
    await running.event("ready")
    before = await shown_at(health)
    renewed = authority.issue("gateway", "localhost", file="renewed")
    update(volume, projected(pod, VOLUME, secrets(authority, renewed)))
    await running.event("certificate reloaded")
    assert (before != renewed.der, await shown_at(health)) == (True, renewed.der)


async def test_helm_test_accepts_the_certificate_of_the_secret_alone(
    running: Serving, manifests: list[Manifest], authority: Authority, tmp_path: Path, health: Address
) -> None:
    """Its pod has the certificate and not the private key."""
    await running.event("ready")
    reach = only(manifests, "Pod", "gw-blnk-gateway-reach")["spec"]
    [mounted] = [one["secret"] for one in reach["volumes"]]
    assert mounted == {"secretName": "gateway-tls", "items": [{"key": "tls.crt", "path": "tls.crt"}]}
    [ready] = [one for one in reach["containers"] if one["name"] == "ready"]
    url = "https://gw-blnk-gateway-health:5003"
    assert ready["args"] == ["health", "ready", "--url", url]
    command = [str(health).join(part.split(url.partition("//")[2])) for part in ready["args"]]

    async def asked(shown: Issued) -> int:
        folder = tmp_path / shown.certificate.stem
        folder.mkdir()
        (folder / "tls.crt").write_bytes(shown.certificate.read_bytes())
        environ = {name: text.replace(FOLDER, str(folder)) for name, text in environment(ready).items()}
        done = await asyncio.to_thread(CliRunner().invoke, cli, command, env=environ)
        return done.exit_code

    first = Issued(tmp_path / "first.pem", tmp_path / "first.key")
    assert await asked(first) == 0
    assert await asked(authority.issue("another", "localhost")) == 3
