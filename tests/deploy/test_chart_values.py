"""The chart refuses values that are wrong or cannot work together, with the reason and what to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.helm import Helm
from tests.deploy.synced import CHART
from tests.deploy.values import BUNDLED, CORE, EVERYTHING, INGRESS, SIDECAR, TLS, TRIAL

pytestmark = pytest.mark.helm

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"replica": 3}, "at '': additional properties 'replica' not allowed"),
        ({"replicas": "3"}, "at '/replicas': got string, want integer"),
        ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
        ({"form": "daemonset"}, "at '/form': value must be one of 'ingress', 'sidecar'"),
        ({"core": {"url": "core:5001"}}, "at '/core/url': 'core:5001' does not match pattern"),
        (
            {"secrets": {"masterKey": {"value": "x"}}},
            "at '/secrets/masterKey': additional properties 'value'",
        ),
        ({"settings": {"routes": {}}}, "at '/settings': additional properties 'routes' not allowed"),
        ({"settings": {"tls": {}}}, "at '/settings': additional properties 'tls' not allowed"),
        ({"tls": {"listeners": ["decide"]}}, "at '/tls/listeners/0': value must be one of"),
        ({"auditShipper": {"name": "a b"}}, "at '/auditShipper/name': 'a b' does not match pattern"),
        ({"settings": {"listen": "0.0.0.0:1"}}, "at '/settings': additional properties 'listen' not allowed"),
        (
            {"settings": {"timeouts": {"first_bite": "1s"}}},
            "at '/settings/timeouts': additional properties 'first_bite' not allowed",
        ),
        ({"settings": {"limits": {"rate": True}}}, "at '/settings/limits/rate': 'anyOf' failed"),
        ({"tls": None}, "at '': missing property 'tls'"),
        ({"settings": None}, "at '': missing property 'settings'"),
        ({"admin": {"enabled": None}}, "at '/admin': missing property 'enabled'"),
        ({"secrets": {"masterKey": None}}, "at '/secrets': missing property 'masterKey'"),
        ({"extraEnv": [{"value": "x"}]}, "at '/extraEnv/0': missing property 'name'"),
        ({"networkPolicy": {"clients": [{}]}}, "at '/networkPolicy/clients/0': minProperties: got 0, want 1"),
    ],
)
def test_a_name_or_type_that_is_wrong_is_refused_at_its_place(
    helm: Helm, values: dict[str, Any], expected: str
) -> None:
    """The schema of the values names the place, and what it expects there."""
    assert [line[: len(expected)] for line in helm.problems(INGRESS | values)][:1] == [expected]


@pytest.mark.parametrize(
    ("values", "beginnings"),
    [
        ({}, ["core.url is missing", "core.podLabels is missing", "redis.kind is missing"]),
        ({"core": {"url": "http://core"}, "networkPolicy": {"enabled": False}}, ["redis.kind is missing"]),
        ({"core": {"url": "http://core"}, "networkPolicy": {"closeCore": False}}, ["redis.kind is missing"]),
        (TRIAL | {"replicas": 2}, ["redis.kind memory: each pod would have keys of its own"]),
        (TRIAL | {"autoscaling": {"enabled": True}}, ["redis.kind memory: each pod"]),
        (SIDECAR | {"redis": {"kind": "memory"}, "replicas": 1}, ["redis.kind memory: each pod"]),
        (
            SIDECAR | {"autoscaling": {"enabled": True}},
            ["autoscaling is for the ingress form: write autoscaling.enabled: false"],
        ),
        (SIDECAR | {"core": {"podLabels": {"app": "core"}}}, ["core.port 5001 is a port of the gateway"]),
        (SIDECAR | {"core": {"port": 5100}}, ["core.podLabels is missing"]),
        (
            SIDECAR | {"core": SIDECAR["core"] | {"namespace": "core"}},
            ["core.namespace is for the ingress form: remove it"],
        ),
        (
            INGRESS | {"gatewayYaml": "tls: {listeners: [listen, health]}\nroutes: {GET /health: public}"},
            ["tls.listeners of gatewayYaml names health: remove tls there, and write the values tls.secret"],
        ),
        (
            TLS | {"gatewayYaml": "tls: {key: /a.key}\nroutes: {GET /health: public}"},
            ["tls.secret and tls of gatewayYaml exclude each other: remove one of them"],
        ),
        (
            INGRESS | {"settings": {"decide": {"listen": "0.0.0.0:5004"}}},
            ["decide.listen of settings needs a port that the chart does not open: remove it"],
        ),
        (
            INGRESS | {"settings": {"drain": {"timeout": "${DRAIN}"}}},
            ["drain.timeout of settings is no duration that the chart can read: write it as 25s"],
        ),
        (
            SIDECAR | {"core": SIDECAR["core"] | {"url": None, "tls": {"secret": "gateway"}}},
            ["core.tls is of no use without TLS to Core: write https:// in core.url"],
        ),
        (
            INGRESS | {"tls": {"clientCa": {"name": "clients"}}},
            ["tls.clientCa is of no use without TLS: name a Secret in tls.secret"],
        ),
        (
            INGRESS | {"tls": TLS["tls"] | {"listeners": ["health"]}},
            ["tls.clientCa is of no use, because health never asks for a certificate: write listen"],
        ),
        (
            INGRESS | {"core": CORE | {"tls": {"secret": "gateway"}}},
            ["core.tls is of no use without TLS to Core: write https:// in core.url"],
        ),
        (
            INGRESS | {"core": CORE | {"tls": {"ca": {"name": "core-ca"}}}},
            ["core.tls is of no use without TLS to Core: write https:// in core.url"],
        ),
        (
            TLS | {"monitoring": {"serviceMonitor": {"enabled": True}}},
            ["monitoring.serviceMonitor.tlsConfig is missing"],
        ),
        (
            TRIAL | {"auditShipper": {"enabled": True}},
            ["auditShipper.enabled is true, but with redis.kind memory only"],
        ),
        (
            INGRESS | {"gatewayYaml": "decide: {listen: '0.0.0.0:5004'}\nroutes: {GET /health: public}"},
            ["decide.listen of gatewayYaml needs a port that the chart does not open: remove it"],
        ),
        (
            INGRESS | {"terminationGracePeriodSeconds": 30},
            ["terminationGracePeriodSeconds is 30, but drain.delay and drain.timeout take 30 seconds"],
        ),
        (
            INGRESS | {"settings": {"drain": {"timeout": "2m"}}, "terminationGracePeriodSeconds": 60},
            ["terminationGracePeriodSeconds is 60, but drain.delay and drain.timeout take 125 seconds"],
        ),
        (
            INGRESS | {"gatewayYaml": "drain: {timeout: '${DRAIN}'}\nroutes: {GET /health: public}"},
            ["drain.timeout of gatewayYaml is no duration that the chart can read: write it as 25s"],
        ),
        (INGRESS | {"gatewayYaml": "- a\n- b: ["}, ["gatewayYaml is no YAML mapping"]),
        *(
            (
                INGRESS | {"gatewayYaml": f"{section}: {value}\nroutes: {{}}"},
                [f"{section} of gatewayYaml has no"],
            )
            for section in ("keys", "drain", "decide", "tls")
            for value in ("", "x", "[a]", "5")
        ),
        *(
            (TLS | {"gatewayYaml": f"tls: {value}\nroutes: {{}}"}, ["tls of gatewayYaml has no settings"])
            for value in ("", "x")
        ),
        *(
            (
                INGRESS | {"gatewayYaml": f"tls: {{certificate: /a, listeners: {value}}}\nroutes: {{}}"},
                ["tls.listeners of gatewayYaml is no list: write one, as [listen, admin]"],
            )
            for value in ("", "health", "5", "{a: b}")
        ),
        (
            INGRESS | {"gatewayYaml": "tls: {certificate: 5, listeners: [health]}\nroutes: {}"},
            [
                "tls.certificate of gatewayYaml is no text",
                "tls.listeners of gatewayYaml names health: remove tls there",
            ],
        ),
        *(
            (
                INGRESS | {"gatewayYaml": f"{section}: {{{name}: {value}}}\nroutes: {{}}"},
                [f"{section}.{name} of gatewayYaml is no text: {advice}"],
            )
            for section, name, advice in (
                ("keys", "authority", "write gateway or core"),
                ("decide", "listen", "remove it"),
                ("tls", "certificate", "write the path of a file"),
            )
            for value in ("", "5", "true", "[core]", "{a: b}")
        ),
        *(
            (
                INGRESS | {"gatewayYaml": f"drain: {{delay: {value}}}\nroutes: {{}}"},
                ["drain.delay of gatewayYaml is no duration that the chart can read: write it as 25s"],
            )
            for value in ("", "5", "false", "[5s]", "{a: b}")
        ),
        (
            INGRESS
            | {
                "settings": {"timeouts": {"head": "5s"}},
                "extraEnv": [
                    {"name": "A", "value": "1"},
                    {"name": "BLNK_GATEWAY_TIMEOUTS__HEAD", "value": "6s"},
                ],
            },
            [
                "extraEnv[1] is BLNK_GATEWAY_TIMEOUTS__HEAD, which cannot be set here: "
                "write settings.timeouts.head"
            ],
        ),
        (
            INGRESS | {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            ["extraEnv[1] is A, as an earlier one of them: remove one"],
        ),
        (
            INGRESS | {"settings": {"keys": {"authority": "core"}}},
            ["keys.authority of settings is core: write core.database: true"],
        ),
        (
            INGRESS | {"gatewayYaml": "keys: {authority: core}\nroutes: {}"},
            ["keys.authority of gatewayYaml is core"],
        ),
        (
            INGRESS | {"autoscaling": {"enabled": True, "min": 3, "max": 2}},
            ["autoscaling.min is 3, but autoscaling.max is 2: write a smaller min"],
        ),
        (
            INGRESS | {"ingress": {"enabled": True}},
            ["ingress.host is missing", "ingress.tlsSecret is missing"],
        ),
        (INGRESS | {"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs is missing"]),
    ],
)
def test_values_that_cannot_work_together_are_refused_all_at_once(
    helm: Helm, values: dict[str, Any], beginnings: list[str]
) -> None:
    """Each problem says what is wrong and what to write."""
    found = helm.problems(values)
    assert [line[: len(start)] for line, start in zip(found, beginnings, strict=True)] == beginnings


@pytest.mark.parametrize("form", [BUNDLED, SIDECAR])
@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"ports": [{"port": 5100}]},
        {"from": []},
        {"from": [{"podSelector": {}}]},
        {"from": [{"namespaceSelector": {}}]},
        {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {}}}]},
        {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "x"}}}, {"ipBlock": {"cidr": "::/0"}}]},
    ],
)
def test_a_rule_that_opens_core_to_everyone_is_refused(
    helm: Helm, form: dict[str, Any], rule: dict[str, Any]
) -> None:
    """Whoever reaches Core bypasses the gateway, so a rule has to name pods or a network."""
    [problem] = helm.problems(form | {"core": form["core"] | {"alsoAllow": [rule]}})
    assert problem.startswith("core.alsoAllow[0] admits every")


def test_a_load_balancer_that_terminates_tls_needs_no_secret(helm: Helm) -> None:
    """Plain HTTP from clients has to be said on purpose, because requests contain keys."""
    ingress = {"enabled": True, "host": "ledger.example", "tlsElsewhere": True}
    assert helm.problems(INGRESS | {"ingress": ingress}) == []


def defaults_with_null(values: dict[str, Any], *, empty: bool) -> dict[str, Any]:
    """Return null for each value that is empty, or for each other one; below a section for its values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value and name != "resources":
            found[name] = defaults_with_null(value, empty=empty)
        elif empty == (value is not False and not value):
            found[name] = None
    return found


