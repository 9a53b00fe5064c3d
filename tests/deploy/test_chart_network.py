"""The chart's NetworkPolicies leave Core reachable only through the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.deploy.helm import NAMESPACE, Helm, Manifest, only
from tests.deploy.network_policies import Pod, accepts
from tests.deploy.values import AUDITED, BUNDLED, EVERYTHING, SIDECAR

pytestmark = pytest.mark.helm

CORE = Pod(NAMESPACE, {"app": "core", "pod-template-hash": "1"})
REDIS_PORT, GATEWAY_PORT, ADMIN_PORT, HEALTH_PORT = 6379, 5001, 5002, 5003


def policies_of(manifests: Sequence[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]


def pod_of(manifest: Mapping[str, Any]) -> Pod:
    """Return a pod of a Deployment or StatefulSet."""
    return Pod(manifest["metadata"]["namespace"], manifest["spec"]["template"]["metadata"]["labels"])


def others(manifests: Sequence[Manifest], gateway: Pod) -> dict[str, Pod]:
    """Return pods that are not the gateway, and which resemble it as far as a pod of another owner can."""
    by_accident = {name: label for name, label in gateway.labels.items() if not name.endswith("component")}
    found = {
        "a client": Pod(NAMESPACE, {"app": "client"}),
        "a pod without labels": Pod(NAMESPACE, {}),
        "a pod of the same release": Pod(NAMESPACE, by_accident),
        "a gateway of another namespace": Pod("elsewhere", gateway.labels),
        "a host of the internet": Pod("", {}, "203.0.113.9"),
    }
    jobs = [manifest for manifest in manifests if manifest["kind"] == "Pod"]
    return found | {
        f"the pod {job['metadata']['name']}": Pod(NAMESPACE, job["metadata"]["labels"]) for job in jobs
    }


def test_only_the_gateway_reaches_core(helm: Helm) -> None:
    """Core accepts the pods of the gateway on its port, and no other pod on any port."""
    manifests = helm.render(BUNDLED)
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment"))
    assert accepts(policies, CORE, 5001, gateway)
    assert not accepts(policies, CORE, 5002, gateway)
    strangers = others(manifests, gateway) | {
        "Redis": pod_of(only(manifests, "StatefulSet", "gw-blnk-gateway-redis"))
    }
    assert len(strangers) == 7
    assert [
        name for name, pod in strangers.items() for port in (5001, 5004) if accepts(policies, CORE, port, pod)
    ] == []


def test_without_the_policies_everyone_reaches_core(helm: Helm) -> None:
    """The values can leave the policies out, and the evaluator of these tests then allows everything."""
    manifests = helm.render(BUNDLED | {"networkPolicy": {"enabled": False}})
    policies = policies_of(manifests)
    assert policies == []
    assert accepts(policies, CORE, 5001, Pod("elsewhere", {}))


def test_core_of_another_namespace_is_closed_but_for_what_the_values_name(helm: Helm) -> None:
    """The policy is in the namespace of Core; Prometheus reaches the worker's port and not Core's."""
    manifests = helm.render(EVERYTHING)
    core = Pod("core", {"app": "core"})
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment", "front"))
    prometheus = Pod("core", {"app": "prometheus"})
    allowed = {
        (name, port)
        for name, pod in {"gateway": gateway, "prometheus": prometheus, **others(manifests, gateway)}.items()
        for port in (5001, 5004, 5100)
        if accepts(policies, core, port, pod)
    }
    assert allowed == {("gateway", 5100), ("prometheus", 5004)}


def test_only_the_gateway_reaches_the_bundled_redis(helm: Helm) -> None:
    """Redis is the record of the keys: only the gateway can write to it."""
    manifests = helm.render(BUNDLED)
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment"))
    redis = pod_of(only(manifests, "StatefulSet", "gw-blnk-gateway-redis"))
    assert accepts(policies, redis, REDIS_PORT, gateway)
    strangers = others(manifests, gateway) | {"Core": CORE}
    assert [name for name, pod in strangers.items() if accepts(policies, redis, REDIS_PORT, pod)] == []


def test_the_audit_shipper_reaches_the_bundled_redis_and_nobody_reaches_it(helm: Helm) -> None:
    """It is no gateway: it reaches neither Core nor the gateway's private ports."""
    manifests = helm.render(AUDITED)
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment"))
    shipper = pod_of(only(manifests, "Deployment", "gw-blnk-gateway-audit"))
    redis = pod_of(only(manifests, "StatefulSet", "gw-blnk-gateway-redis"))
    assert accepts(policies, redis, REDIS_PORT, shipper)
    assert not accepts(policies, CORE, 5001, shipper)
    assert not accepts(policies, gateway, ADMIN_PORT, shipper)
    sources = others(manifests, gateway) | {"the gateway": gateway}
    assert [name for name, pod in sources.items() if accepts(policies, shipper, 5001, pod)] == []


