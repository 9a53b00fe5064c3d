"""The objects of the chart are ones that Kubernetes accepts, and run the gateway as its documents say."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.config import load_config
from tests import redis_acl
from tests.deploy.containers import environment, pods
from tests.deploy.helm import NAMESPACE, Helm, Manifest, only
from tests.deploy.synced import CHART, COMMAND, expected
from tests.deploy.values import BUNDLED, EVERYTHING, INGRESS, MATRIX, SIDECAR, TRIAL
from tests.running import ROOT

OLDEST, NEWEST = "1.25", "1.37"  # the versions of Kubernetes of which there are schemas
CUSTOM = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")
ALL = pytest.mark.parametrize("name", MATRIX)


def gateway_of(manifests: Sequence[Manifest], name: str = "gw-blnk-gateway") -> dict[str, Any]:
    """Return the container of the gateway of the ingress form."""
    [container] = only(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def check(manifests: Sequence[Manifest], container: dict[str, Any], folder: Path) -> Result:
    """Run `check --strict` on the file and with the variables of the gateway."""
    [text] = [one["data"]["gateway.yaml"] for one in manifests if one["kind"] == "ConfigMap"]
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(cli, ["check", "--strict", "--config", str(file)], env=environment(container))


# The chart itself.


def test_the_chart_has_the_version_of_the_gateway() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


@pytest.mark.parametrize("path", expected())
def test_a_file_that_follows_another_is_current(path: str) -> None:
    """A chart reads only its own folder, so it has copies of the policy, the alerts and the settings."""
    assert (CHART / path).read_text(encoding="utf-8") == expected()[path], f"run {COMMAND}"


def test_every_value_is_in_the_schema_and_explained_in_the_file() -> None:
    """values.yaml is the reference: it has each value of the schema, and the schema each of its values."""

    def names(schema: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for name, member in schema.get("properties", {}).items():
            target = json_schema["definitions"][member["$ref"].split("/")[-1]] if "$ref" in member else member
            inner = {} if name in ("settings", "resources") else target
            found |= names(inner, f"{prefix}{name}.") or {f"{prefix}{name}"}
        return found

    def given(values: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            inner = value if isinstance(value, dict) and value and name != "resources" else {}
            found |= given(inner, f"{prefix}{name}.") or {f"{prefix}{name}"}
        return found

    json_schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert names(json_schema) - {"global"} == given(values)


# What helm and Kubernetes say.


@pytest.mark.helm
def test_every_template_is_rendered_by_some_values(helm: Helm) -> None:
    """So every file of the chart is covered by the tests below."""
    templates = {path.relative_to(CHART).as_posix() for path in (CHART / "templates").rglob("*.yaml")}
    assert {template for values in MATRIX.values() for template in helm.sources(values)} == templates


@pytest.mark.helm
@ALL
def test_helm_finds_nothing_to_say(helm: Helm, name: str) -> None:
    printed = helm.lint(MATRIX[name])
    assert re.findall(r"^\[(?!INFO\] Chart.yaml: icon).*", printed, re.MULTILINE) == []


@pytest.mark.helm
@pytest.mark.parametrize(
    ("name", "version"), [*((name, NEWEST) for name in MATRIX), ("everything", OLDEST), ("sidecar", OLDEST)]
)
def test_every_object_is_one_that_kubernetes_accepts(helm: Helm, name: str, version: str) -> None:
    """Each object has the members and types of Kubernetes' own schema, and no others."""
    manifests = helm.render(MATRIX[name])
    known = [manifest for manifest in manifests if manifest["apiVersion"] not in CUSTOM]
    for manifest in known:
        kubernetes_validate.validate(manifest, version, strict=True)
    assert len(known) >= 4
    assert [one["metadata"].get("namespace") in (NAMESPACE, "core") for one in manifests].count(False) == 0


@pytest.mark.helm
def test_an_object_with_a_wrong_member_is_refused(helm: Helm) -> None:
    """The schemas notice a misspelt member, so that the test before can fail."""
    service = only(helm.render(INGRESS), "Service")
    service["spec"]["portz"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="portz"):
        kubernetes_validate.validate(service, NEWEST, strict=True)


# The configuration.


@pytest.mark.helm
@pytest.mark.parametrize("name", [name for name in MATRIX if name != "sidecar"])
def test_the_gateway_accepts_its_configuration(helm: Helm, name: str, tmp_path: Path) -> None:
    """The file of the ConfigMap, with the variables of the container, passes `check --strict`."""
    manifests = helm.render(MATRIX[name])
    container = gateway_of(manifests, "front" if name == "everything" else "gw-blnk-gateway")
    result = check(manifests, container, tmp_path)
    assert (result.exit_code, result.output.splitlines()[-1].endswith(": ok, 72 routes")) == (0, True)


