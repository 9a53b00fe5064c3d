"""Renders the chart with helm, for its tests."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.synced import CHART

RELEASE = "gw"
NAMESPACE = "ledger"

Manifest = dict[str, Any]
Values = Mapping[str, Any]


class HelmRefusedError(Exception):
    """helm refused the chart or its values; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Helm:
    """The commands of one helm program."""

    program: str

    def lint(self, values: Values) -> str:
        """Return what `helm lint --strict` prints. Raises HelmRefusedError."""
        return self._run(["lint", "--strict", str(CHART)], values)

    def render(self, values: Values, chart: Path = CHART) -> list[Manifest]:
        """Return the objects of a release. Raises HelmRefusedError."""
        text = self._template(values, chart)
        return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest is not None]

    def sources(self, values: Values) -> set[str]:
        """Return the templates that make an object of these values, by their paths in the chart."""
        return set(re.findall(r"^# Source: blnk-gateway/(\S+)$", self._template(values, CHART), re.MULTILINE))

    def _template(self, values: Values, chart: Path) -> str:
        return self._run(["template", RELEASE, str(chart), "--namespace", NAMESPACE], values)

    def _run(self, command: Sequence[str], values: Values) -> str:
        return _printed((self.program, *command, "--values", "-"), json.dumps(values, sort_keys=True))


@cache
def _printed(command: tuple[str, ...], values: str) -> str:
    """Return what a command prints; the same command is run once. Raises HelmRefusedError."""
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmRefusedError(done.stderr + done.stdout)
    return done.stdout


def only(manifests: Sequence[Manifest], kind: str, name: str = "gw-blnk-gateway") -> Manifest:
    """Return the one object of this kind and name."""
    [found] = [
        manifest for manifest in manifests if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return found


def named(manifests: Sequence[Manifest]) -> list[str]:
    """Return the kind and name of each object, as `Service/gw`, sorted."""
    return sorted(f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests)
