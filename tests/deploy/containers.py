"""The containers of rendered objects, as Kubernetes would start them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.deploy.helm import Manifest
from tests.running import MASTER_KEY

Spec = Mapping[str, Any]

SECRET = {
    "master-key": MASTER_KEY,
    "redis-url": "redis://blnk-gateway:of-the-secret@redis.example:6379/0",
    "redis-password": "OfTheSecret",
    "audit-redis-url": "redis://blnk-audit-shipper:of-the-secret@redis.example:6379/0",
    "admin-token": "of-the-secret-of-16",
    "core-database": "postgres://gateway:of-the-secret@db.example/blnk?sslmode=verify-full",
}
"""The keys of the Secret that the values name by default."""


def pods(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Spec]]:
    """Yield the kind and the pod of each object that starts one."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        pod = spec if manifest["kind"] == "Pod" else spec.get("template", {}).get("spec")
        if pod:
            yield manifest["kind"], pod


def environment(container: Spec) -> dict[str, str]:
    """Return the variables of a container; `$(NAME)` is a variable before it."""
    found: dict[str, str] = {}
    for one in container["env"]:
        if "valueFrom" in one:
            found[one["name"]] = SECRET[one["valueFrom"]["secretKeyRef"]["key"]]
        else:
            found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], one["value"])
    return found


def secret_references(manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    """Return the name and the key of each Secret that a pod needs for a variable or a volume."""
    found = set()
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            variables = [one["valueFrom"] for one in container.get("env", []) if "valueFrom" in one]
            found |= {(one["secretKeyRef"]["name"], one["secretKeyRef"]["key"]) for one in variables}
        for volume in pod.get("volumes", []):
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            secrets = [source["secret"] for source in sources if "secret" in source]
            found |= {
                (secret.get("name") or secret["secretName"], item["key"])
                for secret in secrets
                if not secret.get("optional")
                for item in secret["items"]
            }
    return found


def checked(manifests: Iterable[Manifest], container: Spec, folder: Path) -> Result:
    """Run `check --strict` on the file of the ConfigMap, with the variables of the container."""
    [text] = [one["data"]["gateway.yaml"] for one in manifests if one["kind"] == "ConfigMap"]
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(cli, ["check", "--strict", "--config", str(file)], env=environment(container))