@pytest.mark.helm
def test_the_pods_get_the_file_that_ships_byte_for_byte(helm: Helm) -> None:
    """So the SHA-256 that /health/ready shows is that of the file in the repository."""
    data = only(helm.render(INGRESS), "ConfigMap")["data"]["gateway.yaml"]
    assert data.encode() == (ROOT / "gateway.yaml").read_bytes()


@pytest.mark.helm
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_file_of_the_values_replaces_it_byte_for_byte(helm: Helm, end: str) -> None:
    text = f"# ours: {{{{ .Values }}}}\nroutes:\n  GET /health: public{end}"
    data = only(helm.render(INGRESS | {"gatewayYaml": text}), "ConfigMap")["data"]["gateway.yaml"]
    assert data == text


@pytest.mark.helm
def test_the_settings_of_the_values_are_those_of_the_gateway(helm: Helm, tmp_path: Path) -> None:
    """Numbers, durations and lists arrive as they were written, beside what the chart sets itself."""
    manifests = helm.render(EVERYTHING)
    environ = environment(gateway_of(manifests, "front"))
    config = load_config(ROOT / "gateway.yaml", environ | {"SSL_CERT_FILE": ""}, secrets=False)
    assert (config.limits.connections, config.limits.rate, config.drain.timeout) == (1000000, 200, 90.5)
    assert list(map(str, config.trusted_proxies)) == ["10.0.0.0/8", "fd00::/8"]
    assert (config.keys.authority, config.keys.grace) == ("core", 30.0)
    assert [str(address) for address in config.listen] == ["[::]:5001"]
    assert (str(config.admin), str(config.health)) == ("[::]:5002", "[::]:5003")
    assert config.keys.store == "redis://blnk-gateway:OfTheSecret@front-redis:6379/0"


@pytest.mark.helm
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


# The pods.


@pytest.mark.helm
@ALL
def test_no_pod_has_a_privilege(helm: Helm, name: str) -> None:
    """No pod runs as root, writes to its file system, gains a capability or has a token of the cluster."""
    for _, pod in pods(helm.render(MATRIX[name])):
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = pod["securityContext"] | container["securityContext"]
            assert context.pop("runAsUser") > 0
            assert context.pop("runAsGroup") > 0
            assert {member: context[member] for member in context if not member.startswith("fsGroup")} == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert "memory" in container["resources"]["limits"]


@pytest.mark.helm
@ALL
def test_no_file_is_mounted_where_kubelet_does_not_update_it(helm: Helm, name: str) -> None:
    """kubelet does not update a file that is mounted with subPath, so a reload would never come."""
    mounts = [
        mount
        for _, pod in pods(helm.render(MATRIX[name]))
        for container in pod["containers"]
        for mount in container.get("volumeMounts", [])
    ]
    assert [mount for mount in mounts if "subPath" in mount or "subPathExpr" in mount] == []


@pytest.mark.helm
def test_the_probes_ask_the_health_listener(helm: Helm) -> None:
    """A lost dependency never restarts a pod: alive depends on nothing."""
    container = gateway_of(helm.render(INGRESS))
    probes = {
        name: (
            container[name]["httpGet"],
            container[name]["periodSeconds"] * container[name]["failureThreshold"],
        )
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert probes == {
        "startupProbe": ({"path": "/health/alive", "port": "health"}, 60),
        "livenessProbe": ({"path": "/health/alive", "port": "health"}, 30),
        "readinessProbe": ({"path": "/health/ready", "port": "health"}, 10),
    }
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "gateway": 5001,
        "health": 5003,
    }


@pytest.mark.helm
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 40),
        ({"settings": {"drain": {"delay": "0s", "timeout": "1m"}}}, 70),
        ({"settings": {"drain": {"timeout": "1500ms"}}}, 17),
        ({"gatewayYaml": "drain: {timeout: 2m}\nroutes: {GET /health: public}"}, 135),
        ({"settings": {"drain": {"timeout": "10s"}}, "gatewayYaml": "drain: {delay: 1s, timeout: 2m}"}, 21),
        ({"terminationGracePeriodSeconds": 31}, 31),
    ],
)
def test_a_pod_has_time_to_drain(helm: Helm, values: dict[str, Any], seconds: int) -> None:
    """SIGKILL comes 10 s after the longest drain: of the settings, else of the file, else the default."""
    pod = only(helm.render(INGRESS | values), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


@pytest.mark.helm
def test_pods_are_spread_and_replaced_one_by_one(helm: Helm) -> None:
    manifests = helm.render(INGRESS)
    deployment = only(manifests, "Deployment")["spec"]
    labels = deployment["selector"]["matchLabels"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert only(manifests, "PodDisruptionBudget")["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": labels},
    }
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [(one["topologyKey"], one["labelSelector"]["matchLabels"]) for one in spread] == [
        ("kubernetes.io/hostname", labels),
        ("topology.kubernetes.io/zone", labels),
    ]


@pytest.mark.helm
def test_autoscaling_replaces_the_number_of_replicas(helm: Helm) -> None:
    """Only the autoscaler sets the number of pods, or each upgrade would reset it."""
    manifests = helm.render(EVERYTHING)
    assert "replicas" not in only(manifests, "Deployment", "front")["spec"]
    scaler = only(manifests, "HorizontalPodAutoscaler", "front")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)


