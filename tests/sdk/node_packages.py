"""The npm packages that the SDK tests use: `python3 -m tests.sdk.node_packages` installs them.

Rules kept here:
- Standard library only: the test command calls this before anything is installed.
- They are installed in the user's cache, not in the tree, exactly as `package-lock.json` pins them.
- The install scripts of packages are not run.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cache import cache_folder

HERE = Path(__file__).resolve().parent / "node"
FILES = ("package.json", "package-lock.json")
COMMAND = "python3 -m tests.sdk.node_packages"


def directory() -> Path:
    """Return the folder for the packages that the lock file pins now."""
    pinned = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()
    return cache_folder(f"node-{pinned[:16]}")


def missing() -> str | None:
    """Return what the SDK tests lack, and what installs it, in one line; None if they can run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "needs node 18 or newer, and npm: sudo apt-get install --yes nodejs npm"
    if not (directory() / "installed").exists():
        return f"needs the npm packages of tests/sdk/node: {COMMAND}"
    return None


def install() -> None:
    """Install the packages if they are missing. Raises CalledProcessError."""
    target = directory()
    if (target / "installed").exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, target)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        check=True,
        cwd=target,
    )
    (target / "installed").touch()


if __name__ == "__main__":
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"could not install the npm packages: {failure}")
