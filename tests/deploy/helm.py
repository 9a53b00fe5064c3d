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
        return _objects(self._template(values, chart))

    def problems(self, values: Values) -> list[str]:
        """Return what helm prints of each problem of the values; nothing if it renders them.

        Raises HelmRefusedError if helm names no problem: a template does not work.
        """
        try:
            self.render(values)
        except HelmRefusedError as refused:
            lines = [line.strip() for line in str(refused).splitlines()]
            if found := [line.removeprefix("- ") for line in lines if line.startswith("- ")]:
                return found
            raise
        return []

    def install(self, command: Sequence[str], folder: Path) -> list[Manifest]:
        """Return the objects that `helm install ...` would make, as a command of a document in a folder."""
        assert command[0] == "install"
        done = subprocess.run(
            [self.program, "template", *command[1:], "--namespace", NAMESPACE],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HelmRefusedError(done.stderr)
        return _objects(done.stdout)

    def sources(self, values: Values) -> set[str]:
        """Return the templates that make an object of these values, by their paths in the chart."""
        return set(re.findall(r"^# Source: blnk-gateway/(\S+)$", self._template(values, CHART), re.MULTILINE))

    def _template(self, values: Values, chart: Path) -> str:
        return self._run(["template", RELEASE, str(chart), "--namespace", NAMESPACE], values)

    def _run(self, command: Sequence[str], values: Values) -> str:
        return _printed((self.program, *command, "--values", "-"), json.dumps(values, sort_keys=True))


def _objects(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest is not None]


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


def container_of(manifests: Sequence[Manifest], kind: str, name: str = "gw-blnk-gateway") -> Manifest:
    """Return the one container of a Deployment or StatefulSet."""
    [container] = only(manifests, kind, name)["spec"]["template"]["spec"]["containers"]
    return dict(container)