@pytest.mark.helm
def test_a_trial_never_has_two_pods(helm: Helm) -> None:
    """Keys in memory are those of one pod: an upgrade ends it before the next one starts."""
    manifests = helm.render(TRIAL)
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert [one["kind"] for one in manifests if one["kind"] == "PodDisruptionBudget"] == []


# Secrets.


@pytest.mark.helm
@ALL
def test_no_secret_is_in_an_object(helm: Helm, name: str) -> None:
    """The chart makes no Secret, and each variable with a secret refers to one."""
    manifests = helm.render(MATRIX[name])
    assert [one for one in manifests if one["kind"] == "Secret"] == []
    secrets = re.compile(r"PASSWORD|STORE|DATABASE|AUTH$|MASTER_KEY$")
    values = [
        one["value"]
        for _, pod in pods(manifests)
        for container in pod["containers"]
        for one in container.get("env", [])
        if secrets.search(one["name"]) and "value" in one
    ]
    assert [value for value in values if value != "memory://" and ":$(REDIS_PASSWORD)@" not in value] == []


@pytest.mark.helm
def test_the_master_key_is_a_file_that_is_read_again(helm: Helm, tmp_path: Path) -> None:
    """A new master key in the Secret needs no restart: the whole folder is mounted."""
    manifests = helm.render(EVERYTHING)
    container = gateway_of(manifests, "front")
    config = load_config(ROOT / "gateway.yaml", environment(container), secrets=False)
    volumes = only(manifests, "Deployment", "front")["spec"]["template"]["spec"]["volumes"]
    [secrets] = [one["projected"]["sources"] for one in volumes if one["name"] == "blnk-gateway-secrets"]
    [folder] = [
        one["mountPath"] for one in container["volumeMounts"] if one["name"] == "blnk-gateway-secrets"
    ]
    files = {f"{folder}/{item['path']}" for source in secrets for item in source["secret"]["items"]}
    assert files == {str(config.upstream.master_key_file), str(config.admin_token_file)}


# Redis.


