"""The chart refuses variables of `extraEnv` whose setting has a value of the chart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.config.environment import variable
from tests.deploy.helm import Helm
from tests.deploy.synced import SET_BY_THE_CHART
from tests.deploy.values import BUNDLED, INGRESS, MATRIX

pytestmark = pytest.mark.helm


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
    found = helm.problems(values | variables_in_extra_env(set_by_the_chart))
    assert (refused_variables(found), len(found)) == (set_by_the_chart, len(set_by_the_chart))


def test_a_variable_whose_setting_has_a_value_of_the_chart_is_refused(helm: Helm) -> None:
    """Also where the chart sets another one: the gateway refuses a master key beside a file with it.

    Probes, Services and the time to drain follow the values, and would not fit such a variable.
    """
    read = {"decide.listen", "drain.delay", "drain.timeout", "keys.authority"}
    names = {variable(path) for path in SET_BY_THE_CHART | read}
    found = helm.problems(INGRESS | variables_in_extra_env(names))
    assert (refused_variables(found), len(found)) == (names, len(names))


def test_a_variable_that_the_chart_knows_nothing_of_is_set(helm: Helm) -> None:
    """A setting that nothing else in the chart depends on may also come from a Secret or from the pod."""
    names = ["BLNK_GATEWAY_TRACING__ENDPOINT", "REDIS_PASSWORD"]
    assert helm.problems(INGRESS | variables_in_extra_env(names)) == []


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
    [problem] = helm.problems(BUNDLED | variables_in_extra_env([name]))
    assert problem.startswith(f"extraEnv[0] is {name}, which cannot be set here: {advice}")