def paths(values: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the place of each null, as the schema names it."""
    for name, value in values.items():
        yield from [f"{place}/{name}"] if value is None else paths(value, f"{place}/{name}")


def merged(values: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return values, with those of `above` over them."""
    sections = [name for name in values.keys() & above.keys() if isinstance(values[name], dict)]
    return values | above | {name: merged(values[name], above[name]) for name in sections}


def test_a_value_that_the_templates_need_cannot_be_taken_away(helm: Helm) -> None:
    """With null, helm takes a default away; only the resources of a container may be left out so."""
    taken = defaults_with_null(DEFAULTS, empty=False)
    missing = set()
    for place, names in re.findall(r"at '(.*)': missing propert\w+ (.*)", "\n".join(helm.problems(taken))):
        missing |= {f"{place}/{name}" for name in re.findall(r"'(\w+)'", names)}
    assert missing == {path for path in paths(taken) if not path.endswith("/resources")}


@pytest.mark.parametrize("values", [INGRESS, BUNDLED, SIDECAR, TLS, EVERYTHING])
def test_a_value_that_is_empty_by_default_may_be_null(helm: Helm, values: dict[str, Any]) -> None:
    """Null is the same as empty there; only `settings` has to be a mapping, because it is a section."""
    empty = defaults_with_null(DEFAULTS, empty=True)
    del empty["settings"]
    assert helm.render(merged(empty, values)) == helm.render(values)
