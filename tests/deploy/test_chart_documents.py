"""The commands and templates in the documents of the chart work as they are written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.containers import checked, environment, secret_references
from tests.deploy.helm import Helm, container_of, only
from tests.deploy.synced import CHART
from tests.deploy.values import BUNDLED, MATRIX, SIDECAR
from tests.running import ROOT

pytestmark = pytest.mark.helm

CHART_OF_CORE = """
apiVersion: v2
name: core
version: 1.0.0
dependencies: [{name: blnk-gateway, version: 0.x}]
"""
POD_OF_CORE = """
apiVersion: v1
kind: Pod
metadata: {name: core, namespace: {{ .Release.Namespace }}}
"""


@pytest.mark.parametrize("folder", [ROOT / "deploy", CHART], ids=["deploy", "chart"])
def test_the_command_of_the_documents_installs_a_gateway(helm: Helm, folder: Path) -> None:
    """It renders as it stands, and the Secret that it needs has the keys of the command before it."""
    text = re.sub(r" \\\n\s*", " ", (folder / "README.md").read_text())
    [install] = re.findall(r"^helm (install .*)$", text, re.MULTILINE)
    [secret] = re.findall(r"^kubectl create secret generic (.*)$", text, re.MULTILINE)
    needed = secret_references(helm.install(shlex.split(install), ROOT / "deploy"))
    name, *literals = shlex.split(secret)
    keys = {literal.removeprefix("--from-literal=").partition("=")[0] for literal in literals}
    assert needed == {(name, key) for key in keys}


def test_the_values_of_tls_in_the_readme_work(helm: Helm) -> None:
    """Clients and Prometheus find the ports that the text names over TLS."""
    [shown] = re.findall(r"^```yaml\n(.*?)^```", (CHART / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    manifests = helm.render(yaml.safe_load(shown))
    [port] = only(manifests, "Service")["spec"]["ports"]
    [endpoint] = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    core = environment(container_of(manifests, "Deployment"))["BLNK_GATEWAY_UPSTREAM__CA_FILE"]
    assert (port["appProtocol"], endpoint["scheme"]) == ("https", "https")
    assert core.endswith("/core-ca/ca.crt")


@pytest.fixture
def chart_of_core(tmp_path: Path) -> Path:
    """A chart of Core that includes the sidecar as the README shows it."""
    [shown] = re.findall(
        r"^```gotmpl\n(.*?)^```", (CHART / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    folder = tmp_path / "core"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(CHART_OF_CORE)
    (folder / "templates" / "core.yaml").write_text(POD_OF_CORE + shown)
    shutil.copytree(CHART, folder / "charts" / "blnk-gateway")
    return folder


def test_the_chart_of_core_includes_the_sidecar(helm: Helm, chart_of_core: Path, tmp_path: Path) -> None:
    """The container has what the ingress form has; Core stays up while the sidecar drains."""
    manifests = helm.render({"blnk-gateway": SIDECAR}, chart_of_core)
    manifest = only(manifests, "Pod", "core")
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    pod = manifest["spec"]
    core, sidecar = pod["containers"]
    assert core["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "30"]}}}
    assert pod["terminationGracePeriodSeconds"] == 40
    ingress = container_of(helm.render(BUNDLED), "Deployment")
    assert {name for name in sidecar if sidecar[name] != ingress[name]} == {"env"}
    assert environment(sidecar)["BLNK_GATEWAY_UPSTREAM__URL"] == "http://127.0.0.1:5100"
    assert checked(manifests, sidecar, tmp_path).exit_code == 0
    assert only(manifests, "Service")["spec"]["selector"] == {"app": "core"}


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
    assert ("terminationGracePeriodSeconds: 40" in text) == ("form" in MATRIX[name])
    assert ("https://" in text) == ("tls" in MATRIX[name])
    assert ("WARNING" in text) == (name == "trial")