@pytest.mark.parametrize("form", [BUNDLED, SIDECAR])
def test_core_stays_open_while_clients_are_moved(helm: Helm, form: dict[str, Any]) -> None:
    """With closeCore: false everyone reaches Core as before; Redis is closed all the same."""
    manifests = helm.render(form | {"networkPolicy": {"closeCore": False}})
    policies, client = policies_of(manifests), Pod("elsewhere", {"app": "client"})
    redis = pod_of(only(manifests, "StatefulSet", "gw-blnk-gateway-redis"))
    assert accepts(policies, CORE, form["core"].get("port", 5001), client)
    assert not accepts(policies, redis, REDIS_PORT, client)


@pytest.mark.parametrize("source", ["a client", "a host of the internet"])
def test_everyone_reaches_the_port_of_clients_and_no_private_one(helm: Helm, source: str) -> None:
    """By default the port of clients is open; health is open to the cluster; admin is on loopback."""
    manifests = helm.render(BUNDLED)
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment"))
    pod = others(manifests, gateway)[source]
    allowed = {
        port for port in (GATEWAY_PORT, ADMIN_PORT, HEALTH_PORT) if accepts(policies, gateway, port, pod)
    }
    assert allowed == ({GATEWAY_PORT, HEALTH_PORT} if pod.namespace else {GATEWAY_PORT})


def test_each_port_of_the_gateway_is_open_for_those_whom_the_values_name(helm: Helm) -> None:
    """Clients, monitoring and operators each have one port, and no other pod has any."""
    manifests = helm.render(EVERYTHING)
    policies, gateway = policies_of(manifests), pod_of(only(manifests, "Deployment", "front"))
    pods = {app: Pod(NAMESPACE, {"app": app}) for app in ("client", "prometheus", "operator", "stranger")}
    allowed = {
        (app, port)
        for app, pod in pods.items()
        for port in (GATEWAY_PORT, ADMIN_PORT, HEALTH_PORT)
        if accepts(policies, gateway, port, pod)
    }
    assert allowed == {("client", GATEWAY_PORT), ("prometheus", HEALTH_PORT), ("operator", ADMIN_PORT)}


def test_a_sidecar_leaves_only_its_own_ports_open(helm: Helm) -> None:
    """Nobody reaches Core's port in the pod from outside of it; the sidecar reaches Redis."""
    manifests = helm.render(SIDECAR)
    policies = policies_of(manifests)
    redis = pod_of(only(manifests, "StatefulSet", "gw-blnk-gateway-redis"))
    pods = {
        "client": Pod(NAMESPACE, {"app": "client"}),
        "internet": Pod("", {}, "203.0.113.9"),
        "redis": redis,
    }
    allowed = {
        (name, port)
        for name, pod in pods.items()
        for port in (GATEWAY_PORT, ADMIN_PORT, 5100)
        if accepts(policies, CORE, port, pod)
    }
    assert allowed == {(name, GATEWAY_PORT) for name in pods}
    assert accepts(policies, redis, REDIS_PORT, CORE)
    assert not accepts(policies, redis, REDIS_PORT, pods["client"])
