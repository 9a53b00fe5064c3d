"""Builds images with buildah, which needs no daemon, in a folder of their own.

Rules kept here:
- No image is pulled. The base image is made from Debian's packages, under the name that the Dockerfile uses.
- pip in the build uses the settings and the certificates of this machine.
- Nothing is left behind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import ROOT

BASE = "docker.io/library/python:3.11-slim"
# What the base image has beside a minimal Debian: Python, its headers, and the certificates of authorities.
_PACKAGES = "python3,python3-venv,python3-dev,ca-certificates"
_SUITE, _MIRROR = "bookworm", "http://deb.debian.org/debian"  # it has Python 3.11
_SHARED = ("/etc/pip.conf", "/etc/ssl/certs")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built: its configuration, and the root of its file system."""

    config: dict[str, Any]
    root: Path


class Builder:
    """Builds images in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make_base(self) -> None:
        """Make the base image. Raises subprocess.CalledProcessError."""
        root = self._folder / "base"
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root), _MIRROR)
        (root / "usr/bin/python").symlink_to("python3")
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(root), "/")
        self._buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self, dockerfile: str, tag: str) -> Image:
        """Build a Dockerfile of the checkout. Raises subprocess.CalledProcessError."""
        shared = [f"--volume={path}:{path}:ro" for path in _SHARED if Path(path).exists()]
        ignored = f"--ignorefile={ROOT / dockerfile}.dockerignore"
        options = ("--isolation=chroot", "--pull-never", "--format=docker", "--network=host", ignored)
        self._buildah("build", *options, *shared, f"--file={ROOT / dockerfile}", f"--tag={tag}", str(ROOT))
        inspected = json.loads(self._buildah("inspect", "--type=image", tag))
        container = self._buildah("from", "--pull-never", tag)
        return Image(inspected["Docker"]["config"], Path(self._buildah("mount", container)))

    def close(self) -> None:
        """Remove everything: 2 GB."""
        self._buildah("rm", "--all")
        shutil.rmtree(self._folder)

    def _buildah(self, command: str, *arguments: str) -> str:
        store = (f"--root={self._folder / 'store'}", f"--runroot={self._folder / 'run'}")
        return _run("buildah", *store, "--storage-driver=vfs", command, *arguments).strip()


def _run(*command: str) -> str:
    """Return what a command prints; what fails is shown with the end of its output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout
