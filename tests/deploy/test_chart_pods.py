"""The pods of the chart have no privileges, time to drain and no secrets in their objects."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.containers import pods
from tests.deploy.helm import Helm, container_of, only
from tests.deploy.values import AUDITED, EVERYTHING, INGRESS, MATRIX, SIDECAR_WITH_BOTH, TLS, TRIAL

pytestmark = pytest.mark.helm

SHIPPER = "gw-blnk-gateway-audit"


@pytest.mark.parametrize("name", MATRIX)
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


@pytest.mark.parametrize("name", MATRIX)
def test_no_file_is_mounted_where_kubelet_does_not_update_it(helm: Helm, name: str) -> None:
    """kubelet does not update a file that is mounted with subPath, so a reload would never come."""
    mounts = [
        mount
        for _, pod in pods(helm.render(MATRIX[name]))
        for container in pod["containers"]
        for mount in container.get("volumeMounts", [])
    ]
    assert [mount for mount in mounts if "subPath" in mount or "subPathExpr" in mount] == []


@pytest.mark.parametrize(("tls", "scheme"), [({}, "HTTP"), (TLS["tls"], "HTTPS")])
def test_the_probes_ask_the_health_listener(helm: Helm, tls: dict[str, Any], scheme: str) -> None:
    """A lost dependency never restarts a pod: alive depends on nothing."""
    container = container_of(helm.render(INGRESS | {"tls": tls}), "Deployment")
    probes = {
        name: (
            container[name]["httpGet"],
            container[name]["periodSeconds"] * container[name]["failureThreshold"],
        )
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert probes == {
        "startupProbe": ({"path": "/health/alive", "port": "health", "scheme": scheme}, 60),
        "livenessProbe": ({"path": "/health/alive", "port": "health", "scheme": scheme}, 30),
        "readinessProbe": ({"path": "/health/ready", "port": "health", "scheme": scheme}, 10),
    }
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "gateway": 5001,
        "health": 5003,
    }


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 40),
        ({"settings": {"drain": {"delay": "0s", "timeout": "1m"}}}, 70),
        ({"settings": {"drain": {"timeout": "1500ms"}}}, 17),
        ({"gatewayYaml": "drain: {timeout: 2m}\nroutes: {GET /health: public}"}, 135),
        ({"settings": {"drain": {"timeout": "10s"}}, "gatewayYaml": "drain: {delay: 1s, timeout: 2m}"}, 21),
        ({"gatewayYaml": "drain: {delay: 0}\nroutes: {}"}, 35),
        ({"gatewayYaml": "drain: {delay: 20s}\nroutes: {}", "settings": {"drain": {"delay": 0}}}, 35),
        ({"terminationGracePeriodSeconds": 31}, 31),
    ],
)
def test_a_pod_has_time_to_drain(helm: Helm, values: dict[str, Any], seconds: int) -> None:
    """SIGKILL comes 10 s after the longest drain: of the settings, else of the file, else the default."""
    pod = only(helm.render(INGRESS | values), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


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


def test_autoscaling_replaces_the_number_of_replicas(helm: Helm) -> None:
    """Only the autoscaler sets the number of pods, or each upgrade would reset it."""
    manifests = helm.render(EVERYTHING)
    assert "replicas" not in only(manifests, "Deployment", "front")["spec"]
    scaler = only(manifests, "HorizontalPodAutoscaler", "front")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)


def test_a_trial_never_has_two_pods(helm: Helm) -> None:
    """Keys in memory are those of one pod: an upgrade ends it before the next one starts."""
    manifests = helm.render(TRIAL)
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert [one["kind"] for one in manifests if one["kind"] == "PodDisruptionBudget"] == []


@pytest.mark.parametrize("name", MATRIX)
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


def test_the_audit_is_shipped_by_one_pod_that_has_only_the_redis(helm: Helm) -> None:
    """Two would share one position; the master key and the file of the gateway are not for it."""
    manifests = helm.render(AUDITED)
    deployment = only(manifests, "Deployment", SHIPPER)["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert container["args"] == ["audit", "--follow", "--name", "siem"]
    assert container["image"] == container_of(manifests, "Deployment")["image"]
    assert [one["name"] for one in container["env"]] == ["REDIS_PASSWORD", "BLNK_GATEWAY_KEYS__STORE"]
    assert ("volumes" in pod, "volumeMounts" in container, pod["nodeSelector"]) == (
        False,
        False,
        {"pool": "edge"},
    )
    assert deployment["template"]["metadata"]["annotations"] == {"fluentbit.io/parser": "json"}


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("external", "", ("blnk-gateway", "redis-url")),
        ("external", "audit", ("audit", "audit-redis-url")),
        ("bundled", "audit", ("blnk-gateway", "redis-password")),
    ],
)
def test_the_audit_shipper_can_have_a_user_of_its_own_in_your_redis(
    helm: Helm, kind: str, name: str, expected: tuple[str, str]
) -> None:
    values = AUDITED | {"redis": {"kind": kind}, "secrets": {"auditRedisUrl": {"name": name}}}
    [variable, *_] = container_of(helm.render(values), "Deployment", SHIPPER)["env"]
    reference = variable["valueFrom"]["secretKeyRef"]
    assert (reference["name"], reference["key"]) == expected


def test_the_shipper_of_a_sidecar_trusts_what_the_values_mount(helm: Helm) -> None:
    """The URL of the Redis can name a file of an authority."""
    pod = only(helm.render(SIDECAR_WITH_BOTH), "Deployment", SHIPPER)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["volumes"] == SIDECAR_WITH_BOTH["extraVolumes"]
    assert container["volumeMounts"] == SIDECAR_WITH_BOTH["extraVolumeMounts"]