@pytest.mark.helm
def test_the_bundled_redis_is_that_of_the_compose_file_and_has_a_volume(helm: Helm) -> None:
    manifests = helm.render(BUNDLED)
    redis = only(manifests, "StatefulSet", "gw-blnk-gateway-redis")["spec"]
    [container] = redis["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["redis"]
    assert f"${{REDIS_IMAGE:-{container['image']}}}" == compose["image"]
    [script] = container["args"]
    options = dict(re.findall(r"--([\w-]+) (\S+)", script))
    assert options == {
        "dir": "/data",
        "aclfile": "/run/redis/users.acl",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory": "192mb",
        "maxmemory-policy": "noeviction",
    }
    assert redis_acl.RULES in script
    [claim] = redis["volumeClaimTemplates"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts["/data"] == claim["metadata"]["name"]


# Objects of other projects.


@pytest.mark.helm
def test_prometheus_scrapes_the_health_port_of_every_pod(helm: Helm) -> None:
    """The monitor selects the Service of health alone, whose pods are those of the gateway."""
    manifests = helm.render(EVERYTHING)
    monitor = only(manifests, "ServiceMonitor", "front")
    health = only(manifests, "Service", "front-health")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "health", "path": "/metrics", "interval": "30s"}]
    selected = [
        one["metadata"]["name"]
        for one in manifests
        if one["kind"] == "Service"
        and monitor["spec"]["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert selected == ["front-health"]
    assert (
        health["spec"]["selector"]
        == only(manifests, "Deployment", "front")["spec"]["selector"]["matchLabels"]
    )
    assert health["spec"]["ports"] == [{"name": "health", "port": 5003, "targetPort": 5003}]


@pytest.mark.helm
def test_the_rules_of_the_chart_are_those_of_the_repository(helm: Helm) -> None:
    rules = only(helm.render(EVERYTHING), "PrometheusRule", "front")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.helm
def test_clients_come_over_an_ingress_or_a_route_of_the_gateway_api(helm: Helm) -> None:
    """Both lead to the Service of clients, with every path."""
    manifests = helm.render(EVERYTHING)
    ingress, route = (
        only(manifests, "Ingress", "front")["spec"],
        only(manifests, "HTTPRoute", "front")["spec"],
    )
    backend = {"service": {"name": "front", "port": {"name": "gateway"}}}
    assert ingress == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": ["ledger.example"], "secretName": "ledger-tls"}],
        "rules": [
            {
                "host": "ledger.example",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ],
    }
    assert route == {
        "parentRefs": [{"name": "public", "sectionName": "https"}],
        "hostnames": ["ledger.example"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "timeouts": {"request": "0s"},
                "backendRefs": [{"name": "front", "port": 5001}],
            }
        ],
    }


# helm test.


@pytest.mark.helm
@pytest.mark.parametrize("closed", [True, False])
def test_helm_test_asks_from_a_pod_of_its_own(helm: Helm, closed: bool) -> None:
    """The pod asks whether the gateway is ready, and whether Core is closed if a policy should close it."""
    pod = only(
        helm.render(INGRESS | {"networkPolicy": {"closeCore": closed}}), "Pod", "gw-blnk-gateway-reach"
    )
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    commands = {container["name"]: container["args"] for container in pod["spec"]["containers"]}
    ready = {"ready": ["health", "ready", "--url", "http://gw-blnk-gateway-health:5003"]}
    core = {"core-is-closed": ["check", "--reach", "http://core:5001"]}
    assert commands == (ready | core if closed else ready)
    assert set(cli.commands) >= {args[0] for args in commands.values()}


# The sidecar form.

CHART_OF_CORE = {
    "Chart.yaml": """
apiVersion: v2
name: core
version: 1.0.0
dependencies: [{name: blnk-gateway, version: 0.x}]
""",
    "templates/core.yaml": """
{{- $gateway := index .Subcharts "blnk-gateway" }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: core, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {app: core}}
  template:
    metadata: {labels: {app: core}}
    spec:
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "blnk-gateway.sidecar.gracePeriodSeconds" $gateway }}
      containers:
        - name: core
          image: blnk
          lifecycle: {{- include "blnk-gateway.sidecar.coreLifecycle" $gateway | nindent 12 }}
        {{- include "blnk-gateway.sidecar.containers" $gateway | nindent 8 }}
      volumes:
        {{- include "blnk-gateway.sidecar.volumes" $gateway | nindent 8 }}
""",
}


@pytest.fixture
def chart_of_core(tmp_path: Path) -> Path:
    """A chart of Core that includes the sidecar."""
    folder = tmp_path / "core"
    (folder / "templates").mkdir(parents=True)
    for path, text in CHART_OF_CORE.items():
        (folder / path).write_text(text)
    shutil.copytree(CHART, folder / "charts" / "blnk-gateway")
    return folder


@pytest.mark.helm
def test_the_chart_of_core_includes_the_sidecar(helm: Helm, chart_of_core: Path, tmp_path: Path) -> None:
    """The container has what the ingress form has; Core stays up while the sidecar drains."""
    manifests = helm.render({"blnk-gateway": SIDECAR}, chart_of_core)
    deployment = only(manifests, "Deployment", "core")
    kubernetes_validate.validate(deployment, NEWEST, strict=True)
    pod = deployment["spec"]["template"]["spec"]
    core, sidecar = pod["containers"]
    assert core["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "30"]}}}
    assert pod["terminationGracePeriodSeconds"] == 40
    ingress = gateway_of(helm.render(BUNDLED))
    assert {name for name in sidecar if sidecar[name] != ingress[name]} == {"env"}
    assert environment(sidecar)["BLNK_GATEWAY_UPSTREAM__URL"] == "http://127.0.0.1:5100"
    assert check(manifests, sidecar, tmp_path).exit_code == 0
    assert only(manifests, "Service")["spec"]["selector"] == {"app": "core"}


@pytest.mark.helm
@pytest.mark.parametrize("name", MATRIX)
def test_the_notes_name_the_next_commands(helm: Helm, name: str, tmp_path: Path) -> None:
    """helm prints them after an install; without a cluster, a template shows them."""
    chart = tmp_path / "blnk-gateway"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "notes.yaml").write_text(
        "apiVersion: v1\nkind: Notes\nmetadata: {name: notes}\n"
        'text: {{ include "blnk-gateway.notes" . | quote }}\n'
    )
    text = only(helm.render(MATRIX[name], chart), "Notes", "notes")["text"]
    commands = re.findall(r"^  (kubectl|helm) ", text, re.MULTILINE)
    assert len(commands) == 3
    assert ("terminationGracePeriodSeconds: 40" in text) == (name == "sidecar")
    assert ("WARNING" in text) == (name == "trial")
