"""The Redis of the chart, and the objects of an Ingress, the Gateway API and Prometheus, fit the pods."""

from __future__ import annotations

import re

import pytest
import yaml

from gateway.cli import cli
from tests import redis_acl
from tests.deploy.containers import secret_references
from tests.deploy.helm import Helm, container_of, only
from tests.deploy.values import BUNDLED, EVERYTHING, INGRESS
from tests.running import ROOT

pytestmark = pytest.mark.helm


def test_the_bundled_redis_is_that_of_the_compose_file_and_has_a_volume(helm: Helm) -> None:
    manifests = helm.render(BUNDLED)
    container = container_of(manifests, "StatefulSet", "gw-blnk-gateway-redis")
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
    [claim] = only(manifests, "StatefulSet", "gw-blnk-gateway-redis")["spec"]["volumeClaimTemplates"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts["/data"] == claim["metadata"]["name"]


def test_prometheus_scrapes_the_health_port_of_every_pod(helm: Helm) -> None:
    """The monitor selects the Service of health alone, whose pods are those of the gateway."""
    manifests = helm.render(EVERYTHING)
    monitor = only(manifests, "ServiceMonitor", "front")
    health = only(manifests, "Service", "front-health")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    endpoint = {"port": "health", "path": "/metrics", "interval": "30s", "scheme": "http"}
    assert monitor["spec"]["endpoints"] == [endpoint]
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
    assert health["spec"]["ports"] == [
        {"name": "health", "port": 5003, "targetPort": 5003, "appProtocol": "http"}
    ]


def test_the_rules_of_the_chart_are_those_of_the_repository(helm: Helm) -> None:
    rules = only(helm.render(EVERYTHING), "PrometheusRule", "front")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus"


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


NOT_TEXT = ["a b: c", "12", "true", "#"]
"""Texts that YAML reads as something else unless they are in quotes."""


@pytest.mark.parametrize("kind", ["external", "bundled"])
@pytest.mark.parametrize("text", NOT_TEXT)
def test_a_secret_is_named_as_the_values_name_it(helm: Helm, text: str, kind: str) -> None:
    """Kubernetes refuses a name that it does not allow, and the message shows it."""
    every = ("masterKey", "masterKeyNext", "redisUrl", "redisPassword", "adminToken", "coreDatabase")
    secrets = {name: {"name": text, "key": text} for name in every}
    values = EVERYTHING | {"redis": {"kind": kind}, "secrets": secrets}
    assert secret_references(helm.render(values)) == {(text, text)}


@pytest.mark.parametrize("text", NOT_TEXT)
def test_an_object_outside_the_chart_is_named_as_the_values_name_it(helm: Helm, text: str) -> None:
    """A class, an account, a Secret or a namespace whose name looks like a number stays a text."""
    values = EVERYTHING | {
        "core": EVERYTHING["core"] | {"namespace": text},
        "redis": {"kind": "bundled", "bundled": {"storageClass": text}},
        "serviceAccountName": text,
        "priorityClassName": text,
        "ingress": EVERYTHING["ingress"] | {"className": text, "tlsSecret": text},
    }
    manifests = helm.render(values)
    pod = only(manifests, "Deployment", "front")["spec"]["template"]["spec"]
    [claim] = only(manifests, "StatefulSet", "front-redis")["spec"]["volumeClaimTemplates"]
    ingress = only(manifests, "Ingress", "front")["spec"]
    assert [
        only(manifests, "NetworkPolicy", "front-core")["metadata"]["namespace"],
        claim["spec"]["storageClassName"],
        pod["serviceAccountName"],
        pod["priorityClassName"],
        ingress["ingressClassName"],
        ingress["tls"][0]["secretName"],
    ] == [text] * 6
