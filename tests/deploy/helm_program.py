"""The helm for the tests of the chart: `python3 -m tests.deploy.helm_program` builds it if none is installed.

Rules kept here:
- Standard library only: the test command calls this before anything is installed.
- It is built from its Go module, once for each user: Debian has no package of helm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cache import cache_folder

VERSION = "v3.19.5"
# The version of Kubernetes that helm assumes without a cluster; its own build sets it, too.
_KUBERNETES = {"Major": "1", "Minor": "34"}
COMMAND = "python3 -m tests.deploy.helm_program"


def find() -> str | None:
    """Return the path of helm, or None."""
    built = cache_folder(f"helm-{VERSION}") / "helm"
    return shutil.which("helm") or (str(built) if built.exists() else None)


def missing() -> str | None:
    """Return what the tests lack, and what installs it, in one line; None if they can run."""
    return None if find() else f"needs helm; with go 1.24 or newer, this builds it: {COMMAND}"


def install() -> None:
    """Build helm if it is missing. Raises CalledProcessError or OSError."""
    if find():
        return
    folder = cache_folder(f"helm-{VERSION}")
    package = "helm.sh/helm/v3"
    names = [f"-X {package}/pkg/chartutil.k8sVersion{part}={number}" for part, number in _KUBERNETES.items()]
    subprocess.run(
        ["go", "install", "-ldflags", " ".join(["-s -w", *names]), f"{package}/cmd/helm@{VERSION}"],
        check=True,
        cwd=Path.home(),
        env={**os.environ, "GOBIN": str(folder)},
    )


if __name__ == "__main__":
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"could not build helm: {failure}")
