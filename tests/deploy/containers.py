"""The containers of rendered objects, as Kubernetes would start them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.deploy.helm import Manifest
from tests.running import MASTER_KEY

Spec = Mapping[str, Any]

SECRET = {
    "master-key": MASTER_KEY,
    "redis-url": "redis://blnk-gateway:of-the-secret@redis.example:6379/0",
    "redis-password": "OfTheSecret",
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
