"""Make the tests' virtual environment and try the image in it: `python3 -m tests.image`."""

from __future__ import annotations

import os
import shutil
import sys

from tests.tool import refuse, run_tool

PROGRAMS = ("buildah", "debootstrap")  # each is a Debian package of the same name


def main() -> int:
    if sys.platform != "linux" or os.geteuid() != 0:
        return refuse("image", "needs Linux and root, to make a base image and to build without a daemon")
    return run_tool("image", [program for program in PROGRAMS if shutil.which(program) is None])


if __name__ == "__main__":
    sys.exit(main())
