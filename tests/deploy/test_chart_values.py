"""The chart refuses values that are wrong or cannot work together, with the reason and what to write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml

from gateway.config.environment import variable
from tests.deploy.helm import Helm, HelmRefusedError
from tests.deploy.synced import CHART, SET_BY_THE_CHART
from tests.deploy.values import BUNDLED, CORE, EVERYTHING, INGRESS, MATRIX, SIDECAR, TLS, TRIAL

pytestmark = pytest.mark.helm

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def problems(helm: Helm, values: dict[str, Any]) -> list[str]:
    """Return what helm prints of each problem of the values; nothing if it renders them."""
    try:
        helm.render(values)
    except HelmRefusedError as refused:
        lines = [line.strip() for line in str(refused).splitlines()]
        return [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return []


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
    assert [line[: len(expected)] for line in problems(helm, INGRESS | values)][:1] == [expected]


@pytest.mark.parametrize(
    ("values", "beginnings"),
    [
        ({}, ["core.url is missing", "core.podLabels is missing", "redis.kind is missing"]),
        ({"core": {"url": "http://core"}, "networkPolicy": {"enabled": False}}, ["redis.kind is missing"]),
        ({"core": {"url": "http://core"}, "networkPolicy": {"closeCore": False}}, ["redis.kind is missing"]),
        (TRIAL | {"replicas": 2}, ["redis.kind memory: each pod would have keys of its own"]),
        (TRIAL | {"autoscaling": {"enabled": True}}, ["redis.kind memory: each pod"]),
        (SIDECAR | {"redis": {"kind": "memory"}, "replicas": 1}, ["redis.kind memory: each pod"]),
        (SIDECAR | {"autoscaling": {"enabled": True}}, ["autoscaling is for the ingress form"]),
        (SIDECAR | {"core": {"podLabels": {"app": "core"}}}, ["core.port 5001 is a port of the gateway"]),
        (SIDECAR | {"core": {"port": 5100}}, ["core.podLabels is missing"]),
        (
            SIDECAR | {"core": SIDECAR["core"] | {"namespace": "core"}},
            ["core.namespace is for the ingress form"],
        ),
        (
            INGRESS | {"gatewayYaml": "tls: {listeners: [listen, health]}\nroutes: {GET /health: public}"},
            ["tls.listeners of gatewayYaml names health: write it in the values"],
        ),
        (
            TLS | {"gatewayYaml": "tls: {key: /a.key}\nroutes: {GET /health: public}"},
            ["tls.secret and tls of gatewayYaml: write one of them"],
        ),
        (INGRESS | {"tls": {"clientCa": {"name": "clients"}}}, ["tls.clientCa needs tls.secret"]),
        (
            INGRESS | {"tls": TLS["tls"] | {"listeners": ["health"]}},
            ["tls.clientCa: health never asks for a certificate"],
        ),
        (
            INGRESS | {"core": CORE | {"tls": {"secret": "gateway"}}},
            ["core.tls needs core.url with https://"],
        ),
        (
            INGRESS | {"core": CORE | {"tls": {"ca": {"name": "core-ca"}}}},
            ["core.tls needs core.url with https://"],
        ),
        (
            TLS | {"monitoring": {"serviceMonitor": {"enabled": True}}},
            ["monitoring.serviceMonitor.tlsConfig is missing"],
        ),
        (TRIAL | {"auditShipper": {"enabled": True}}, ["auditShipper: with redis.kind memory"]),
        (
            INGRESS | {"gatewayYaml": "decide: {listen: '0.0.0.0:5004'}\nroutes: {GET /health: public}"},
            ["decide.listen: the chart opens no port for decisions"],
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
            ["drain.timeout is no duration that the chart can read"],
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
                "tls.listeners of gatewayYaml names health: write it in the values",
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
                ["drain.delay is no duration that the chart can read"],
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
            ["extraEnv[1] is A, which another one of them is, too: remove one"],
        ),
        (
            INGRESS | {"settings": {"keys": {"authority": "core"}}},
            ["keys.authority is core: write core.database"],
        ),
        (INGRESS | {"gatewayYaml": "keys: {authority: core}\nroutes: {}"}, ["keys.authority is core"]),
        (INGRESS | {"autoscaling": {"enabled": True, "min": 3, "max": 2}}, ["autoscaling.min is greater"]),
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
    found = problems(helm, values)
    assert [line[: len(start)] for line, start in zip(found, beginnings, strict=True)] == beginnings


def variables_in_extra_env(names: Iterable[str]) -> dict[str, Any]:
    """Return values that set these variables."""
    return {"extraEnv": [{"name": name, "value": "x"} for name in names]}


def refused_variables(lines: Iterable[str]) -> set[str]:
    """Return the variables that these problems are about."""
    found = (re.match(r"extraEnv\[\d+\] is (\w+), which cannot be set here: \w+", one) for one in lines)
    return {match[1] for match in found if match}


@pytest.mark.parametrize("name", [name for name in MATRIX if "form" not in MATRIX[name]])
def test_no_variable_of_the_chart_can_be_set_twice(helm: Helm, name: str) -> None:
    """A container with two variables of one name would get the last one, whatever the values say."""
    values = {"extraEnv": []} | MATRIX[name]
    deployments = [one for one in helm.render(values) if one["kind"] == "Deployment"]
    containers = [one["spec"]["template"]["spec"]["containers"][0] for one in deployments]
    theirs = {one["name"] for one in values["extraEnv"]}
    set_by_the_chart = {one["name"] for container in containers for one in container["env"]} - theirs
    found = problems(helm, values | variables_in_extra_env(set_by_the_chart))
    assert (refused_variables(found), len(found)) == (set_by_the_chart, len(set_by_the_chart))


def test_a_variable_whose_setting_has_a_value_of_the_chart_is_refused(helm: Helm) -> None:
    """Also where the chart sets another one: the gateway refuses a master key beside a file with it.

    Probes, Services and the time to drain follow the values, and would not fit such a variable.
    """
    read = {"decide.listen", "drain.delay", "drain.timeout", "keys.authority"}
    names = {variable(path) for path in SET_BY_THE_CHART | read}
    found = problems(helm, INGRESS | variables_in_extra_env(names))
    assert (refused_variables(found), len(found)) == (names, len(names))


def test_a_variable_that_the_chart_knows_nothing_of_is_set(helm: Helm) -> None:
    """A setting that nothing else in the chart depends on may also come from a Secret or from the pod."""
    names = ["BLNK_GATEWAY_TRACING__ENDPOINT", "REDIS_PASSWORD"]
    assert problems(helm, INGRESS | variables_in_extra_env(names)) == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("BLNK_GATEWAY_LISTEN", "write bindAddress for the address; the port is 5001 in the pod"),
        ("BLNK_GATEWAY_UPSTREAM__MASTER_KEY", "name the Secret in secrets.masterKey"),
        ("BLNK_GATEWAY_DRAIN__TIMEOUT", "write settings.drain.timeout"),
        ("REDIS_PASSWORD", "name the Secret in secrets.redisPassword"),
    ],
)
def test_a_variable_is_refused_with_the_value_that_sets_it(helm: Helm, name: str, advice: str) -> None:
    [problem] = problems(helm, BUNDLED | variables_in_extra_env([name]))
    assert problem.startswith(f"extraEnv[0] is {name}, which cannot be set here: {advice}")


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
    [problem] = problems(helm, form | {"core": form["core"] | {"alsoAllow": [rule]}})
    assert problem.startswith("core.alsoAllow[0] admits every")


def test_a_load_balancer_that_terminates_tls_needs_no_secret(helm: Helm) -> None:
    """Plain HTTP from clients has to be said on purpose, because requests contain keys."""
    ingress = {"enabled": True, "host": "ledger.example", "tlsElsewhere": True}
    assert problems(helm, INGRESS | {"ingress": ingress}) == []


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
    for place, names in re.findall(r"at '(.*)': missing propert\w+ (.*)", "\n".join(problems(helm, taken))):
        missing |= {f"{place}/{name}" for name in re.findall(r"'(\w+)'", names)}
    assert missing == {path for path in paths(taken) if not path.endswith("/resources")}


@pytest.mark.parametrize("values", [INGRESS, BUNDLED, SIDECAR, TLS, EVERYTHING])
def test_a_value_that_is_empty_by_default_may_be_null(helm: Helm, values: dict[str, Any]) -> None:
    """Null is the same as empty there; only `settings` has to be a mapping, because it is a section."""
    empty = defaults_with_null(DEFAULTS, empty=True)
    del empty["settings"]
    assert helm.render(merged(empty, values)) == helm.render(values)
