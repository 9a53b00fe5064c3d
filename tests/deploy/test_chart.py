"""The chart is current, and Kubernetes accepts each of its objects."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.helm import NAMESPACE, Helm, only
from tests.deploy.synced import CHART, COMMAND, expected
from tests.deploy.values import INGRESS, MATRIX
from tests.running import ROOT

OLDEST, NEWEST = "1.25", "1.37"  # the versions of Kubernetes of which there are schemas
CUSTOM = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")


def test_the_chart_has_the_version_of_the_gateway() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    # Helm wants the form of SemVer.
    semantic = version.replace(".dev", "-dev")
    assert (chart["version"], chart["appVersion"]) == (semantic, semantic)
    assert f"--tag REGISTRY/blnk-gateway:{semantic} ." in (CHART / "README.md").read_text()


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


def test_every_named_template_is_included() -> None:
    """No test renders a template that nothing includes; those of a sidecar are for the chart of Core."""
    files = [path for path in (CHART / "templates").rglob("*") if path.is_file()]
    text = "\n".join(path.read_text() for path in (*files, CHART / "README.md"))
    assert set(re.findall(r'define "(\S+)"', text)) == set(re.findall(r'include "(\S+)"', text))


def test_the_notes_are_those_of_the_template_that_tests_render() -> None:
    """`helm template` leaves NOTES.txt out."""
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert notes.strip() == '{{ include "blnk-gateway.notes" . }}'


def test_every_file_of_the_chart_has_a_test() -> None:
    """The others are rendered, or compared with what they follow."""
    files = {path.relative_to(CHART).as_posix() for path in CHART.rglob("*") if path.is_file()}
    others = {path for path in files if not path.startswith("templates/")} - set(expected())
    assert others == {"Chart.yaml", "README.md", "values.yaml"}
    assert {Path(path).suffix for path in files if path.startswith("templates/")} == {".tpl", ".txt", ".yaml"}


@pytest.mark.helm
def test_every_template_is_rendered_by_some_values(helm: Helm) -> None:
    """So every file of the chart is covered by the tests below."""
    templates = {path.relative_to(CHART).as_posix() for path in (CHART / "templates").rglob("*.yaml")}
    assert {template for values in MATRIX.values() for template in helm.sources(values)} == templates


@pytest.mark.helm
@pytest.mark.parametrize("name", MATRIX)
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
