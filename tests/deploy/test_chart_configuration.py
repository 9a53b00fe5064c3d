"""The gateway of the chart gets the file and the settings that the values name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config
from gateway.policy.terms import Rate
from tests.deploy.containers import checked, environment
from tests.deploy.helm import Helm, container_of, only
from tests.deploy.values import EVERYTHING, INGRESS, MATRIX
from tests.running import ROOT

pytestmark = pytest.mark.helm


@pytest.mark.parametrize("name", [name for name in MATRIX if "form" not in MATRIX[name]])
def test_the_gateway_accepts_its_configuration(helm: Helm, name: str, tmp_path: Path) -> None:
    """The file of the ConfigMap, with the variables of the container, passes `check --strict`."""
    manifests = helm.render(MATRIX[name])
    container = container_of(manifests, "Deployment", "front" if name == "everything" else "gw-blnk-gateway")
    result = checked(manifests, container, tmp_path)
    assert (result.exit_code, result.output.splitlines()[-1].endswith(": ok, 73 routes")) == (0, True)


def test_the_pods_get_the_file_that_ships_byte_for_byte(helm: Helm) -> None:
    """So the SHA-256 that /health/ready shows is that of the file in the repository."""
    data = only(helm.render(INGRESS), "ConfigMap")["data"]["gateway.yaml"]
    assert data.encode() == (ROOT / "gateway.yaml").read_bytes()


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_file_of_the_values_replaces_it_byte_for_byte(helm: Helm, end: str) -> None:
    text = f"# ours: {{{{ .Values }}}}\nroutes:\n  GET /health: public{end}"
    data = only(helm.render(INGRESS | {"gatewayYaml": text}), "ConfigMap")["data"]["gateway.yaml"]
    assert data == text


def test_the_settings_of_the_values_are_those_of_the_gateway(helm: Helm, tmp_path: Path) -> None:
    """Numbers, durations and lists arrive as they were written, beside what the chart sets itself."""
    manifests = helm.render(EVERYTHING)
    environ = environment(container_of(manifests, "Deployment", "front"))
    config = load_config(ROOT / "gateway.yaml", environ | {"SSL_CERT_FILE": ""}, secrets=False)
    assert (config.limits.connections, config.limits.rate, config.drain.timeout) == (1000000, Rate(200), 90.5)
    assert list(map(str, config.trusted_proxies)) == ["10.0.0.0/8", "fd00::/8"]
    assert (config.keys.authority, config.keys.grace) == ("core", 30.0)
    assert [str(address) for address in config.listen] == ["[::]:5001"]
    assert (str(config.admin), str(config.health)) == ("[::]:5002", "[::]:5003")
    assert config.keys.store == "redis://blnk-gateway:OfTheSecret@front-redis:6379/0"


def test_a_changed_file_restarts_pods_only_where_that_is_asked_for(helm: Helm) -> None:
    """By default the pods stay the same, and the running gateways follow the file."""

    def template(**values: object) -> Any:
        return only(helm.render(INGRESS | values), "Deployment")["spec"]["template"]

    changed = "routes:\n  GET /health: public\n"
    assert template(gatewayYaml=changed) == template()
    restarting = template(gatewayYaml=changed, restartOnChange=True)
    assert restarting["metadata"]["annotations"] == {
        "checksum/gateway.yaml": hashlib.sha256(changed.encode()).hexdigest()
    }


def test_the_master_key_is_a_file_that_is_read_again(helm: Helm, tmp_path: Path) -> None:
    """A new master key in the Secret needs no restart: the whole folder is mounted."""
    manifests = helm.render(EVERYTHING)
    container = container_of(manifests, "Deployment", "front")
    config = load_config(ROOT / "gateway.yaml", environment(container), secrets=False)
    volumes = only(manifests, "Deployment", "front")["spec"]["template"]["spec"]["volumes"]
    [secrets] = [one["projected"]["sources"] for one in volumes if one["name"] == "blnk-gateway-secrets"]
    [folder] = [
        one["mountPath"] for one in container["volumeMounts"] if one["name"] == "blnk-gateway-secrets"
    ]
    files = {f"{folder}/{item['path']}" for source in secrets for item in source["secret"]["items"]}
    upstream = config.upstream
    named = {upstream.master_key_file, upstream.master_key_next_file, config.admin_token_file}
    assert files == set(map(str, named))
    optional = [
        source["secret"]["items"][0]["path"] for source in secrets if source["secret"].get("optional")
    ]
    assert optional == ["master-key-next"]
